"""Each mistake that is planted in an adapter of what is not chat makes a law fail, in words that say what is wrong."""

import json
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import SkipTest

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.testing.conformance import CallScene, EmbeddingSuite, ImageSuite, SpeechSuite, Stage
from tests.conformance import test_call_suites as suites
from tests.conformance.test_call_suites import SUITES, Spoilt

PICTURE = allm.Image.from_bytes(b"x", "image/png")


class Provider:
    """Makes as many pictures as the scene says, and keeps what it was asked."""

    def __init__(self, scene):
        self.scene, self.sent = scene, []

    def draw(self, **body):
        self.sent.append(json.dumps(body))
        if self.scene.kind == "refuses":
            raise allm.ImageAdapterError(
                self.scene.reason,
                provider="right",
                message="no",
                status=self.scene.status,
                retry_after_ms=self.scene.retry_after_ms,
            )
        return [PICTURE] * self.scene.images


class Right:
    """Keeps every law."""

    name = "right"

    def __init__(self, provider):
        self.provider = provider

    def supported_operations(self):
        return ("generate",)

    def generate(self, request, call):
        if request.operation not in self.supported_operations():
            raise allm.ImageAdapterError(
                "unsupported_operation", provider=self.name, metadata={"operation": request.operation}
            )
        images = self.provider.draw(prompt=request.prompt, n=request.n, size=request.size)
        return allm.ImageResponse(
            images=images, usage=allm.ImageUsage(images=len(images)), metadata=request.metadata
        )


class OnStage:
    adapter = Right

    @contextmanager
    def stage(self, scene):
        provider = Provider(scene)
        yield Stage(engine=allm.Engine(image_adapter=self.adapter(provider)), sent=lambda: provider.sent)


class TestRightImages(OnStage, ImageSuite):
    pass


class GivesOneOfMany(Right):
    """The others are lost."""

    def generate(self, request, call):
        response = super().generate(request, call)
        return msgspec.structs.replace(response, images=response.images[:1], usage=allm.ImageUsage(images=1))


class TriesThreeTimes(Right):
    """By itself, whatever it failed with."""

    def generate(self, request, call):
        for _ in range(2):
            try:
                return super().generate(request, call)
            except allm.ImageAdapterError:
                continue
        return super().generate(request, call)


class CountsNothing(Right):
    """As the guide once had it."""

    def generate(self, request, call):
        return msgspec.structs.replace(super().generate(request, call), usage=allm.ImageUsage())


class RefusesWithoutAName(Right):
    """Which operation was it?"""

    def generate(self, request, call):
        if request.operation != "generate":
            raise allm.ImageAdapterError("unsupported_operation", provider=self.name)
        return super().generate(request, call)


class RefusesTooLate(Right):
    """After it has asked."""

    def generate(self, request, call):
        self.provider.draw(prompt=request.prompt, n=request.n)
        return super().generate(request, call)


class DoesWhatItSaysItCannot(Right):
    """Every operation."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, operation="generate"), call)


class CannotDoWhatItSays(Right):
    """An operation too many is promised."""

    def supported_operations(self):
        return ("generate", "edit")

    def generate(self, request, call):
        if request.operation == "edit":
            raise allm.ImageAdapterError("unsupported_operation", provider=self.name)
        return super().generate(request, call)


class EditsAnotherPicture(Right):
    """That of the caller is not sent."""

    def supported_operations(self):
        return ("generate", "edit")


class DrawsWhatItLikes(Right):
    """The prompt is not sent."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, prompt="a dog"), call)


class DrawsAnySize(Right):
    """The size is not sent."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, size=None), call)


class SendsMetadata(Right):
    """The caller's own notes."""

    def generate(self, request, call):
        asked = msgspec.structs.replace(request, prompt=f"{request.prompt} {request.metadata}")
        return super().generate(asked, call)


class LosesMetadata(Right):
    """The caller's own notes."""

    def generate(self, request, call):
        return msgspec.structs.replace(super().generate(request, call), metadata={})


class RaisesTheWrongError(Right):
    """That of chat."""

    def generate(self, request, call):
        try:
            return super().generate(request, call)
        except allm.ImageAdapterError as error:
            raise allm.AdapterError(error.reason, provider=self.name, message="no") from None


