"""Laws for adapters of what is not chat: pictures, embeddings, verdicts, speech, transcripts, answers.

    class TestMyImages(ImageSuite):
        @contextmanager
        def stage(self, scene: CallScene) -> Iterator[Engine]:
            with my_server(scene) as server:
                yield allm.Engine(image_adapter=MyImages(server.url))

Rule of this file: a law is a method with a name that says it. The adapter is looked at as its users look at it, through
the facade. What a provider never does, its `stage` skips with `pytest.skip`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

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
)
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.engine import Engine

__all__ = [
    "CallScene",
    "ClassificationSuite",
    "EmbeddingSuite",
    "ImageSuite",
    "ModerationSuite",
    "SpeechSuite",
    "TranscriptionSuite",
]

REQUEST_ID = "req-of-the-suite"
METADATA = {"mine": {"deep": [1, None]}}
QUESTIONS = {
    "team": ClassificationQuestion.choice("Which team?", ["billing", "support"]),
    "mood": ClassificationQuestion.score("How upset?", ["calm", "angry"]),
    "spam": ClassificationQuestion.yes_no("Is it spam?"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallScene:
    """What the provider does at every call: it answers, or refuses with what becomes `reason`."""

    reason: str | None = None
    retry_after_ms: int | None = None
    streamed: bool = False


class CallSuite:
    """The laws that hold for all of them."""

    name: ClassVar[str]

    def stage(self, scene: CallScene) -> AbstractContextManager[Engine]:
        """An engine whose provider does that, for the time of a `with` block."""
        raise NotImplementedError(f"{type(self).__name__} needs stage(scene), a context manager of an Engine")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """The plainest call."""
        raise NotImplementedError

    def test_an_answer_has_the_right_type_and_the_calls_id(self) -> None:
        """And usage, where there is any, is never None."""
        response = self.answered(request_id=REQUEST_ID)
        assert isinstance(response, CAPABILITIES[self.name].response)
        assert response.request_id == REQUEST_ID
        assert getattr(response, "usage", 0) is not None

    def test_metadata_comes_back_unchanged(self) -> None:
        """The caller's own notes are never sent, changed or lost."""
        returned = self.answered(metadata=METADATA).metadata
        assert {name: returned.get(name) for name in METADATA} == METADATA

    def test_a_request_timeout_is_accepted(self) -> None:
        """And does not hurt a call that is quick."""
        assert self.answered(request_timeout=30.0) is not None

    def test_authentication_failed(self) -> None:
        """A key that is not accepted, HTTP 401."""
        self.fails("authentication_failed")

    def test_rate_limited(self) -> None:
        """Too many calls, HTTP 429; how long to wait is kept."""
        assert self.fails("rate_limited", retry_after_ms=500).retry_after_ms == 500

    def test_invalid_request(self) -> None:
        """A request that the provider does not understand, HTTP 400."""
        self.fails("invalid_request")

    def test_provider_unavailable(self) -> None:
        """A provider in trouble, HTTP 503."""
        self.fails("provider_unavailable")

    def test_timeout(self) -> None:
        """A provider that takes too long."""
        self.fails("timeout")

    def test_network_error(self) -> None:
        """A connection that breaks."""
        self.fails("network_error")

    def test_malformed_response(self) -> None:
        """An answer that makes no sense."""
        self.fails("malformed_response")

    def test_the_id_of_the_call_is_on_the_error(self) -> None:
        """So that a log line finds its call."""
        assert self.fails("provider_unavailable").metadata["request_id"] == REQUEST_ID

    def answered(self, **options: Any) -> Any:
        """The response of a provider that answers."""
        with self.stage(CallScene()) as engine:
            return self.ask(engine, **options)

    def fails(self, reason: str, retry_after_ms: int | None = None) -> AdapterError:
        """The error of a provider that refuses, after a look at it."""
        scene = CallScene(reason=reason, retry_after_ms=retry_after_ms)
        with self.stage(scene) as engine:
            try:
                answer = self.ask(engine.merge(retry=False), request_id=REQUEST_ID)
            except AdapterError as raised:
                error = raised
            else:
                raise AssertionError(f"{scene}: it answered {answer!r}")
        assert type(error) is CAPABILITIES[self.name].error, f"{scene}: it failed with {error!r}"
        assert error.reason == reason, f"{scene}: it failed with {error!r}"
        return error


