"""For each reason of each error, a way to come by it; and for each code of a validation.

Rule of this file: nobody constructs the error that is shown. It is what the public API raises or tells, over a real
server, a real store and real actors where it takes those. What there is to produce is read from the code by
`test_producers`; a reason that nothing gives yet is in `RESERVED`, with why.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
import types
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import allm_actors as allm
from allm_actors.actors.store import MemoryStore, SQLiteStore
from allm_actors.data import AllmError, ErrorEvent, MessageStarted, Thread
from allm_actors.testing import script
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply
from supervisors import exit as exit_process

__all__ = ["PRODUCERS", "RESERVED", "Producer"]

Producer = Callable[[], AllmError]
PRODUCERS: dict[tuple[type[AllmError], str], Producer] = {}
RESERVED: dict[tuple[type[AllmError], str], str] = {
    (allm.EngineError, "unsupported_response_format"): "what is no form of an answer is a `ValidationError`",
    (allm.SessionError, "no_pending_tool_call"): "kept from ALLM; here it is a `SessionStatusError`",
}

HI = [allm.user("hi")]
SAYS = [script.text("ok"), script.finish("stop")]
CALLS = [script.tool_call("tool"), script.finish("tool_calls")]
PATIENCE = 5.0


def produces(error: type[AllmError], reason: str) -> Callable[[Producer], Producer]:
    """This function comes by it; its docstring says how, for the reference."""

    def register(producer: Producer) -> Producer:
        PRODUCERS[error, reason] = producer
        return producer

    return register


def raised(call: Callable[[], object]) -> AllmError:
    """What a call raises."""
    try:
        call()
    except AllmError as error:
        return error
    raise AssertionError("it raised nothing")


def fake(*scripts: Any, **fields: Any) -> allm.Engine:
    return allm.Engine(adapter="fake", adapter_opts={"scripts": list(scripts)}, **fields)


# --- engines ------------------------------------------------------------------------------------------------------


@produces(allm.EngineError, "missing_adapter")
def _no_adapter() -> AllmError:
    """a call with `Engine()`"""
    return raised(lambda: allm.generate(allm.Engine(), HI))


@produces(allm.EngineError, "unknown_adapter")
def _unknown_adapter() -> AllmError:
    """a call with `Engine(adapter="opnai")`"""
    return raised(lambda: allm.generate(allm.Engine(adapter="opnai"), HI))


@produces(allm.EngineError, "missing_stream_adapter")
def _adapter_without_stream() -> AllmError:
    """a streamed call with an adapter that streams none, as most for transcription; one that has lost its `stream`"""
    adapter: Any = types.SimpleNamespace(name="own", stream=list)
    engine = allm.Engine(adapter=adapter)
    del adapter.stream
    return raised(lambda: allm.generate(engine, HI))


@produces(allm.EngineError, "missing_model")
def _no_model() -> AllmError:
    """a call with `Engine(adapter="openai")`, and no model anywhere"""
    return raised(lambda: allm.generate(allm.Engine(adapter="openai"), HI, api_key="k"))


@produces(allm.EngineError, "missing_key")
def _no_key() -> AllmError:
    """a call to a provider whose key is at none of the five levels"""
    return raised(lambda: allm.generate(allm.Engine(adapter="together:m"), HI))


@produces(allm.EngineError, "invalid_engine")
def _host_not_running() -> AllmError:
    """a session of a `Host` that was not started"""
    return raised(lambda: allm.Host().session("s", fake()))


@produces(allm.EngineError, "unknown_tool")
def _unknown_tool() -> AllmError:
    """the model calls a tool that it was not given: what `on_tool_error` is told"""
    return told_to_policy([script.tool_call("nobody"), script.finish("tool_calls")])


# --- providers ----------------------------------------------------------------------------------------------------


def answered(reply: Reply, **options: Any) -> AllmError:
    """The error that an answer of a provider leads to."""
    with LoopbackServer([reply]) as server:
        opts = {"base_url": f"{server.url}/v1"}
        engine = allm.Engine(adapter="openai:gpt-x", adapter_opts=opts, retry=False)
        response = allm.generate(engine, HI, api_key="a-key-of-nobody", **options)
    assert response.finish_reason == "error"
    error: AllmError = response.metadata["error"]
    return error


def refused(status: int, code: str = "", type: str = "") -> Producer:
    body = f'{{"error": {{"message": "No.", "code": "{code}", "type": "{type}"}}}}'.encode()
    return lambda: answered(Reply(status=status, body=body))


def _register_refusals() -> None:
    for reason, how, producer in [
        ("authentication_failed", "HTTP 401 or 403", refused(401, "invalid_api_key")),
        ("rate_limited", "HTTP 429", refused(429)),
        ("invalid_request", "HTTP 400 and other 4xx", refused(400, "invalid_prompt")),
        ("context_length_exceeded", "HTTP 400 whose code says so", refused(400, "context_length_exceeded")),
        ("content_filter", "HTTP 400 whose code says so, or a finish reason", refused(400, "content_filter")),
        ("provider_unavailable", "HTTP 5xx", refused(503)),
        ("malformed_response", "HTTP 200 whose body is no answer", lambda: answered(Reply(body=b"<html>"))),
    ]:
        producer.__doc__ = how
        produces(allm.AdapterError, reason)(producer)


_register_refusals()


@produces(allm.AdapterError, "timeout")
def _silence() -> AllmError:
    """HTTP 408, or no byte within `first_byte_timeout` or `stream_timeout`"""
    return answered(Reply(first_byte_delay=30.0), first_byte_timeout=0.05)


@produces(allm.AdapterError, "network_error")
def _reset() -> AllmError:
    """no connection, or one that breaks off in the middle of an answer"""
    chunks = list(chat_completions(text="Hello there"))[:2]
    return answered(Reply(chunks=chunks, then="reset"))


@produces(allm.AdapterError, "unknown")
def _reported_in_the_stream() -> AllmError:
    """an error in the stream that neither its status nor its code classifies"""
    return answered(Reply(chunks=[b'data: {"error": {"message": "odd", "code": "odd"}}\n\n']))


@produces(allm.AdapterError, "no_scripted_response")
def _past_the_script() -> AllmError:
    """the provider `fake` is asked more often than it has scripts"""
    return raised(lambda: allm.generate(fake(), HI))


class OwnAdapter:
    """An adapter of a program's own."""

    name = "own"

    def __init__(self, stream: Callable[[], Iterable[Any]]) -> None:
        self._stream = stream

    def stream(self, request: Any, call: Any) -> Any:
        return iter(self._stream())

    def requires_structured_finalize(self, request: Any) -> bool:
        return False


