"""The fakes of what is not chat keep the laws that are shipped for others, and the laws can be broken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.fakes import FAKES
from allm_actors.testing import conformance, script
from allm_actors.testing.conformance import CallScene, Stage

STORED = "the key of nobody's call"
SCRIPTS = {name: fake.script for name, fake in FAKES.items()}


class Faked:
    """A stage on which the fake plays."""

    name: str
    adapter: Any = "fake"

    @contextmanager
    def stage(self, scene: CallScene) -> Iterator[Stage]:
        entries = made_by(self.name, scene) * 20
        if scene.reason is not None and not scene.streamed:
            entries = [script.error(scene.reason, retry_after_ms=scene.retry_after_ms)] * 9
        asked: list[Any] = []
        opts = {"record": asked, SCRIPTS[self.name]: entries}
        yield Stage(
            engine=allm.Engine(**{CAPABILITIES[self.name].slot: self.adapter}, adapter_opts=opts),
            sent=lambda: [sent_of(each.request) for each in asked],
            keys=lambda: [key_of(each.call) for each in asked],
        )


def made_by(name: str, scene: CallScene) -> list[Any]:
    """The script that makes what the scene says."""
    failure = [] if scene.reason is None else [script.error(scene.reason)]
    match name:
        case "image":
            return [script.ok([allm.Image.from_bytes(each, "image/png") for each in scene.pictures])]
        case "embed":
            return [script.ok([list(vector) for vector in scene.vectors])]
        case "moderate":
            return [script.ok(list(scene.verdicts))]
        case "speech":
            return [script.ok([scene.clip[:9], *(failure or [scene.clip[9:]])])]
        case "transcribe":
            first, _, rest = scene.transcript.partition(" ")
            return [script.ok([first, *(failure or [rest])])]
        case _:
            return [script.ok(dict(scene.answers))]


def key_of(call: Any) -> str:
    """The key that a provider would get."""
    return STORED if call.api_key is None else keys.fetch("fake", [], call.api_key).reveal()


def sent_of(request: Any) -> Any:
    """All of a request that a provider would get; bytes are in Base64."""
    fields = msgspec.to_builtins(request)
    return {name: value for name, value in fields.items() if name != "metadata"}


class TestFakeImages(Faked, conformance.ImageSuite):
    pass


class TestFakeEmbeddings(Faked, conformance.EmbeddingSuite):
    pass


class TestFakeModeration(Faked, conformance.ModerationSuite):
    pass


class TestFakeSpeech(Faked, conformance.SpeechSuite):
    pass


class TestFakeTranscription(Faked, conformance.TranscriptionSuite):
    pass


class TestFakeClassification(Faked, conformance.ClassificationSuite):
    pass


SUITES = [
    TestFakeImages,
    TestFakeEmbeddings,
    TestFakeModeration,
    TestFakeSpeech,
    TestFakeTranscription,
    TestFakeClassification,
]


class Spoilt:
    """A fake whose responses were changed on the way."""

    name = "spoilt"

    def __init__(self, name: str, spoil: Any) -> None:
        self._fake: Any = FAKES[name]()
        self._spoil = spoil
        setattr(self, CAPABILITIES[name].method, self.call)
        self._method = CAPABILITIES[name].method
        for stream in ("stream_synthesize", "stream_transcribe"):
            if hasattr(self._fake, stream):
                setattr(
                    self,
                    stream,
                    partial(self.told, stream),
                )

    def told(self, stream: str, request: Any, call: Any) -> Any:
        return self._spoil(list(getattr(self._fake, stream)(request, call)))

    def call(self, request: Any, call: Any) -> Any:
        return self._spoil(getattr(self._fake, self._method)(request, call))

    def supported_operations(self) -> tuple[str, ...]:
        return ("generate",)


def no_numbers(response: Any) -> Any:
    return _placed(response, lambda at: allm.Embedding(vector=[math.nan, 1.0], index=at))


def one_for_all(response: Any) -> Any:
    return _placed(response, lambda at: allm.Embedding(vector=response.vectors()[0], index=at))


def backwards(response: Any) -> Any:
    return _placed(response, lambda at: allm.Embedding(vector=response.vectors()[2 - at], index=at))


def _placed(response: Any, made: Any) -> Any:
    return msgspec.structs.replace(response, embeddings=[made(at) for at in range(3)])


def lost(**fields: Any) -> Any:
    return lambda response: msgspec.structs.replace(response, **fields)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
@pytest.mark.parametrize(
    ("law", "spoil"),
    [
        ("test_metadata_comes_back_unchanged", lost(metadata={})),
        ("test_an_answer_has_the_right_type_and_the_calls_id", lost(request_id="another")),
    ],
    ids=["metadata", "id"],
)
def test_the_common_laws_can_be_broken(suite: Any, law: str, spoil: Any) -> None:
    broken = type("Broken", (suite,), {"adapter": Spoilt(suite.name, spoil)})()
    with pytest.raises(AssertionError):
        getattr(broken, law)()


@pytest.mark.parametrize(
    ("suite", "law", "spoil"),
    [
        (TestFakeImages, "test_pictures_are_counted", lost(usage=allm.ImageUsage())),
        (TestFakeImages, "test_an_operation_that_is_not_supported_is_refused", lost()),
        (
            TestFakeEmbeddings,
            "test_there_is_a_vector_for_each_text_with_its_index",
            lost(embeddings=[allm.Embedding(vector=[1.0])] * 3),
        ),
        (TestFakeEmbeddings, "test_there_is_a_vector_for_each_text_with_its_index", no_numbers),
        (TestFakeEmbeddings, "test_each_text_has_the_vector_that_was_made_of_it", one_for_all),
        (TestFakeEmbeddings, "test_each_text_has_the_vector_that_was_made_of_it", backwards),
        (TestFakeModeration, "test_there_is_a_verdict_for_each_text_with_its_index", lost(results=[])),
        (
            TestFakeModeration,
            "test_scores_are_probabilities_of_categories",
            lost(results=[allm.ModerationResult(flagged=True, category_scores={"x": 2.0})] * 2),
        ),
        (
            TestFakeSpeech,
            "test_the_clip_has_bytes_and_a_type",
            lost(audio=allm.Audio.from_bytes(b"", "audio/x")),
        ),
        (TestFakeSpeech, "test_a_stream_is_a_beginning_pieces_and_an_end", lambda told: iter(told[:-1])),
        (TestFakeTranscription, "test_there_is_a_text", lost(text="")),
        (
            TestFakeTranscription,
            "test_a_stream_ends_with_all_that_it_committed",
            lambda told: iter((told[0], told[-1])),
        ),
        (TestFakeClassification, "test_each_question_has_an_answer_of_its_type", lost(answers={})),
        (
            TestFakeClassification,
            "test_answers_are_within_what_was_asked",
            lost(answers={"team": allm.ClassificationAnswer(type="choice", choice="sales")}),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_law_can_be_broken(suite: Any, law: str, spoil: Any) -> None:
    broken = type("Broken", (suite,), {"adapter": Spoilt(suite.name, spoil)})()
    with pytest.raises((AssertionError, allm.AdapterError)) as seen:
        getattr(broken, law)()
    # What would mislead whoever asked is refused before the suite looks at it.
    assert isinstance(seen.value, AssertionError) or seen.value.reason == "malformed_response"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_a_wrong_reason_is_seen(suite: Any) -> None:
    class Broken(suite):  # type: ignore[misc]
        @contextmanager
        def stage(self, scene: CallScene) -> Iterator[Stage]:
            with super().stage(CallScene(reason="unknown")) as stage:
                yield stage

    with pytest.raises(AssertionError, match="it failed with"):
        Broken().test_timeout()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_a_provider_that_answers_all_the_same_is_seen(suite: Any) -> None:
    class Broken(suite):  # type: ignore[misc]
        @contextmanager
        def stage(self, scene: CallScene) -> Iterator[Stage]:
            with super().stage(CallScene()) as stage:
                yield stage

    with pytest.raises(AssertionError, match="it answered"):
        Broken().test_timeout()