class ImageSuite(CallSuite):
    """Pictures."""

    name = "image"

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A cat."""
        return facade.generate_image(engine, "a grey cat", **options)

    def test_pictures_are_counted(self) -> None:
        """`usage.images` is how many there are."""
        response = self.answered()
        assert response.usage.images == len(response.images) > 0
        assert all(isinstance(image, Image) for image in response.images)

    def test_an_operation_that_is_not_supported_is_refused(self) -> None:
        """Before anything is sent, and with its name; any other is not."""
        picture = Image.from_bytes(b"", "image/png")
        requests = {
            "generate": ImageRequest(prompt="a cat"),
            "edit": ImageRequest(operation="edit", prompt="a hat", input_images=[picture]),
            "variation": ImageRequest(operation="variation", input_images=[picture]),
        }
        for operation, request in requests.items():
            with self.stage(CallScene()) as engine:
                supported = find_capable(CAPABILITIES["image"], engine.image_adapter).supported_operations()
                refused = None
                try:
                    facade.generate_image(engine, request)
                except AdapterError as error:
                    refused = error
            if operation in supported:
                assert refused is None, f"{operation}: {refused!r}"
            else:
                assert refused is not None, (
                    f"{operation} was carried out, and supported_operations() lacks it"
                )
                assert refused.reason == "unsupported_operation"
                assert refused.metadata["operation"] == operation


class EmbeddingSuite(CallSuite):
    """Vectors."""

    name = "embed"
    texts = ("a grey cat", "a dog", "income tax")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Three texts."""
        return facade.embed(engine, list(self.texts), **options)

    def test_there_is_a_vector_for_each_text_with_its_index(self) -> None:
        """All of one length, which is not zero."""
        response = self.answered()
        assert sorted(each.index for each in response.embeddings) == list(range(len(self.texts)))
        assert {len(vector) for vector in response.vectors()} == {response.dimensions()} != {0}
        assert all(isinstance(value, float) for vector in response.vectors() for value in vector)

    def test_context_length_exceeded(self) -> None:
        """A text that is too long."""
        self.fails("context_length_exceeded")


class ModerationSuite(CallSuite):
    """Verdicts."""

    name = "moderate"

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Two texts."""
        return facade.moderate(engine, ["Hello!", "Goodbye!"], **options)

    def test_there_is_a_verdict_for_each_text_with_its_index(self) -> None:
        """And each is a verdict, not a guess."""
        results = self.answered().results
        assert [result.index for result in results] == [0, 1]
        assert all(
            isinstance(result, ModerationResult) and type(result.flagged) is bool for result in results
        )

    def test_scores_are_probabilities_of_categories(self) -> None:
        """Floats from 0 to 1, of categories that were judged."""
        for result in self.answered().results:
            assert result.category_scores.keys() <= result.categories.keys()
            assert all(
                isinstance(score, float) and 0 <= score <= 1 for score in result.category_scores.values()
            )


class SpeechSuite(CallSuite):
    """Clips, and clips in pieces."""

    name = "speech"

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Good morning."""
        return facade.synthesize(engine, "Good morning.", **options)

    def test_the_clip_has_bytes_and_a_type(self) -> None:
        """`audio/…`, and the format that came."""
        response = self.answered()
        assert response.audio.to_bytes()
        assert response.audio.mime_type.startswith("audio/")

    def test_a_stream_is_a_beginning_pieces_and_an_end(self) -> None:
        """No piece is empty, and nothing follows the end."""
        first, *pieces, last = self.told(CallScene(streamed=True))
        assert isinstance(first, SpeechStarted)
        assert pieces
        assert all(isinstance(piece, AudioDelta) and piece.data for piece in pieces)
        assert isinstance(last, SpeechCompleted)

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        *_, last = told = self.told(CallScene(reason="network_error", streamed=True))
        assert sum(isinstance(event, ErrorEvent) for event in told) == 1
        assert last.error.reason == "network_error"

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.stage(scene) as engine:
            return list(facade.stream_synthesize(engine, "Good morning."))


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
        assert self.answered().text

    def test_a_stream_ends_with_all_that_it_committed(self) -> None:
        """Trimmed, and joined with one space."""
        *events, last = self.told(CallScene(streamed=True))
        committed = [event.text.strip() for event in events if isinstance(event, CommittedTranscript)]
        assert isinstance(last, TranscriptionCompleted)
        assert last.text == " ".join(text for text in committed if text)

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        *_, last = told = self.told(CallScene(reason="network_error", streamed=True))
        assert sum(isinstance(event, ErrorEvent) for event in told) == 1
        assert last.error.reason == "network_error"

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.stage(scene) as engine:
            return list(facade.stream_transcribe(engine, self.clip))


class ClassificationSuite(CallSuite):
    """Answers to typed questions."""

    name = "classify"

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A question of each type."""
        return facade.classify(engine, "I was charged twice!", QUESTIONS, **options)

    def test_each_question_has_an_answer_of_its_type(self) -> None:
        """And of no other."""
        answers = self.answered().answers
        assert {id: answer.type for id, answer in answers.items()} == {
            id: q.type for id, q in QUESTIONS.items()
        }

    def test_answers_are_within_what_was_asked(self) -> None:
        """An option that there is, a place on the scale, a probability."""
        answers = self.answered().answers
        assert answers["team"].value() in QUESTIONS["team"].criteria
        assert 0 <= answers["mood"].value() <= len(QUESTIONS["mood"].criteria) - 1
        assert 0 <= answers["spam"].value() <= 1