OPERATIONS = "test_an_operation_that_is_not_supported_is_refused"
TABLE = [
    (GivesOneOfMany, "test_as_many_pictures_come_as_were_asked_for", "n=3 was asked for, and 1 came"),
    (TriesThreeTimes, "test_without_retries_it_asks_once", "requests: 3, for a call with retry=False"),
    (TriesThreeTimes, "test_it_never_tries_again_by_itself", "requests: 9"),
    (TriesThreeTimes, "test_a_refused_key_is_not_tried_again", "requests: 3, with a key"),
    (CountsNothing, "test_pictures_are_counted", r"usage=ImageUsage\(images=len\(images\)\)"),
    (RefusesWithoutAName, OPERATIONS, r'metadata=\{"operation": request.operation\}'),
    (RefusesTooLate, OPERATIONS, "refused after requests: 1"),
    (DoesWhatItSaysItCannot, OPERATIONS, r"carried out, and supported_operations\(\) lacks it"),
    (CannotDoWhatItSays, OPERATIONS, "has 'edit', and it was refused"),
    (EditsAnotherPicture, "test_the_pictures_to_work_on_are_sent", "send them, or leave 'edit' out"),
    (DrawsWhatItLikes, "test_what_it_is_asked_about_is_sent", "a grey cat"),
    (DrawsAnySize, "test_the_size_is_sent_or_refused", r"size=\(1536, 2048\) .*nothing of it was sent"),
    (SendsMetadata, "test_what_it_is_asked_about_is_sent", "only comes back"),
    (LosesMetadata, "test_metadata_comes_back_unchanged", "metadata=request.metadata"),
    (RaisesTheWrongError, "test_provider_unavailable", "raise ImageAdapterError"),
]


@pytest.mark.parametrize(
    ("adapter", "law", "says"),
    TABLE,
    ids=[f"{adapter.__name__}-{law.removeprefix('test_')}" for adapter, law, _ in TABLE],
)
def test_a_planted_mistake_fails_its_law_and_is_named(adapter, law, says):
    suite = type("Planted", (OnStage, ImageSuite), {"adapter": adapter})()
    with pytest.raises(AssertionError, match=says):
        getattr(suite, law)()


class Stubborn(Spoilt):
    """Any fake, asked three times before its failure is told."""

    def __init__(self, name):
        super().__init__(name, None)

    def call(self, request, call):
        ask = partial(getattr(self._fake, self._method), request, call)
        for _ in range(2):
            try:
                return ask()
            except allm.AdapterError:
                continue
        return ask()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
@pytest.mark.parametrize(
    "law",
    [
        "test_without_retries_it_asks_once",
        "test_it_never_tries_again_by_itself",
        "test_a_refused_key_is_not_tried_again",
    ],
)
def test_an_adapter_of_any_service_that_tries_again_by_itself_is_seen(suite, law):
    planted = type("Planted", (suite,), {"adapter": Stubborn(suite.name)})()
    with pytest.raises(AssertionError, match="make one request"):
        getattr(planted, law)()


class Deaf(Spoilt):
    """Any fake, which is not told how its caller wants it."""

    def __init__(self, name, wish):
        super().__init__(name, None)
        self._wish = wish

    def call(self, request, call):
        return getattr(self._fake, self._method)(msgspec.structs.replace(request, **{self._wish: None}), call)


