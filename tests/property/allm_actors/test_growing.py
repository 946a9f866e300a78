"""What was valid stays valid: a conversation that grows is judged as one that is seen for the first time."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from allm_actors import Message, Request, Tool, ToolCall, ValidationError, validate
from allm_actors.data.growing import Growing

IDS = st.sampled_from(["a", "b"])
CALLS = st.lists(IDS.map(lambda id: ToolCall(id=id, name="f", arguments={})), max_size=2)
MESSAGES = st.one_of(
    st.just(Message(role="user", content="hi")),
    IDS.map(lambda id: Message(role="tool", content="1", tool_call_id=id)),
    CALLS.map(lambda calls: Message(role="assistant", content="", metadata={"tool_calls": calls})),
    st.just(Message(role="nobody", content=3)),  # type: ignore[arg-type]
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Message]:
    """Messages that can be sent: a question, or calls that are all answered."""
    calls = draw(st.lists(IDS, unique=True, max_size=2))
    if not calls:
        return [Message(role="user", content="hi")]
    asked = [ToolCall(id=id, name="f", arguments={}) for id in calls]
    answers = [Message(role="tool", content="1", tool_call_id=id) for id in draw(st.permutations(calls))]
    return [Message(role="assistant", content="", metadata={"tool_calls": asked}), *answers]


def errors_of(check: Callable[..., object], *args: object) -> object:
    try:
        check(*args)
    except ValidationError as error:
        return error.errors
    return None


@given(st.lists(rounds(), min_size=1, max_size=4), st.lists(MESSAGES, max_size=3))
def test_a_growing_conversation_is_judged_as_validate_judges_it(
    valid: list[list[Message]], rest: list[Message]
) -> None:
    growing, messages = Growing(Request(messages=[])), []
    for more in [*valid, *([message] for message in rest)]:
        messages = [*messages, *more]
        for _ in range(2):  # the same are asked for again where a call is opened before its turn begins
            judged = errors_of(growing.with_messages, messages)
            assert judged == errors_of(validate, Request(messages=messages))


@given(rounds(), MESSAGES, rounds())
def test_another_conversation_is_looked_at_anew(
    first: list[Message], other: Message, last: list[Message]
) -> None:
    growing = Growing(Request(messages=[]))
    growing.with_messages(first)
    messages = [other for _ in first] + last
    assert errors_of(growing.with_messages, messages) == errors_of(validate, Request(messages=messages))


def test_what_is_no_message_is_judged_too() -> None:
    growing = Growing(Request(messages=[], temperature=3.0))
    hi = Message(role="user", content="hi")
    assert errors_of(growing.with_messages, [hi]) == [("temperature", "out_of_range")]


def test_a_reader_may_change_a_request_without_changing_the_next_one() -> None:
    tool, cache = Tool(name="f", description="", schema={}), {"key": "k", "retention": "short"}
    growing = Growing(Request(messages=[], tools=[tool], options={"seed": 1}, prompt_cache=dict(cache)))
    messages = [Message(role="user", content="hi")]
    for _ in range(2):
        request = growing.with_messages(messages)
        assert (request.messages, request.tools, request.options) == (messages, [tool], {"seed": 1})
        assert request.prompt_cache == cache
        for held in (request.messages, request.tools, request.options, request.prompt_cache):
            held.clear()
