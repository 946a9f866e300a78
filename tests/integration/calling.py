"""What the tests of calls that are not chat share: one call of each kind, scripted or over an adapter of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.actors import default_host
from allm_actors.engine.capabilities import CAPABILITIES

QUICK = {"base_delay": 0.0, "jitter": 0.0}
PICTURE = allm.Image.from_bytes(b"\x89PNG", "image/png")
CLIP = allm.Audio.from_bytes(b"hello world", "audio/mpeg")
QUESTIONS = {"team": allm.ClassificationQuestion.choice("Which team?", ["billing", "support"])}
WORKERS = {"CallActor", "StreamCallActor", "CallWorker", "AsyncCallWorker", "BlockingAdapterActor"}

CALLS: dict[str, Callable[..., Any]] = {
    "image": lambda api, engine, **options: api.generate_image(engine, "a cat", **options),
    "embed": lambda api, engine, **options: api.embed(engine, ["a cat", "a dog"], **options),
    "moderate": lambda api, engine, **options: api.moderate(engine, "a cat", **options),
    "speech": lambda api, engine, **options: api.synthesize(engine, "a cat", **options),
    "transcribe": lambda api, engine, **options: api.transcribe(engine, CLIP, **options),
    "classify": lambda api, engine, **options: api.classify(engine, "a cat", QUESTIONS, **options),
}
SCRIPTS = {
    "image": "image_script",
    "embed": "embed_script",
    "moderate": "moderation_script",
    "speech": "speech_script",
    "transcribe": "transcription_script",
    "classify": "classification_script",
}
OK = {
    "image": [PICTURE],
    "embed": [[1.0, 0.0], [0.0, 1.0]],
    "moderate": [allm.ModerationResult(flagged=True, categories={"violence": True})],
    "speech": b"clip",
    "transcribe": "hello",
    "classify": {"team": "support"},
}
CLEAN = allm.ModerationResult(flagged=False)
FITTING: dict[str, dict[str, Any]] = {  # what a response to one of CALLS holds at least
    "embed": {"embeddings": [allm.Embedding(vector=[1.0], index=index) for index in range(2)]},
    "moderate": {"results": [CLEAN]},
    "classify": {"answers": {"team": allm.ClassificationAnswer(type="choice", choice="support")}},
}


def workers() -> list[str]:
    host = default_host()
    refs = host.system.processes() if host.running else []
    return [ref.actor_class.__name__ for ref in refs if ref.actor_class.__name__ in WORKERS]


def scripted(name: str, *entries: Any, **options: Any) -> allm.Engine:
    opts = {SCRIPTS[name]: list(entries), **options}
    return allm.Engine(**{CAPABILITIES[name].slot: "fake"}, adapter_opts=opts, retry=QUICK)


def with_adapter(name: str, adapter: Any, **fields: Any) -> allm.Engine:
    return allm.Engine(**{CAPABILITIES[name].slot: adapter}, **{"retry": QUICK, **fields})


@contextlib.contextmanager
def measured() -> Iterator[list[Any]]:
    heard: list[Any] = []
    telemetry.attach("calls", heard.append)
    try:
        yield heard
    finally:
        telemetry.detach("calls")


def made(name: str, work: Callable[[Any, Any], Any], asynchronous: bool = False) -> Any:
    """An adapter whose method is `work`, plain or as a coroutine function."""

    async def awaited(_self: Any, request: Any, call: Any) -> Any:
        return await work(request, call)

    def blocking(_self: Any, request: Any, call: Any) -> Any:
        return work(request, call)

    method = CAPABILITIES[name].method
    return type("Made", (), {"name": "made", method: awaited if asynchronous else blocking})()