@pytest.mark.parametrize(
    ("suite", "wish"),
    [
        (suites.TestFakeImages, "size"),
        (suites.TestFakeEmbeddings, "dimensions"),
        (suites.TestFakeSpeech, "speed"),
        (suites.TestFakeTranscription, "language"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wish_that_is_dropped_is_seen(suite, wish):
    planted = type("Planted", (suite,), {"adapter": Deaf(suite.name, wish)})()
    with pytest.raises(AssertionError, match=f"{wish}=.*nothing of it was sent"):
        getattr(planted, f"test_the_{wish}_{'are' if wish == 'dimensions' else 'is'}_sent_or_refused")()


class AnEngineAlone:
    """A stage of before: an engine, and one picture whatever is asked for."""

    @contextmanager
    def stage(self, scene):
        known = CallScene(reason=scene.reason, retry_after_ms=scene.retry_after_ms)
        yield allm.Engine(image_adapter=Right(Provider(known)))


class TestAnEngineAlone(AnEngineAlone, ImageSuite):
    pass


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ("test_without_retries_it_asks_once", r"give Stage\(requests=…\)"),
        ("test_it_never_tries_again_by_itself", r"give Stage\(requests=…\)"),
        ("test_what_it_is_asked_about_is_sent", r"give Stage\(sent=…\)"),
        ("test_as_many_pictures_come_as_were_asked_for", r"1 came.*never looks at scene\.images"),
    ],
)
def test_what_a_stage_does_not_play_is_skipped_with_what_to_give(law, says):
    suite = type("Suite", (AnEngineAlone, ImageSuite), {})()
    with pytest.raises(SkipTest, match=says):
        getattr(suite, law)()


def test_a_scene_has_the_kind_of_what_happens():
    assert CallScene().kind == "answers"
    assert CallScene(reason="rate_limited").kind == "refuses"
    assert CallScene(reason="rate_limited").status == 429
    assert CallScene(reason="network_error", streamed=True).kind == "breaks"
    assert str(CallScene(reason="timeout")) == "refuses: timeout"


def test_every_capability_has_a_suite():
    assert {suite.name for suite in SUITES} == set(CAPABILITIES)


def test_a_stage_that_makes_vectors_of_its_own_skips_their_law():
    class Suite(EmbeddingSuite):
        @contextmanager
        def stage(self, scene):
            yield allm.Engine(embed_adapter="fake")

    with pytest.raises(SkipTest, match=r"never looks at scene\.vectors"):
        Suite().test_each_text_has_the_vector_that_was_made_of_it()


class OtherWay:
    """An adapter that does what is wished for in another way than most."""

    name = "other way"

    def __init__(self, scene):
        self.scene, self.sent = scene, []

    def answer(self, **sent):
        self.sent.append(json.dumps(sent))


class Shortens(OtherWay):
    """The provider's vectors have one length."""

    def embed(self, request, call):
        self.answer(input=request.input)
        vectors = [list(vector)[: request.dimensions] for vector in self.scene.vectors]
        embeddings = [allm.Embedding(index=at, vector=vector) for at, vector in enumerate(vectors)]
        return allm.EmbeddingResponse(embeddings=embeddings, metadata=request.metadata)


class LooksAtLengths(OtherWay):
    """Vectors that were not asked for are no answer."""

    def embed(self, request, call):
        self.answer(input=request.input, size=request.dimensions)
        raise allm.EmbeddingAdapterError("malformed_response", provider=self.name, message="another length")


class KnowsTwoLengths(OtherWay):
    """Others are not asked for."""

    def embed(self, request, call):
        raise allm.EmbeddingAdapterError(
            "invalid_request", provider=self.name, message="it may be 256 or 512"
        )


class TakesNone(OtherWay):
    """As a plain function would say it."""

    def embed(self, request, call):
        raise TypeError("dimensions: this model has one length")


class SpeaksInPercent(OtherWay):
    """As SSML has it."""

    def synthesize(self, request, call):
        self.answer(ssml=f'<prosody rate="{(request.speed or 1) * 100:g}%">{request.input}</prosody>')
        return allm.SpeechResponse(audio=allm.Audio.from_bytes(b"x", "audio/mpeg"), metadata=request.metadata)


@pytest.mark.parametrize(
    ("adapter", "suite", "law", "keeps"),
    [
        (Shortens, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", nullcontext()),
        (LooksAtLengths, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", nullcontext()),
        (KnowsTwoLengths, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", pytest.raises(SkipTest)),
        (TakesNone, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", pytest.raises(SkipTest)),
        (SpeaksInPercent, SpeechSuite, "test_the_speed_is_sent_or_refused", nullcontext()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_whoever_does_it_another_way_keeps_the_law(adapter, suite, law, keeps):
    class OnStage(suite):
        @contextmanager
        def stage(self, scene):
            held = adapter(scene)
            yield Stage(engine=allm.Engine(**{CAPABILITIES[suite.name].slot: held}), sent=lambda: held.sent)

    with keeps:
        getattr(OnStage(), law)()
