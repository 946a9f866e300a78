"""Laws of each service: pictures, embeddings, verdicts, speech, transcripts, answers to questions.

    class TestMyImages(ImageSuite):
        @contextmanager
        def stage(self, scene: CallScene) -> Iterator[Stage]:
            with my_server(scene) as server:
                yield Stage(
                    engine=allm.Engine(image_adapter=MyImages(server.url)),
                    sent=lambda: [request.body for request in server.requests],
                )

Rule of this file: what holds for all of them is in `calls.py`; here is what an answer of each has to be.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from allm_actors import facade
from allm_actors.data import (
    AdapterError,
    Audio,
    AudioDelta,
    ClassificationQuestion,
    CommittedTranscript,
    ErrorEvent,
    Image,
    ImageRequest,
    ModerationResult,
    SpeechCompleted,
    SpeechStarted,
    TranscriptionCompleted,
    ValidationError,
)
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.engine import Engine

from .calls import VECTORS, CallScene, CallSuite
from .scenes import require, says, skip

__all__ = [
    "ClassificationSuite",
    "EmbeddingSuite",
    "ImageSuite",
    "ModerationSuite",
    "SpeechSuite",
    "TranscriptionSuite",
]

PICTURE = b"a picture of the suite, which is made of letters"
QUESTIONS = {
    "team": ClassificationQuestion.choice("Which team?", ["billing", "support"]),
    "mood": ClassificationQuestion.score("How upset?", ["calm", "angry"]),
    "spam": ClassificationQuestion.yes_no("Is it spam?"),
}


class ImageSuite(CallSuite):
    """Pictures."""

    name = "image"
    words = ("a grey cat",)

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A cat."""
        return facade.generate_image(engine, "a grey cat", **options)

    def test_pictures_are_counted(self) -> None:
        """`usage.images` is how many there are."""
        response = self.answered()
        images, counted = response.images, response.usage.images
        assert images, "a provider that answers makes a picture, and there is none"
        assert all(isinstance(image, Image) for image in images), f"these are no Images: {images}"
        assert counted == len(images), (
            f"pictures: {len(images)}, and usage.images is {counted}; "
            "answer with usage=ImageUsage(images=len(images))"
        )

    def test_as_many_pictures_come_as_were_asked_for(self) -> None:
        """None of what was paid for is lost."""
        scene = CallScene(images=3)
        with self.ready(scene) as stage:
            count = len(self.ask(stage.engine, n=3).images)
        message = f"n=3 was asked for, and {count} came: send request.n, and answer with all that comes"
        require(count == 3, scene, "images", message)

    def test_the_size_is_sent_or_refused(self) -> None:
        """In pixels, or as a shape."""
        self.sends("size", (1536, 2048), "2048", "3:4", "portrait")

    def test_an_operation_that_is_not_supported_is_refused(self) -> None:
        """Before anything is sent, and with its name; any other is not."""
        picture = Image.from_bytes(b"", "image/png")
        requests = {
            "generate": ImageRequest(prompt="a cat"),
            "edit": ImageRequest(operation="edit", prompt="a hat", input_images=[picture]),
            "variation": ImageRequest(operation="variation", input_images=[picture]),
        }
        for operation, request in requests.items():
            self.holds_to_its_operations(operation, request)

    def test_the_pictures_to_work_on_are_sent(self) -> None:
        """An edit that never saw the picture is another picture."""
        picture = Image.from_bytes(PICTURE, "image/png")
        request = ImageRequest(operation="edit", prompt="a hat", input_images=[picture])
        with self.ready(CallScene()) as stage:
            adapter = find_capable(CAPABILITIES["image"], stage.engine.image_adapter)
            if "edit" not in adapter.supported_operations():
                skip("this adapter edits no pictures, as it may")
            facade.generate_image(stage.engine, request)
            sent = stage.all_sent()
        written = (PICTURE.decode(), base64.b64encode(PICTURE).decode())
        assert any(each in sent for each in written), (
            "the bytes of request.input_images are in nothing that was sent, neither as they are nor in base64: "
            "send them, or leave 'edit' out of supported_operations()"
        )
        assert says(sent, "a hat"), "the prompt of an edit was not sent"

    def holds_to_its_operations(self, operation: str, request: ImageRequest) -> None:
        """Look that an operation is carried out, or refused, as `supported_operations()` says."""
        with self.ready(CallScene()) as stage:
            adapter = find_capable(CAPABILITIES["image"], stage.engine.image_adapter)
            refused, count = None, 0
            try:
                facade.generate_image(stage.engine, request)
            except AdapterError as error:
                refused, count = error, stage.asked() if stage.counts else 0
        if operation in adapter.supported_operations():
            assert refused is None, (
                f"supported_operations() has {operation!r}, and it was refused: {refused!r}"
            )
            return
        assert refused is not None, f"{operation} was carried out, and supported_operations() lacks it"
        assert refused.reason == "unsupported_operation", f"{operation}: it failed with {refused!r}"
        assert refused.metadata.get("operation") == operation, (
            f"{operation!r} was refused without its name: raise "
            'ImageAdapterError("unsupported_operation", metadata={"operation": request.operation})'
        )
        assert count == 0, (
            f"{operation!r} was refused after requests: {count}; look at it before anything is sent"
        )


