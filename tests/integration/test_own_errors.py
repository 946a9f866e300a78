"""An error of a class of the user's, made in a way of its own, is told like ours: with its fields, and what it adds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.data import ErrorEvent, MessageStarted, TextDelta
from allm_actors.testing import script
from tests.integration.calling import CALLS, made, with_adapter

HI = [allm.user("hi")]


class Mine(allm.AdapterError):
    """An error that is made with one number."""

    def __init__(self, code: int) -> None:
        super().__init__("invalid_request", message=f"code {code}", provider="mine", status=400)
        self.code = code


class Broken(allm.ToolError):
    """The same for a tool."""

    def __init__(self, code: int) -> None:
        super().__init__("handler_exit", message=f"code {code}", tool_name="look")
        self.code = code


class Adapter:
    """Streams what it is given; raises an exception in it."""

    name = "mine"

    def __init__(self, *entries: Any) -> None:
        self._entries = entries

    def stream(self, _request: Any, _call: Any) -> Any:
        for entry in self._entries:
            if isinstance(entry, Exception):
                raise entry
            yield entry


def assert_mine(error: object) -> None:
    assert isinstance(error, Mine)
    assert (error.code, error.reason, error.message, error.provider) == (
        7,
        "invalid_request",
        "code 7",
        "mine",
    )
    assert error.request_id == "r1"


BROKEN = {
    "raised": [Mine(7)],
    "raised later": [MessageStarted(), TextDelta("Hel"), Mine(7)],
    "an event": [MessageStarted(), TextDelta("Hel"), ErrorEvent(Mine(7))],
}
broken = pytest.mark.parametrize("entries", BROKEN.values(), ids=BROKEN)


@broken
def test_a_reply_ends_with_it(entries: list[Any]) -> None:
    engine = allm.Engine(adapter=Adapter(*entries))
    assert_mine(error_of(lambda: allm.generate(engine, HI, request_id="r1")))
    assert_mine(error_of(lambda: allm.stream(engine, HI, request_id="r1").result()))
    assert_mine(error_of(lambda: asyncio.run(awaited(engine))))


async def awaited(engine: allm.Engine) -> Any:
    return await allm.aio.generate(engine, HI, request_id="r1")


def error_of(call: Callable[[], Any]) -> Any:
    """The error that a call raises, or that its result tells of."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    return result.metadata["error"]


@broken
@pytest.mark.parametrize("path", [None, "sessions.db"], ids=["memory", "file"])
def test_a_session_ends_its_turn_with_it_and_is_stored(
    entries: list[Any], path: str | None, tmp_path: Any
) -> None:
    engine = allm.Engine(adapter=Adapter(*entries))
    store = {} if path is None else {"store": tmp_path / path}
    with allm.Host(**store) as host:
        session = host.session("s", engine)
        assert_mine(error_of(lambda: session.reply("hi", request_id="r1").result()))
        stored = session.value
    if path is not None:
        with allm.Host(**store) as host:
            assert allm.to_json(host.session("s", engine).value) == allm.to_json(stored)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_call_that_is_not_chat_ends_with_it(name: str) -> None:
    def work(_request: Any, _call: Any) -> Any:
        raise Mine(7)

    with pytest.raises(Mine) as raised:
        CALLS[name](allm, with_adapter(name, made(name, work)), request_id="r1")
    assert (raised.value.message, raised.value.status, raised.value.request_id) == ("code 7", 400, "r1")


def test_what_it_adds_and_holds_no_key_is_there_where_a_key_may_have_to_be_taken_out() -> None:
    class Hinting(allm.EmbeddingAdapterError):
        def __init__(self, hint: str) -> None:
            super().__init__("invalid_request", message="no")
            self.hint, self.request = hint, object()

        def __str__(self) -> str:
            return f"{self.message}: {self.hint}"

    class Embedder:
        name = "mine"

        def embed(self, _request: Any, call: Any) -> Any:
            raise Hinting(f"try again with another key than {call.api_key.reveal()}")

    engine = allm.Engine(embed_adapter=Embedder())
    error = error_of(lambda: allm.embed(engine, ["a"], api_key="key.of-no-known-form-0123"))
    assert isinstance(error, Hinting)
    assert str(error) == "no: try again with another key than [REDACTED]"
    assert not hasattr(error, "request")  # it may hold the key


def test_an_embedding_in_chunks_says_how_much_was_done() -> None:
    def work(request: Any, _call: Any) -> Any:
        if request.input == ["b"]:
            raise Mine(7)
        return allm.EmbeddingResponse(embeddings=[allm.Embedding(vector=[1.0], index=0)])

    adapter = made("embed", work)
    adapter.max_batch_size = 1
    with pytest.raises(Mine) as raised:
        allm.embed(with_adapter("embed", adapter), ["a", "b"])
    assert (raised.value.message, raised.value.metadata["completed_chunks"]) == ("code 7", 1)


class Speaker:
    """A stream of speech that breaks."""

    name = "mine"

    def stream_synthesize(self, _request: Any, _call: Any) -> Any:
        yield allm.data.SpeechStarted()
        yield allm.data.AudioDelta(data=b"clip")
        yield ErrorEvent(Mine(7))


def test_a_stream_of_speech_says_how_much_has_come() -> None:
    stream = allm.stream_synthesize(allm.Engine(speech_adapter=Speaker()), "a cat")
    with pytest.raises(Mine) as raised:
        stream.result()
    assert (raised.value.message, raised.value.metadata["bytes_received"]) == ("code 7", 4)


def test_a_tool_may_raise_it_in_an_executor_or_in_a_process_of_its_own() -> None:
    for own in ({"tools": [look], "tool_executor": Executor()}, {"tools": [look_elsewhere]}):
        call = [script.tool_call("look", {}, id="c0"), script.finish("tool_calls")]
        scripts = [call, [script.text("so"), script.finish("stop")]]
        engine = allm.Engine(adapter="fake", adapter_opts={"scripts": scripts})
        result = allm.chat(engine, HI, **own)
        assert "code 7" in str(result.steps[0].tool_results)


class Executor:
    def execute(self, _tool: Any, _arguments: Any, _context: Any) -> Any:
        raise Broken(7)


@allm.tool
def look() -> str:
    """Look."""
    return "seen"


@allm.tool(name="look", isolation="process")
def look_elsewhere() -> str:
    """Look in another process."""
    raise Broken(7)


def test_with_its_key_in_it_it_keeps_its_class_and_its_text_without_the_key() -> None:
    key = "key.of-no-known-form-0123"

    class Quoting(allm.AdapterError):
        def __init__(self, code: int, told: str) -> None:
            super().__init__("invalid_request", message=f"code {code}: {told}")
            self.told = told

    engine = allm.Engine(adapter=Adapter(Quoting(7, key)))
    error = error_of(lambda: allm.generate(engine, HI, api_key=key))
    assert isinstance(error, Quoting)
    assert error.message.startswith("code 7: ")
    assert key not in repr(vars(error)) + str(error)
