"""What the end of a call means, row by row."""

import functools
import math

import msgspec
import pytest

from allm_actors.data import (
    AskUser,
    AskUserRequested,
    EngineError,
    Err,
    Halt,
    Message,
    Ok,
    Request,
    Thread,
    ToolCall,
    ToolError,
    ToolHalt,
    ToolResultEncoded,
)
from allm_actors.data.rules.validate import validate
from allm_actors.execution import tool_errors
from allm_actors.execution.gates import GATES
from allm_actors.execution.tools import (
    RESERVED_HALTS,
    as_policy,
    encode_tool_result,
    repair,
    settle,
    settle_error,
)

CALL = ToolCall(id="c0", name="echo", arguments={})
BROKEN = ToolCall(id="c0", name="echo", arguments={}, metadata={"arguments_error": "line 1"})
UNKNOWN = "the outcome is unknown"


def content(outcome):
    assert outcome.message.tool_call_id == "c0"
    assert outcome.message.role == "tool"
    return outcome.message.content


def is_tool_error(outcome):
    return outcome.halt["halted_reason"] == "tool_error" and isinstance(outcome.event, ToolHalt)


# --- what the handler gave ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [{"x": 1}, Ok({"x": 1})])
def test_a_value_is_encoded_and_the_chat_goes_on(result):
    outcome = settle(CALL, result)
    assert outcome.raw == Ok({"x": 1})
    assert outcome.event == ToolResultEncoded("c0", '{"x":1}')
    assert (content(outcome), outcome.halt) == ('{"x":1}', {})


class Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("caf\udce9.txt", "caf\ufffd.txt"),
        (["caf\udce9.txt", "b"], '["caf\ufffd.txt","b"]'),
        ({"caf\udce9.txt": 1}, '{"caf\ufffd.txt":1}'),
        (Named("\udce9"), '{"name":"\ufffd"}'),
        (("caf\udce9.txt", {"in": ("\udce9",)}), '["caf\ufffd.txt",{"in":["\ufffd"]}]'),
        (Err("no caf\udce9.txt"), '{"error":"no caf\ufffd.txt"}'),
        (OSError("no caf\udce9.txt"), None),
        (Halt("done", "\udce9"), "\ufffd"),
    ],
    ids=["text", "list", "key", "struct", "tuple", "error", "raised", "halt"],
)
def test_a_file_whose_name_is_no_text_can_be_told_of(result, told):
    said = content(settle(CALL, result))
    said.encode()
    assert "\ufffd" in said if told is None else said == told


NAMES = frozenset({"ash", "birch", "cedar", "elm", "fir", "oak", "pine", "yew"})


@pytest.mark.parametrize("value", [NAMES, {"k": NAMES}, {1: NAMES}, [{2: {"\udce9": NAMES}}]])
def test_a_set_has_one_order_wherever_it_is(value):
    listed = '["ash","birch","cedar","elm","fir","oak","pine","yew"]'
    assert listed in content(settle(CALL, value))  # texts have another hash in each process


def test_a_set_of_what_cannot_be_compared_has_a_text():
    mixed = {1, "b", None, frozenset({"c", 2}), ("d",)}
    listed = '[1,["d"],[2,"c"],"b",null]'
    assert content(settle(CALL, mixed)) == listed
    assert content(settle(CALL, {"z": [(mixed,)], "a": 1})) == f'{{"a":1,"z":[[{listed}]]}}'
    assert content(settle(CALL, {1: Point(x={None, "a"}, y=0), "b": Model()})).startswith('{"1":{"')
    assert content(settle(CALL, Point(x={1, "a"}, y=0))) in ('{"x":[1,"a"],"y":0}', '{"x":["a",1],"y":0}')


def test_a_question_about_such_a_file_can_be_stored_and_sent():
    assert settle(CALL, AskUser("Delete caf\udce9.txt?")).event.question == "Delete caf\ufffd.txt?"


def test_an_encoder_may_give_half_a_surrogate_pair():
    assert content(settle(CALL, 1, encoder=lambda value: "\udce9")) == "\ufffd"


def test_a_value_without_an_encoding_is_an_error():
    outcome = settle(CALL, object())
    assert isinstance(outcome.raw, Err)
    assert outcome.raw.reason.reason == "encoding_failed"
    assert "cannot be encoded" in content(outcome)
    assert isinstance(outcome.raw.reason.__cause__, TypeError)
    assert "object has no JSON form" in outcome.raw.reason.cause