@produces(allm.AdapterError, "unsupported_feature")
def _not_expressible() -> AllmError:
    """an adapter refuses a request that its provider has no words for"""

    def stream() -> Iterable[Any]:
        raise allm.AdapterError("unsupported_feature", message="no pictures here")

    return raised(lambda: allm.generate(allm.Engine(adapter=OwnAdapter(stream)), HI))


# --- streams ------------------------------------------------------------------------------------------------------


def broken(stream: Callable[[], Iterable[Any]]) -> AllmError:
    """The error of a stream of a program's own adapter."""
    error: AllmError = allm.generate(allm.Engine(adapter=OwnAdapter(stream)), HI).metadata["error"]
    return error


@produces(allm.StreamError, "adapter_error")
def _adapter_raises() -> AllmError:
    """an adapter raises something that is no `AllmError`, or its process dies"""

    def stream() -> Iterable[Any]:
        yield MessageStarted()
        raise LookupError("a mistake in the adapter")

    return broken(stream)


@produces(allm.StreamError, "cancelled")
def _closed() -> AllmError:
    """a stream that was closed before its end; with `interrupted` in its metadata, a host that was stopped"""
    stream = allm.stream_step(fake([script.text("a"), script.delay(30.0), script.finish("stop")]), HI)
    for event in stream:
        if isinstance(event, allm.TextDelta):
            break
    stream.close()
    error: AllmError = stream.result().response.metadata["error"]
    return error


