"""A log line says what happened, not what was said, and never a key."""

import logging

import pytest
import structlog

from allm_actors import telemetry
from allm_actors.data import (
    AdapterError,
    AllmError,
    ChatResult,
    EmbeddingResponse,
    Err,
    ImageAdapterError,
    Ok,
    Response,
    Thread,
    ToolCall,
    ToolError,
    Usage,
)
from allm_actors.engine.secret import Secret, scrub
from allm_actors.execution.tool_errors import policy_raised, timed_out
from allm_actors.telemetry import Span

KEY = "sk-canary0123456789"


@pytest.fixture
def lines():
    return structlog.testing.CapturingLogger()


def written(lines):
    return [(call.method_name, call.args[0], call.kwargs) for call in lines.calls]


def test_a_model_call_is_a_line_with_its_tokens(lines):
    response = Response(
        output_text="secret words", finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=5)
    )
    with telemetry.log_events(lines):
        Span("generate", {"request_id": "r", "engine": None, "model": "m"}).start().stop(response=response)
    ((level, name, fields),) = written(lines)
    assert (level, name) == ("info", "allm.generate.stop")
    assert fields.pop("duration") >= 0
    assert fields == {
        "request_id": "r",
        "gen_ai.operation.name": "generate",
        "gen_ai.request.model": "m",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
    }


def test_a_program_that_logs_for_as_long_as_it_runs_needs_no_block(lines):
    def step():
        Span("step", {"request_id": "r", "engine": None, "model": "m"}).start().stop(step_result=None)

    log = telemetry.log_events(lines)
    step()
    log.close()
    log.close()
    step()
    assert [name for _, name, _ in written(lines)] == ["allm.step.stop"]


def test_what_was_said_is_written_only_when_asked_for_and_never_with_a_key(lines):
    call = ToolCall(id="c0", name="search", arguments={"query": f"who has {KEY}?", "deep": [KEY]})
    with telemetry.log_events(lines), telemetry.log_events(lines, content=True):
        Span("tool", {"tool_call": call}).start().stop(result=Ok(f"the key is {KEY}"))
        Span("generate", {}).start().stop(response=Response(output_text=f"it is {KEY}"))
    (_, _, silent), (_, _, loud), (_, _, quiet), (_, _, said) = written(lines)
    assert "gen_ai.tool.call.arguments" not in silent
    assert "gen_ai.output.text" not in quiet
    assert loud["gen_ai.tool.call.arguments"]["query"] == "who has [REDACTED]?"
    assert said["gen_ai.output.text"] == "it is [REDACTED]"
    assert KEY not in repr(lines.calls)


def test_trouble_is_a_warning_with_its_reason(lines):
    failed = ChatResult(thread=Thread(), halted_reason="error", metadata={"error": AdapterError("timeout")})
    with telemetry.log_events(lines):
        Span("chat", {}).start().stop(chat_result=failed)
        Span("tool", {}).start().exception("exit", "timeout")
        telemetry.emit("allm.adapter.retry", {}, {"attempt": 1, "delay_ms": 500, "reason": "rate_limited"})
    assert [(level, name, fields["error.type"]) for level, name, fields in written(lines)] == [
        ("warning", "allm.chat.stop", "timeout"),
        ("warning", "allm.tool.exception", "timeout"),
        ("warning", "allm.adapter.retry", "rate_limited"),
    ]


