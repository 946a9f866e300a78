"""What the library brings passes the suites that it gives to others; and a suite fails what breaks its laws."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

import allm_actors as allm
from allm_actors.data import AdapterError, MessageCompleted, MessageStarted, StreamError, TextDelta
from allm_actors.engine.adapter import Call
from allm_actors.engine.fake import Counter
from allm_actors.testing import script
from allm_actors.testing.conformance import (
    AdapterSuite,
    EncoderSuite,
    ExecutorSuite,
    Scene,
    Stage,
    StreamSuite,
)
from allm_actors.testing.exchanges import FAULTS, chat_completions, refusal, sse
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.speaking import cut

pytestmark = pytest.mark.filterwarnings("error")


# --- the scripted provider ----------------------------------------------------------------------------------------


class Fake:
    """The fake, playing a scene."""

    @contextmanager
    def stage(self, scene: Scene) -> Iterator[Stage]:
        """See `AdapterSuite.stage`."""
        cleanups, asked = Counter(), []
        fields = {"retry_after_ms": scene.retry_after_ms, "request_id": scene.request_id}
        given = {name: value for name, value in fields.items() if value is not None}
        options = {
            "scripts": [self._script(scene, given)] * 8,
            "cleanup_observer": cleanups,
            "record": asked,
        }
        engine = allm.Engine(adapter="fake", adapter_opts=options)
        yield Stage(
            engine=engine,
            cleanups=lambda: cleanups.value,
            sent=lambda: [allm.to_json(each.request) for each in asked],
        )

    def _script(self, scene: Scene, fields: dict[str, Any]) -> list[Any]:
        said = [script.text(piece) for piece in scene.text]
        match scene.kind:
            case "answers":
                raw = scene.raw_arguments
                calls = [
                    script.tool_call(call.name, call.arguments, id=call.id, raw_arguments=raw)
                    for call in scene.tool_calls
                ]
                used = [] if scene.usage is None else [("usage", scene.usage)]
                return [*said, *calls, *used, script.finish(scene.finish_reason)]
            case "refuses":
                return [script.preflight_error(scene.reason, **fields)]
            case "breaks":
                made = (
                    ("stream_error", "cancelled")
                    if scene.reason == "cancelled"
                    else script.error(scene.reason, **fields)
                )
                return [said[0], made]
            case "stalls":
                return [said[0], script.delay(3600), script.finish("stop")]


class TestFakeAdapter(Fake, AdapterSuite):
    def test_it_asks_as_often_as_the_policy_says(self) -> None:
        """A script says what each call does, and not what becomes of it when it is asked again."""
        pytest.skip("the fake never tries again: there is nobody to ask")


class TestFakeStream(Fake, StreamSuite):
    def test_nothing_happens_before_the_first_pull(self) -> None:
        """There is nobody to ask: what a script would do in between is not begun."""
        observed: list[Any] = []
        with self.stage(Scene(kind="answers")) as stage:
            stream = allm.stream_generate(stage.engine, [allm.user("?")], on_event=observed.append)
            assert observed == []
            next(stream)
            assert observed
            stream.close()


# --- a provider over a real socket --------------------------------------------------------------------------------


_CODES = {
    "authentication_failed": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "context_length_exceeded": "context_length_exceeded",
    "content_filter": "content_policy_violation",
}


class Loopback:
    """The OpenAI-compatible adapter against a server on loopback."""

    @contextmanager
    def stage(self, scene: Scene) -> Iterator[Stage]:
        """See `AdapterSuite.stage`."""
        with LoopbackServer(lambda _request: self._reply(scene)) as server:
            yield Stage(
                engine=allm.Engine(
                    adapter="openai-compatible:any",
                    adapter_opts={"base_url": f"{server.url}/v1"},
                    retry=False,
                ),
                requests=lambda: len(server.requests),
                cleanups=lambda: server.abandoned,
                connections=lambda: server.connections,
                sent=lambda: [request.body for request in server.requests],
                keys=lambda: [request.headers.get("authorization", "") for request in server.requests],
            )

    def _reply(self, scene: Scene) -> Reply:
        used = scene.usage and {
            "prompt_tokens": scene.usage.input_tokens,
            "completion_tokens": scene.usage.output_tokens,
        }
        calls = [
            msgspec.structs.replace(call, raw_arguments=scene.raw_arguments) for call in scene.tool_calls
        ]
        chunks = chat_completions(text=scene.text, tool_calls=calls, finish=scene.finish_reason, usage=used)
        if scene.kind == "answers":
            return Reply(chunks=cut(chunks))
        if scene.kind == "stalls":
            return Reply(chunks=cut(chunks[:2]), then="stall")
        return self._broken(scene, chunks) if scene.kind == "breaks" else self._refusal(scene)

    def _broken(self, scene: Scene, chunks: tuple[bytes, ...]) -> Reply:
        match scene.reason:
            case "cancelled":
                pytest.skip("a server that gives up in the middle is a network error")
            case "network_error":
                return Reply(chunks=cut(chunks[:2]), then="end" if scene.unfinished else "reset")
            case "malformed_response":
                return Reply(chunks=cut((*chunks[:2], b'data: {"oops\n\n', *chunks[2:])))
        error = {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
        return Reply(chunks=cut((*chunks[:2], *sse({"error": error}))))

    def _refusal(self, scene: Scene) -> Reply:
        match scene.reason:
            case "timeout":
                return Reply(first_byte_delay=math.inf)
            case "network_error":
                return Reply(chunks=(), then="reset")
            case "malformed_response":
                return FAULTS["HTML with status 200"]
            case "unknown":
                return Reply(status=418)
        assert scene.status is not None
        if scene.gateway:
            return Reply(
                status=scene.status, headers={"content-type": "text/html"}, body=b"<html>Bad gateway"
            )
        headers = {} if scene.retry_after_ms is None else {"retry-after-ms": str(scene.retry_after_ms)}
        return refusal(scene.status, "No.", code=_CODES.get(scene.reason or ""), headers=headers)


class TestOpenAICompatibleAdapter(Loopback, AdapterSuite):
    tells_strict = True

    def test_unsupported_feature(self) -> None:
        """Needs a request that this provider cannot serve; there is none in a scene."""
        pytest.skip("chat completions servers refuse what they cannot do as invalid_request")


class TestOpenAICompatibleStream(Loopback, StreamSuite):
    def test_a_cancelled_stream_is_an_event(self) -> None:
        """No server says that."""
        pytest.skip("a server that gives up in the middle is a network error")

    def test_a_failure_in_the_middle_is_an_event(self) -> None:
        """An event of the stream has no header to say how long to wait."""
        assert self.breaks("rate_limited").reason == "rate_limited"


# --- tools --------------------------------------------------------------------------------------------------------


class TestDefaultExecutor(ExecutorSuite):
    def executor(self) -> None:
        """The library's own."""