def test_an_error_keeps_nothing_of_what_led_an_encoder_to_it():
    def picky(value):
        try:
            return {}[value]
        except KeyError:
            raise ValueError("only names") from None

    cause = settle(CALL, 1, encoder=picky).raw.reason.__cause__
    assert isinstance(cause, ValueError)
    assert (cause.__context__, cause.__traceback__) == (None, None)


def test_an_encoder_that_gives_no_text_is_an_error():
    assert settle(CALL, 1, encoder=lambda value: 5).raw.reason.reason == "encoding_failed"


def test_an_error_value_is_told_to_the_model():
    outcome = settle(CALL, Err("not today"))
    assert (outcome.raw, content(outcome), outcome.halt) == (Err("not today"), '{"error":"not today"}', {})


@pytest.mark.parametrize("wrap", [lambda error: error, Err])
def test_what_a_handler_raises_is_told_to_the_model(wrap):
    outcome = settle(CALL, wrap(ValueError("boom")))
    error = outcome.raw.reason
    assert (error.reason, error.tool_name, error.tool_call_id) == ("handler_raised", "echo", "c0")
    assert error.cause == "ValueError: boom"
    assert isinstance(error.__cause__, ValueError)
    assert content(outcome) == '{"error":"echo raised ValueError: boom"}'


def test_a_handler_that_leaves_is_an_error_like_another():
    assert settle(CALL, SystemExit(3)).raw.reason.reason == "handler_exit"


def test_an_error_of_this_library_stays_what_it_is():
    error = ToolError("not_found")
    assert settle(CALL, error).raw == Err(error)


def test_a_question_waits_for_the_user():
    outcome = settle(CALL, AskUser("which?", choices=["A"]))
    assert outcome.event == AskUserRequested("c0", "echo", "which?", {"choices": ["A"]})
    assert content(outcome) == "<awaiting user response>"
    assert outcome.halt == {
        "halted_reason": "ask_user",
        "pending_question": "which?",
        "pending_tool_call_id": "c0",
        "ask_user_opts": {"choices": ["A"]},
    }


def test_a_question_is_a_text():
    assert settle(CALL, AskUser(5)).raw.reason.reason == "invalid_return"


def test_a_halt_ends_the_chat_with_its_reason():
    outcome = settle(CALL, Halt("plan", {"ok": 1}))
    assert outcome.event == ToolHalt("c0", "plan", {"ok": 1}, '{"ok":1}')
    assert outcome.halt == {"halted_reason": "plan", "halt_tool_call_id": "c0", "halt_result": {"ok": 1}}


@pytest.mark.parametrize("reason", [*sorted(RESERVED_HALTS), "", None, 5])
def test_a_halt_may_not_take_a_reason_of_the_loop(reason):
    outcome = settle(CALL, Halt(reason))
    assert outcome.raw.reason.reason == "invalid_return"
    assert outcome.raw.reason.metadata == {"reserved_halt_atom": str(reason)}
    assert outcome.raw.reason.message.endswith(f"must not halt with the reason {reason!r}")
    assert outcome.halt == {}


class Mute:
    """Whose text is out of order."""

    def __repr__(self):
        raise RuntimeError("no words")


def test_a_reason_that_has_no_text_is_as_good_as_any_that_is_none():
    error = settle(CALL, Halt(Mute())).raw.reason
    assert (error.reason, error.metadata) == ("invalid_return", {"reserved_halt_atom": "<Mute>"})


def test_every_reason_of_the_loop_is_reserved():
    assert {gate.reason for gate in GATES} - {None} | {"cancelled", "interrupted"} <= RESERVED_HALTS


def test_a_halt_whose_result_has_no_encoding_is_an_error():
    assert settle(CALL, Halt("plan", object())).raw.reason.reason == "encoding_failed"


# --- what the policy says -----------------------------------------------------------------------------------------


def test_under_halt_an_error_ends_the_chat():
    outcome = settle(CALL, Err("no"), policy="halt")
    assert outcome.event == ToolHalt("c0", "tool_error", "no", '{"error":"no"}')
    assert outcome.halt == {"halted_reason": "tool_error", "halt_tool_call_id": "c0"}