def test_a_tool_that_failed_says_why_in_our_words_and_in_its_own_with_the_content(lines):
    raised = ToolError("handler_raised", message="pay raised KeyError: 'ada'", cause="KeyError: 'ada'")
    raised.__cause__ = KeyError("ada")
    late = timed_out(ToolCall(id="c0", name="pay", arguments={}), 2)
    with telemetry.log_events(lines):
        for reason in (raised, late, {"no": "city"}, "no such city"):
            Span("tool", {}).start().stop(result=Err(reason))
    with telemetry.log_events(lines, content=True):
        Span("tool", {}).start().stop(result=Err(raised))
    fields = [fields for _, _, fields in written(lines)]
    assert [level for level, _, _ in written(lines)] == ["warning"] * 5
    assert [each["error.type"] for each in fields] == [
        "handler_raised",
        "timeout",
        "Err",
        "Err",
        "handler_raised",
    ]
    assert [each.get("exception.type") for each in fields] == ["KeyError", None, None, None, "KeyError"]
    assert fields[1]["error.message"].startswith("pay did not answer within 2 s")
    assert "ada" not in repr(fields[0])
    assert "city" not in repr(fields[2:4])
    assert fields[4]["error.message"] == "pay raised KeyError: 'ada'"


def test_long_words_of_a_tool_are_cut(lines):
    long = ToolError("handler_raised", message="x" * 1000, cause="x")
    with telemetry.log_events(lines, content=True):
        Span("tool", {}).start().stop(result=Err(long))
    ((_, _, fields),) = written(lines)
    assert fields["error.message"] == "x" * 300 + "…"


def test_what_the_users_code_said_is_content_too_whatever_it_raised(lines):
    def raised(error):
        try:
            raise error
        except AllmError as said:
            return said

    policy = policy_raised(ToolCall(id="c0", name="pay", arguments={}), ValueError("secret"))
    own = raised(ToolError("handler_raised", message="secret"))
    returned = ToolError("not_found", message="secret", tool_name="pay", tool_call_id="c0")
    fits = raised(
        ToolError(
            "invalid_arguments",
            message="argument x: secret is not an IBAN",
            metadata={"arguments": ["x"], "unquoted": "argument x: does not fit; expected Account"},
        )
    )
    with telemetry.log_events(lines):
        for reason in (policy, own, fits, returned):
            Span("tool", {}).start().stop(result=Err(reason))
        Span("tool", {}).start().exception("exit", "Crash(exc=B('secret'))")
        Span("chat", {}).start().exception("error", UnicodeDecodeError("utf-8", b"x", 0, 1, "secret"))
    fields = [fields for _, _, fields in written(lines)]
    assert "secret" not in repr(fields)
    assert [each["error.type"] for each in fields] == [
        "invalid_return",
        "handler_raised",
        "invalid_arguments",
        "not_found",
        "exit",
        "UnicodeDecodeError",
    ]
    assert fields[2]["error.message"] == "argument x: does not fit; expected Account"


def test_a_key_in_the_name_of_an_argument_is_redacted_too(lines):
    call = ToolCall(id="c0", name="search", arguments={KEY: "v", "in": {KEY: 1}})
    with telemetry.log_events(lines, content=True):
        Span("tool", {"tool_call": call}).start().stop(result=Ok(1))
    assert KEY not in repr(written(lines))


def test_an_argument_that_is_named_a_password_or_a_key_is_redacted(lines):
    login = {
        "user": "ada",
        "token": "tok99999",
        "accessToken": "a b",
        "pin": 1234,
        "ok": True,
        "token_count": 123456,
    }
    given = {
        "password": "hunter22",
        "login": login,
        "passwords": ["x"],
        "clientSecret": ["hunter22", 12345678],
    }
    call = ToolCall(id="c0", name="log_in", arguments={**given, "api_key": "required", "passphrase": True})
    with telemetry.log_events(lines, content=True):
        Span("tool", {"tool_call": call}).start().stop(result=Ok(1))
    ((_, _, fields),) = written(lines)
    gone = "[REDACTED]"
    assert fields["gen_ai.tool.call.arguments"] == {
        "password": gone,
        "login": {**login, "token": gone},
        "passwords": ["x"],
        "clientSecret": [gone, gone],
        "api_key": "required",
        "passphrase": True,
    }