class TestOwnExecutor(ExecutorSuite):
    def executor(self) -> Any:
        """The plainest that there can be."""
        return PlainExecutor()


class PlainExecutor:
    def execute(self, tool: allm.Tool, arguments: Any, context: Any) -> Any:
        return tool.run(arguments, context)


class AsyncExecutor:
    async def execute(self, tool: allm.Tool, arguments: Any, context: Any) -> Any:
        answer = await asyncio.to_thread(tool.run, arguments, context)
        return await answer if inspect.isawaitable(answer) else answer


class TestAsynchronousExecutor(ExecutorSuite):
    def executor(self) -> Any:
        """It waits for what coroutine functions give."""
        return AsyncExecutor()


class TestDefaultEncoder(EncoderSuite):
    def encoder(self) -> None:
        """The library's own."""


# --- a suite that fails nothing would prove nothing ---------------------------------------------------------------


class Liar:
    """An adapter that breaks laws: `how` says which."""

    name = "liar"

    def __init__(self, how: str, scene: Scene, stage: Stage) -> None:
        self.how, self.scene, self.inner = how, scene, stage.engine.adapter

    def requires_structured_finalize(self, _request: Any) -> bool:
        return False

    def stream(self, request: Any, call: Call) -> Iterator[Any]:
        if self.how == "raises something else" and self.scene.kind == "refuses":
            raise ValueError("no")
        if self.how == "has one word for everything" and self.scene.kind == "refuses":
            raise AdapterError("unknown", provider="liar", message="no")
        return self._lie()

    def _lie(self) -> Iterator[Any]:
        yield MessageStarted()
        text = self.scene.text if self.how != "swallows text" else self.scene.text[1:]
        if self.how == "says it in one piece":
            text = ("".join(text),)
        for piece in text:
            yield TextDelta(piece)
        if self.scene.kind == "breaks" and self.how != "hides its failure":
            yield allm.ErrorEvent(StreamError("unknown"))
        yield MessageCompleted(
            allm.assistant("".join(text)), "length" if self.how == "ends oddly" else "stop"
        )


def suite_of(base: type[Any], how: str) -> Any:
    class Suite(Fake, base):
        @contextmanager
        def stage(self, scene: Scene) -> Iterator[Stage]:
            with super().stage(scene) as stage:
                yield Stage(
                    engine=allm.Engine(adapter=Liar(how, scene, stage)),
                    requests=lambda: 1,
                    cleanups=lambda: 2,
                )

    return Suite()


@pytest.mark.parametrize(
    ("how", "base", "law"),
    [
        ("swallows text", AdapterSuite, "test_an_answer_comes_back"),
        ("ends oddly", AdapterSuite, "test_an_answer_comes_back"),
        ("raises something else", AdapterSuite, "test_network_error"),
        ("has one word for everything", AdapterSuite, "test_rate_limited"),
        ("has one word for everything", StreamSuite, "test_refused_authentication_failed"),
        ("swallows text", StreamSuite, "test_fragments_come_one_by_one_and_then_the_message"),
        ("says it in one piece", StreamSuite, "test_fragments_come_one_by_one_and_then_the_message"),
        ("hides its failure", StreamSuite, "test_a_failure_in_the_middle_is_an_event"),
        ("gives the wrong error", StreamSuite, "test_a_failure_in_the_middle_is_an_event"),
        ("cleans up twice", StreamSuite, "test_leaving_early_cleans_up_once"),
        ("asks at once", StreamSuite, "test_nothing_happens_before_the_first_pull"),
        ("never falls silent", StreamSuite, "test_a_silence_is_an_event"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_a_suite_finds_what_breaks_its_laws(how: str, base: type[Any], law: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite_of(base, how), law)()