@produces(allm.StreamError, "timeout")
def _adapter_gives_up() -> AllmError:
    """an adapter says that its transport waited too long"""
    return allm.generate(fake([("stream_error", "timeout")]), HI).metadata["error"]


@produces(allm.StreamError, "malformed_event")
def _no_json() -> AllmError:
    """a chunk of a provider's stream that is no JSON"""
    return answered(Reply(chunks=[b"data: {nonsense\n\n"]))


@produces(allm.StreamError, "unknown")
def _error_without_words() -> AllmError:
    """an adapter's `ErrorEvent` that holds no `AllmError`"""
    return broken(lambda: [MessageStarted(), ErrorEvent("boom")])


# --- tools --------------------------------------------------------------------------------------------------------


def told_to_policy(calls: list[Any], handler: Any = None, **options: Any) -> AllmError:
    """The error that `on_tool_error` is told."""
    told: list[AllmError] = []

    def policy(call: allm.ToolCall, error: AllmError) -> str:
        told.append(error)
        return "continue"

    tool = allm.Tool(name="tool", description="", schema={}, handler=handler)
    allm.step(fake(calls, tools=[tool]), HI, on_tool_error=policy, **options)
    return told[0]


def _raise(error: BaseException) -> Any:
    raise error


@produces(allm.ToolError, "handler_raised")
def _handler_raises() -> AllmError:
    """a handler raises"""
    return told_to_policy(CALLS, lambda _: _raise(LookupError("no such city")))


@produces(allm.ToolError, "handler_exit")
def _handler_leaves() -> AllmError:
    """a handler raises `SystemExit` or the like, or its process is killed"""
    return told_to_policy(CALLS, lambda _: _raise(SystemExit(3)))


@produces(allm.ToolError, "timeout")
def _handler_hangs() -> AllmError:
    """a handler does not answer within `tool_timeout`"""
    late = threading.Event()
    try:
        return told_to_policy(CALLS, lambda _: late.wait(PATIENCE), tool_timeout=0.05)
    finally:
        late.set()


@produces(allm.ToolError, "invalid_return")
def _reserved_halt() -> AllmError:
    """a handler halts with a reason that is not its own, such as `completed`; a policy answers with nonsense"""
    return told_to_policy(CALLS, lambda _: allm.Halt("completed", None))


@produces(allm.ToolError, "not_found")
def _no_handler() -> AllmError:
    """a tool without a handler that is not manual"""
    return told_to_policy(CALLS)


@produces(allm.ToolError, "encoding_failed")
def _no_text() -> AllmError:
    """a handler gives a value that JSON cannot carry"""
    return told_to_policy(CALLS, lambda _: object())


@produces(allm.ToolError, "invalid_arguments")
def _cut_arguments() -> AllmError:
    """the model's arguments are no complete JSON object"""
    return told_to_policy([script.tool_call("tool", raw_arguments='{"x": '), script.finish("tool_calls")])


@produces(allm.ToolError, "interrupted")
def _cancelled_meanwhile() -> AllmError:
    """the turn was cancelled, or its host stopped, while the tool ran"""
    late = threading.Event()
    tool = allm.Tool(name="tool", description="", schema={}, handler=lambda _: late.wait(PATIENCE))
    with allm.Host() as host:
        session = host.session("s", fake(CALLS, tools=[tool]))
        for event in session.reply("hi"):
            match event:
                case allm.ToolExecutionStarted():
                    session.cancel()
                case allm.ToolExecutionCompleted(result=allm.Err(reason=error)):
                    late.set()
                    return error  # type: ignore[no-any-return]
    raise AssertionError("the tool was not interrupted")


# --- sessions -----------------------------------------------------------------------------------------------------


@produces(allm.SessionError, "session_in_error_state")
def _not_recovered() -> AllmError:
    """any operation but `recover` and `replace_messages` on a session that ended in an error"""
    failed, _ = allm.session.start(fake([script.error("rate_limited")]), HI)
    return raised(lambda: allm.session.reply(fake(SAYS), failed, "again"))