class EmbeddingSuite(CallSuite):
    """Vectors."""

    name = "embed"
    texts = words = ("a grey cat", "a dog", "income tax")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Three texts."""
        return facade.embed(engine, list(self.texts), **options)

    def test_there_is_a_vector_for_each_text_with_its_index(self) -> None:
        """All of one length, which is not zero."""
        response = self.answered()
        places = sorted(each.index for each in response.embeddings)
        assert places == list(range(len(self.texts))), (
            f"{len(self.texts)} texts became embeddings with index {places}: "
            "give each text an Embedding whose index is its place"
        )
        lengths = {len(vector) for vector in response.vectors()}
        assert lengths == {response.dimensions()} != {0}, (
            f"the vectors of one model have the lengths {lengths}"
        )
        values = [value for vector in response.vectors() for value in vector]
        assert all(isinstance(value, float) and math.isfinite(value) for value in values), (
            f"not all of these are floats, or numbers at all: {values[:9]}"
        )

    def test_each_text_has_the_vector_that_was_made_of_it(self) -> None:
        """Not that of another, nor one for all: what is near to what would be wrong, and nobody would see it."""
        scene = CallScene()
        with self.ready(scene) as stage:
            got = self.ask(stage.engine).vectors()
        wanted = [list(vector) for vector in VECTORS]
        held = len(got) == len(wanted) and all(map(_is_near, got, wanted))
        message = (
            f"the provider made {wanted} of the texts, and {[each[:9] for each in got]} came back: "
            "the index of each Embedding is the place of its text"
        )
        require(held, scene, "vectors", message)

    def test_the_dimensions_are_sent_or_refused(self) -> None:
        """Vectors of another length fit into no index; an adapter may shorten them itself."""
        if not self.shortens():
            self.sends("dimensions", 1021, "1021")

    def shortens(self) -> bool:
        """Whether vectors come as short as they are asked for, however long the provider makes them."""
        with self.ready(CallScene()) as stage:
            try:
                response = self.ask(stage.engine, dimensions=1)
            except (AdapterError, ValidationError, TypeError, ValueError):
                return False
        return {len(vector) for vector in response.vectors()} == {1}

    def test_context_length_exceeded(self) -> None:
        """A text that is too long."""
        self.fails("context_length_exceeded")


class ModerationSuite(CallSuite):
    """Verdicts."""

    name = "moderate"
    words = ("Hello!", "Goodbye!")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Two texts."""
        return facade.moderate(engine, ["Hello!", "Goodbye!"], **options)

    def test_there_is_a_verdict_for_each_text_with_its_index(self) -> None:
        """And each is a verdict, not a guess."""
        results = self.answered().results
        assert all(isinstance(result, ModerationResult) for result in results), (
            f"not all are verdicts: {results}"
        )
        places = [result.index for result in results]
        assert places == [0, 1], (
            f"two texts became verdicts with index {places}: give each text a ModerationResult with its place, in order"
        )
        flags = [result.flagged for result in results]
        assert all(type(flag) is bool for flag in flags), f"flagged is True or False, and here it is {flags}"

    def test_scores_are_probabilities_of_categories(self) -> None:
        """Floats from 0 to 1, of categories that were judged."""
        for result in self.answered().results:
            scores = result.category_scores
            unjudged = sorted(scores.keys() - result.categories.keys())
            assert not unjudged, f"category_scores has {unjudged}, which categories lacks"
            assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores.values()), (
                f"a score is a float from 0 to 1: {scores}"
            )