def test_a_policy_may_answer_in_the_tools_place():
    outcome = settle(CALL, Err("no"), policy=lambda call, error: ("continue", {"sorry": error}))
    assert (outcome.raw, content(outcome), outcome.halt) == (Ok({"sorry": "no"}), '{"sorry":"no"}', {})


def test_a_policy_that_answers_without_an_encoding_halts():
    outcome = settle(CALL, Err("no"), policy=lambda call, error: ("continue", object()))
    assert is_tool_error(outcome)
    assert outcome.event.result.reason == "encoding_failed"


@pytest.mark.parametrize("decision", ["continue", "halt"])
def test_a_policy_may_decide_like_a_policy(decision):
    assert settle(CALL, Err("no"), policy=lambda call, error: decision) == settle(
        CALL, Err("no"), policy=decision
    )


def test_a_policy_that_raises_halts():
    outcome = settle(CALL, Err("no"), policy=lambda call, error: {}["x"])
    assert is_tool_error(outcome)
    assert outcome.event.result.metadata["on_tool_error_raised"] is True
    assert "KeyError" in str(outcome.halt["on_tool_error_exception"])


def test_what_a_policy_raises_stays_itself_when_it_can_be_stored():
    error = EngineError("missing_key")

    def policy(call, reason):
        raise error

    assert settle(CALL, Err("no"), policy=policy).halt["on_tool_error_exception"] is error


class Array:
    """As those of NumPy and pandas: what `==` gives has no truth."""

    def __eq__(self, other):
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None


@pytest.mark.parametrize("decision", [None, 42, ("halt", 1), ["continue"], Array(), [Array(), 1]])
def test_a_policy_that_says_anything_else_halts(decision):
    outcome = settle(CALL, Err("no"), policy=lambda call, error: decision)
    assert is_tool_error(outcome)
    assert outcome.event.result.metadata == {"on_tool_error_invalid": True}


@pytest.mark.parametrize(
    "result", [Err("no"), ValueError("no"), object(), Halt("completed"), AskUser(5), Halt("x", object())]
)
def test_a_policy_is_asked_once(result):
    heard = []

    def policy(call, error):
        heard.append((call, error))
        return ("continue", object())

    settle(CALL, result, policy=policy)
    assert len(heard) == 1
    assert heard[0][0] is CALL


def test_an_error_has_a_text_where_the_encoder_has_none():
    def picky(value):
        raise TypeError("only dicts")

    assert content(settle_error(CALL, "no", encoder=picky)) == '{"error":"no"}'


def test_an_encoder_that_failed_is_not_asked_to_tell_of_it():
    heard = []

    def picky(value):
        heard.append(value)
        raise TypeError("only dicts")

    assert "cannot be encoded: TypeError: only dicts" in content(settle(CALL, 1, encoder=picky))
    assert heard == [1]


def test_a_custom_encoder_writes_errors_too():
    assert content(settle(CALL, Err("no"), encoder=lambda value: f"<{value.reason}>")) == "<no>"


@pytest.mark.parametrize("value", [None, "continue"])
def test_the_default_policy_goes_on(value):
    assert as_policy(value) == "continue"


def test_functions_of_two_arguments_are_policies():
    for function in (
        lambda call, error: "halt",
        functools.partial(lambda a, b, c: "halt", 1),
        lambda *args: "halt",
        max,
    ):
        assert as_policy(function) is function
    assert as_policy("halt") == "halt"


@pytest.mark.parametrize("value", ["explode", 5, lambda call: "halt", ToolCall, True])
def test_anything_else_is_no_policy(value):
    with pytest.raises(ValueError, match="on_tool_error must be"):
        as_policy(value)


# --- the encoder --------------------------------------------------------------------------------------------------


class Point(msgspec.Struct):
    y: int
    x: int