@produces(allm.SessionError, "unknown_tool_call_id")
def _nobody_asked() -> AllmError:
    """a result for a call that is not pending"""
    waiting, _ = allm.session.start(fake(CALLS, tools=[_manual()]), HI)
    return raised(lambda: allm.session.submit_tool_result(waiting, "c9", "x"))


@produces(allm.SessionError, "invalid_status_for_operation")
def _fork_over_another() -> AllmError:
    """`fork` to the name of a session that exists"""
    with allm.Host() as host:
        one, _two = host.session("one", fake()), host.session("two", fake())
        return raised(lambda: one.fork("two"))


@produces(allm.SessionError, "not_loaded")
def _not_awaited() -> AllmError:
    """a look at a session of an `async with` host that was not awaited"""

    async def look() -> AllmError:
        async with allm.Host() as host:
            return raised(lambda: host.session("s", fake()).status)

    return asyncio.run(look())


@produces(allm.SessionError, "closed")
def _host_stopped() -> AllmError:
    """results, `recover`, `replace_messages` or `fork` through a handle whose host was stopped"""
    with allm.Host() as host:
        session = host.session("s", fake(SAYS))
    return raised(session.recover)


@produces(allm.SessionBusy, "busy")
def _rejected() -> AllmError:
    """a second turn while one runs, with `when_busy="reject"`"""
    with allm.Host() as host:
        session = host.session("s", fake(SAYS, SAYS), when_busy="reject")
        turn = session.reply("one")
        try:
            return raised(lambda: session.reply("two").result())
        finally:
            turn.close()


@produces(allm.SessionBusy, "queue_full")
def _too_many_wait() -> AllmError:
    """a turn more than `queue_limit` allows to wait"""
    with allm.Host() as host:
        session = host.session("s", fake(SAYS, SAYS), queue_limit=0)
        turn = session.reply("one")
        try:
            return raised(lambda: session.reply("two").result())
        finally:
            turn.close()


@produces(allm.SessionStatusError, "illegal_for_status")
def _wrong_status() -> AllmError:
    """an operation that the session's status does not allow"""
    return raised(lambda: allm.session.submit_tool_result(allm.Session(), "c0", "x"))


def _manual() -> allm.Tool:
    return allm.Tool(name="tool", description="", schema={}, manual=True)


# --- stores -------------------------------------------------------------------------------------------------------


def opened(prepare: Callable[[Path], object]) -> AllmError:
    """What a host says of a store that was prepared like this."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        prepare(path)
        return raised(allm.Host(store=path).start)


def _database(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@produces(allm.StoreError, "not_a_store")
def _another_file() -> AllmError:
    """a path that holds something else than sessions"""
    return opened(lambda path: path.write_text("My holiday." * 100))


@produces(allm.StoreError, "newer_schema")
def _from_the_future() -> AllmError:
    """a store, a session or bytes of a later version, or with a type that this process has not registered"""
    return raised(lambda: allm.from_msgpack(b"\x92\x63\xc0"))


@produces(allm.StoreError, "unavailable")
def _no_folder() -> AllmError:
    """a path that cannot be opened or written"""
    return raised(allm.Host(store="/nonexistent/folder/sessions.db").start)


@produces(allm.StoreError, "corrupt")
def _damaged() -> AllmError:
    """bytes that nobody wrote, or that were damaged"""
    return raised(lambda: allm.from_msgpack(b"\xc1"))


@produces(allm.StoreError, "locked")
def _held_by_another() -> AllmError:
    """another program holds the file: the turn whose message cannot be stored is refused"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with allm.Host(store=SQLiteStore(path, patience=0.05)) as host:
            session = host.session("s", fake(SAYS))
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            error = raised(lambda: session.reply("hi"))
            other.execute("ROLLBACK")
            other.close()
            return error