class SpeechSuite(CallSuite):
    """Clips, and clips in pieces."""

    name = "speech"
    words = ("Good morning.",)

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Good morning."""
        return facade.synthesize(engine, "Good morning.", **options)

    def test_the_clip_has_bytes_and_a_type(self) -> None:
        """`audio/…`, and the format that came."""
        audio = self.answered().audio
        assert audio.to_bytes(), "the clip is empty"
        assert audio.mime_type.startswith("audio/"), (
            f"a clip's type is audio/…, and here it is {audio.mime_type!r}"
        )

    def test_the_speed_is_sent_or_refused(self) -> None:
        """As a factor, or in percent."""
        self.sends("speed", 1.0625, "1.0625", "106.25", "6.25")

    def test_a_stream_is_a_beginning_pieces_and_an_end(self) -> None:
        """No piece is empty, and nothing follows the end."""
        told = self.told(CallScene(streamed=True))
        kinds = [type(event).__name__ for event in told]
        assert len(told) > 2, (
            f"a stream is SpeechStarted, AudioDeltas and SpeechCompleted, and this one {kinds}"
        )
        first, *pieces, last = told
        assert isinstance(first, SpeechStarted), (
            f"a stream begins with SpeechStarted, and this one is {kinds}"
        )
        assert isinstance(last, SpeechCompleted), (
            f"a stream ends with SpeechCompleted, and this one is {kinds}"
        )
        for piece in pieces:
            assert isinstance(piece, AudioDelta), f"between its beginning and its end a stream has {piece!r}"
            assert piece.data, "an AudioDelta is empty: leave it out"

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        _ends_with_its_error(self.told(CallScene(reason="network_error", streamed=True)))

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.ready(scene) as stage:
            return list(facade.stream_synthesize(stage.engine, "Good morning."))


class TranscriptionSuite(CallSuite):
    """Transcripts, and transcripts in pieces."""

    name = "transcribe"
    clip = Audio.from_bytes(b"Good morning.", "audio/mpeg")
    """A clip that your provider understands."""

    def ask(self, engine: Engine, **options: Any) -> Any:
        """The clip."""
        return facade.transcribe(engine, self.clip, **options)

    def test_there_is_a_text(self) -> None:
        """Of the clip, which says something."""
        assert self.answered().text, "a clip that says something became an empty text"

    def test_the_language_is_sent_or_refused(self) -> None:
        """A clip that is taken for another language becomes nonsense."""
        self.sends("language", "haw", "haw")

    def test_a_stream_ends_with_all_that_it_committed(self) -> None:
        """Trimmed, and joined with one space."""
        told = self.told(CallScene(streamed=True))
        assert told, "a stream of an answer has no events"
        last = told[-1]
        assert isinstance(last, TranscriptionCompleted), (
            f"a stream ends with TranscriptionCompleted, not {last!r}"
        )
        committed = [event.text.strip() for event in told if isinstance(event, CommittedTranscript)]
        whole = " ".join(text for text in committed if text)
        assert last.text == whole, f"it committed {committed}, and its last event says {last.text!r}"

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        _ends_with_its_error(self.told(CallScene(reason="network_error", streamed=True)))

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.ready(scene) as stage:
            return list(facade.stream_transcribe(stage.engine, self.clip))


class ClassificationSuite(CallSuite):
    """Answers to typed questions."""

    name = "classify"
    words = ("I was charged twice!", "billing", "How upset?", "Is it spam?")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A question of each type."""
        return facade.classify(engine, "I was charged twice!", QUESTIONS, **options)

    def test_each_question_has_an_answer_of_its_type(self) -> None:
        """And of no other."""
        types = {id: answer.type for id, answer in self.answered().answers.items()}
        wanted = {id: asked.type for id, asked in QUESTIONS.items()}
        assert types == wanted, f"the questions are {wanted}, and the answers {types}"

    def test_answers_are_within_what_was_asked(self) -> None:
        """An option that there is, a place on the scale, a probability."""
        answers = self.answered().answers
        lost = sorted(QUESTIONS.keys() - answers.keys())
        assert not lost, f"there are no answers to {lost}"
        team, mood, spam = (answers[name].value() for name in ("team", "mood", "spam"))
        options, top = QUESTIONS["team"].criteria, len(QUESTIONS["mood"].criteria) - 1
        assert team in options, f"a choice among {options} is {team!r}"
        assert 0 <= mood <= top, f"a score from 0 to {top} is {mood!r}"
        assert 0 <= spam <= 1, f"a probability is {spam!r}"


def _is_near(got: list[float], wanted: list[float]) -> bool:
    return len(got) == len(wanted) and all(
        math.isclose(one, other, abs_tol=0.001) for one, other in zip(got, wanted, strict=True)
    )


def _ends_with_its_error(told: list[Any]) -> None:
    kinds = [type(event).__name__ for event in told]
    assert kinds.count(ErrorEvent.__name__) == 1, (
        f"a stream that breaks off has one ErrorEvent, and this one is {kinds}"
    )
    last = told[-1]
    assert isinstance(last, ErrorEvent), f"nothing follows the ErrorEvent, and here it is {kinds}"
    reason = getattr(last.error, "reason", None)
    assert reason == "network_error", f"a connection broke, and the error is {last.error!r}"