class Model:
    def model_dump(self, mode):
        return {"mode": mode}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("as it is", "as it is"),
        ({"b": 1, "a": [True, None, 1.5]}, '{"a":[true,null,1.5],"b":1}'),
        ({2: "x"}, '{"2":"x"}'),
        ({"b", "a"}, '["a","b"]'),
        (None, "null"),
        (42, "42"),
        (True, "true"),
        ("é", "é"),
        (["é"], '["é"]'),
        (Ok({"x": 1}), '{"ok":{"x":1}}'),
        (Err("no"), '{"error":"no"}'),
        (Err(("a", 1)), '{"error":"(\'a\', 1)"}'),
        (Err(ToolError("timeout", message="too late")), '{"error":"too late"}'),
        (Err(ValueError("boom")), '{"error":"ValueError: boom"}'),
        (Err(ValueError()), '{"error":"ValueError"}'),
        (Point(y=1, x=2), '{"y":1,"x":2}'),
        ([Model()], '[{"mode":"json"}]'),
        ({1: Model(), "b": 2}, '{"1":{"mode":"json"},"b":2}'),
        ({"a": math.nan, "b": [math.inf]}, '{"a":null,"b":[null]}'),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_has_one_text(value, text):
    assert encode_tool_result(value) == text
    assert encode_tool_result(value) == encode_tool_result(value)


def test_equal_values_have_equal_texts():
    assert encode_tool_result({"a": 1, "b": 2}) == encode_tool_result({"b": 2, "a": 1})


def test_what_json_cannot_carry_is_refused():
    with pytest.raises((TypeError, NotImplementedError)):
        encode_tool_result({"f": print})


async def pages():
    yield 1


@pytest.mark.parametrize("generator", [(page for page in [1]), pages()], ids=["plain", "asynchronous"])
def test_a_generator_is_refused_with_what_to_do(generator):
    with pytest.raises(TypeError, match="a generator has no JSON form, and it was not run; return a list"):
        encode_tool_result([generator])


def test_an_object_that_cannot_even_be_shown_has_a_text():
    class Awful:
        def __repr__(self):
            raise RuntimeError

    assert encode_tool_result(Err(Awful())) == '{"error":"<Awful>"}'


# --- errors that never reached a handler --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (tool_errors.unknown_tool(CALL, ("a", "b")), "tool echo not in engine.tools; the tools are: a, b"),
        (tool_errors.unknown_tool(CALL), "there are no tools"),
        (tool_errors.invalid_arguments(CALL), "not a JSON object"),
        (tool_errors.invalid_arguments(BROKEN), "line 1"),
        (tool_errors.not_found(CALL), "no handler"),
        (tool_errors.timed_out(CALL, 2.5), "within 2.5 s"),
        (tool_errors.timed_out(CALL), "in time"),
        (tool_errors.worker_crashed(CALL, "out of memory"), "out of memory"),
        (tool_errors.not_begun(CALL, "no room"), "echo was not started: no room"),
        (tool_errors.call_cancelled(CALL, "cancelled", started=True), f"cancelled: {UNKNOWN}"),
        (
            tool_errors.call_cancelled(CALL, "interrupted", started=False),
            "interrupted: the call was not started",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_says_what_happened_in_words_a_model_can_act_on(error, words):
    assert words in content(settle_error(CALL, error))
    assert type(error).from_fields(error.to_fields()) == error


# --- repair -------------------------------------------------------------------------------------------------------


def calling(*ids):
    made = [ToolCall(id=call_id, name="t", arguments={}) for call_id in ids]
    return Message(role="assistant", content="", metadata={"tool_calls": made})


def answer(call_id):
    return Message(role="tool", content="x", tool_call_id=call_id)


USER = Message(role="user", content="hi")


def answers(thread):
    return [(m.tool_call_id, "unknown" in m.content) for m in thread.messages if m.role == "tool"]


def test_a_whole_thread_needs_no_repair():
    thread = Thread.from_messages([USER, calling("c0"), answer("c0")])
    assert repair(thread) is thread


def test_an_open_call_is_answered_with_what_is_known():
    thread = repair(Thread.from_messages([USER, calling("c0", "c1"), answer("c0")]))
    assert answers(thread) == [("c0", False), ("c1", True)]
    assert thread.last.content == '{"error":"interrupted: the outcome is unknown"}'
    validate(Request(messages=thread.messages))


def test_an_open_call_in_the_middle_is_answered_where_it_was_made():
    thread = repair(
        Thread(messages=[USER, calling("c0"), USER, calling("c0"), answer("c0")], metadata={"k": 1})
    )
    assert [message.role for message in thread.messages] == [
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
        "tool",
    ]
    assert thread.metadata == {"k": 1}
    validate(Request(messages=thread.messages))


def test_a_call_somebody_waits_for_stays_open():
    thread = repair(Thread.from_messages([USER, calling("c0", "m1")]), keep={"m1"})
    assert answers(thread) == [("c0", True)]