@produces(allm.StoreError, "unencodable")
def _not_plain_data() -> AllmError:
    """what an adapter or a program put into a session's messages has no encoding"""

    def stream() -> Iterable[Any]:
        message = allm.Message(role="assistant", content="a", metadata={"handle": object()})
        return [MessageStarted(), allm.MessageCompleted(message, "stop")]

    with tempfile.TemporaryDirectory() as folder, allm.Host(store=Path(folder) / "sessions.db") as host:
        session = host.session("s", allm.Engine(adapter=OwnAdapter(stream)))
        error: AllmError = session.reply("hi").result().metadata["error"]
        return error


@produces(allm.StoreError, "conflict")
def _two_hosts() -> AllmError:
    """two hosts save the same session: the turn that came second is refused"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with allm.Host(store=path) as one, allm.Host(store=path) as two:
            mine, theirs = one.session("s", fake(SAYS)), two.session("s", fake(SAYS))
            mine.reply("hi").result()
            return raised(lambda: theirs.reply("hi"))


@produces(allm.StoreError, "unconfirmed")
def _killed_while_it_is_stored() -> AllmError:
    """a session's process dies while the message of a turn that it has not admitted yet is being stored"""

    class Kills(MemoryStore):
        def save(self, batch: Any) -> None:
            super().save(batch)
            if (ref := host.system.whereis(("sessions", "s"))) is not None:
                exit_process(ref, "kill")

    with allm.Host(store=Kills()) as host:
        session = host.session("s", fake(SAYS))
        error = raised(lambda: session.reply("hi"))
        assert host.session("s", fake(SAYS)).messages == HI  # it was stored, this time
        return error


# --- texts --------------------------------------------------------------------------------------------------------


@produces(allm.UnwrapError, "structured_content")
def _parts() -> AllmError:
    """`unwrap` of a response whose content is a list of parts"""
    message = allm.Message(role="assistant", content=[allm.TextPart(text="a")])
    return raised(lambda: allm.unwrap(allm.Response(message=message, finish_reason="stop")))


@produces(allm.UnwrapError, "empty_stop_response")
def _no_text_at_all() -> AllmError:
    """`unwrap` of a response that stopped and has no text at all, as an adapter may make; an empty text is one"""
    return raised(lambda: allm.unwrap(allm.Response(finish_reason="stop")))


@produces(allm.UnwrapError, "non_stop_finish")
def _length() -> AllmError:
    """`unwrap` of a response that ended otherwise than with `stop`"""
    cut = allm.generate(fake([script.text("a"), script.finish("length")]), HI)
    return raised(lambda: allm.unwrap(cut))


# --- values -------------------------------------------------------------------------------------------------------

BAD_MESSAGE: Any = allm.Message(role="robot", content=None)  # type: ignore[arg-type]


@produces(allm.ValidationError, "invalid_message")
def _bad_message() -> AllmError:
    """`validate` of a message; a picture that a provider does not take"""
    return raised(lambda: allm.validate(BAD_MESSAGE))


@produces(allm.ValidationError, "invalid_tool")
def _bad_tool() -> AllmError:
    """`validate` of a tool"""
    return raised(lambda: allm.validate(allm.Tool(name="auto", description="", schema={})))


@produces(allm.ValidationError, "invalid_thread")
def _bad_thread() -> AllmError:
    """a call with messages that cannot be sent"""
    return raised(lambda: allm.chat(fake(SAYS), [BAD_MESSAGE]))


@produces(allm.ValidationError, "invalid_request")
def _empty_request() -> AllmError:
    """a call whose request cannot be sent, `from_json` of what is no value, two tools of one name"""
    return raised(lambda: allm.chat(fake(SAYS), Thread()))


@produces(allm.ValidationError, "invalid_session")
def _bad_session() -> AllmError:
    """`validate` of a session whose fields do not agree with its status"""
    return raised(lambda: allm.validate(allm.Session(status="awaiting_user")))


@produces(allm.ValidationError, "invalid_session_input")
def _no_conversation() -> AllmError:
    """`session.start` or `replace_messages` with something else than messages, a thread or a session"""
    nonsense: Any = "hi"
    return raised(lambda: allm.session.start(fake(SAYS), nonsense))