def test_a_key_is_redacted_before_a_message_is_cut(lines):
    key = "a-key-of-no-known-form"
    said = f"{'x' * 250} postgres://ada:{'hunter22' * 10}@db/x"
    failed = ToolError("handler_raised", message=said, cause="x")
    quoting = ToolError("handler_raised", message=f"{'x' * 290} {key}", cause="x")
    with telemetry.log_events(lines, content=True):
        Span("tool", {}).start().stop(result=Err(failed))
        Span("tool", {}, hide=lambda value: scrub(value, Secret(key))).start().stop(result=Err(quoting))
    told = [fields["error.message"] for _, _, fields in written(lines)]
    assert told == [f"{'x' * 250} postgres://[REDACTED]@db/x", f"{'x' * 290} [REDACTED…"]


def test_a_value_that_cannot_be_shown_is_a_line_all_the_same(lines):
    class Broken:
        def __repr__(self):
            raise RuntimeError("a row whose session is closed")

    with telemetry.log_events(lines, content=True):
        for _ in range(2):
            Span("tool", {}).start().stop(result=Err(Broken()))
    assert [fields["gen_ai.tool.call.result"] for _, _, fields in written(lines)] == ["<Err>", "<Err>"]


@pytest.mark.parametrize(
    "logger", [3, logging.getLogger("x"), logging.LoggerAdapter(logging.getLogger("x")), object()]
)
def test_only_a_structlog_logger_is_taken(logger):
    refused = pytest.raises(TypeError, match=r"needs a structlog logger, got .*; pass structlog.get_logger")
    with refused, telemetry.log_events(logger):
        pass
    assert not telemetry.listening()


def test_a_turn_of_a_session_is_found_by_its_name(lines):
    with telemetry.log_events(lines):
        Span("chat", {"session_id": "user-7"}).start().stop(chat_result=ChatResult(thread=Thread()))
        Span("chat", {}).start().stop(chat_result=ChatResult(thread=Thread()))
    assert [fields.get("gen_ai.conversation.id") for _, _, fields in written(lines)] == ["user-7", None]


def test_after_the_block_nothing_is_written(lines):
    with telemetry.log_events(lines):
        assert telemetry.listening()
    assert not telemetry.listening()
    Span("chat", {}).start().stop()
    assert written(lines) == []


def test_a_call_that_is_not_chat_is_a_line_of_its_own(lines):
    usage = Usage(input_tokens=3)
    with telemetry.log_events(lines):
        Span("embed", {"model": "m"}).start().stop(
            response=EmbeddingResponse(usage=usage), usage=usage, error=None
        )
        failed = ImageAdapterError("content_filter")
        Span("image", {"operation": "edit"}).start().stop(
            {"image_count": 0}, response=None, usage=None, error=failed
        )
    (good, _, embedded), (bad, _, drawn) = written(lines)
    assert (good, embedded["gen_ai.usage.input_tokens"], "error.type" in embedded) == ("info", 3, False)
    assert (bad, drawn["error.type"], drawn["image_count"]) == ("warning", "content_filter", 0)


def test_a_response_is_a_quiet_line_by_the_names_of_http(lines):
    limits = {"requests": {"remaining": 9.0, "reset": 0.5}}
    about = {"request_id": "r", "provider": "openai", "model": "m", "attempt": 2}
    answer = {"status": 429, "server": "api.openai.com", "provider_request_id": None, "rate_limits": limits}
    with telemetry.log_events(lines):
        telemetry.emit("allm.adapter.response", {"duration": 0.25}, {**about, **answer})
    ((level, name, fields),) = written(lines)
    assert (level, name) == ("debug", "allm.adapter.response")
    assert fields["http.response.status_code"] == 429
    assert fields["server.address"] == "api.openai.com"
    assert fields["rate_limit.requests.remaining"] == 9.0
    assert fields["gen_ai.provider.name"] == "openai"
    assert (fields["duration"], fields["attempt"]) == (0.25, 2)