@produces(allm.ValidationError, "invalid_image_request")
def _bad_image_request() -> AllmError:
    """`validate` of a request for pictures"""
    return raised(lambda: allm.validate(allm.ImageRequest()))


# --- what is not chat ---------------------------------------------------------------------------------------------


def _register_calls() -> None:
    questions = {"q": allm.ClassificationQuestion.choice("Which?", ["a", "b"])}
    audio = allm.Audio.from_bytes(b"RIFF", "audio/wav")
    calls: list[tuple[type[AllmError], str, str, str, Callable[..., object]]] = [
        (
            allm.ImageAdapterError,
            "image",
            "no_image_adapter",
            "generate_image",
            lambda e: allm.generate_image(e, "a cat"),
        ),
        (allm.EmbeddingAdapterError, "embed", "no_embed_adapter", "embed", lambda e: allm.embed(e, ["a"])),
        (
            allm.ModerationAdapterError,
            "moderation",
            "no_moderation_adapter",
            "moderate",
            lambda e: allm.moderate(e, ["a"]),
        ),
        (
            allm.SpeechAdapterError,
            "speech",
            "no_speech_adapter",
            "synthesize",
            lambda e: allm.synthesize(e, "a"),
        ),
        (
            allm.TranscriptionAdapterError,
            "transcription",
            "no_transcription_adapter",
            "transcribe",
            lambda e: allm.transcribe(e, audio),
        ),
        (
            allm.ClassificationAdapterError,
            "classification",
            "no_classification_adapter",
            "classify",
            lambda e: allm.classify(e, "a", questions),
        ),
    ]
    for error, kind, missing, name, call in calls:
        _register(
            allm.EngineError, missing, f"`{name}` with no `{kind}_adapter`", call, lambda _: allm.Engine()
        )
        for reason in error.reasons:
            _register(error, reason, f"the adapter of `{name}` says so", call, partial(_of, kind), reason)


def _register(error: type[AllmError], reason: str, how: str, call: Any, engine: Any, says: str = "") -> None:
    def producer() -> AllmError:
        return raised(lambda: call(engine([script.error(says)])))

    producer.__doc__ = how
    produces(error, reason)(producer)


def _of(kind: str, entries: list[Any]) -> allm.Engine:
    fields: dict[str, Any] = {f"{kind}_adapter": "fake", "adapter_opts": {f"{kind}_script": entries}}
    return allm.Engine(retry=False, **fields)


_register_calls()


@produces(allm.ValidationError, "unsupported_capability")
def _known_not_to() -> AllmError:
    """a request that the `ModelRef` of the call says its model cannot do"""
    model: Any = allm.ModelRef(id="m", capabilities={"tools": {"enabled": False}})
    return raised(lambda: allm.generate(fake(SAYS, model=model, tools=[_manual()]), HI))


@produces(allm.ValidationError, "invalid_response")
def _does_not_fit() -> AllmError:
    """an answer that does not fit its `response_model`, however often it was asked again"""
    engine = fake([script.text("no JSON"), script.finish("stop")])
    return told(lambda: allm.generate(engine, HI, response_model=dict[str, int], max_retries=0))


def told(call: Callable[[], Any]) -> AllmError:
    """What a call raises, or says in its response."""
    try:
        response = call()
    except AllmError as error:
        return error
    error = response.metadata["error"]
    assert isinstance(error, AllmError)
    return error


def _register_requests() -> None:
    requests: list[tuple[str, Any]] = [
        ("embedding", allm.EmbeddingRequest(input=[])),
        ("moderation", allm.ModerationRequest(input=[])),
        ("speech", allm.SpeechRequest(input="")),
        ("transcription", allm.TranscriptionRequest(audio=None)),  # type: ignore[arg-type]
        ("classification", allm.ClassificationRequest(state=None, questions={})),
    ]
    for name, request in requests:
        how = f"a request for {name} that cannot be sent"
        _register(
            allm.ValidationError, f"invalid_{name}_request", how, partial(_check, request), lambda _: None
        )


def _check(request: Any, _engine: object) -> None:
    allm.validate(request)


_register_requests()
