"""Which messages the model is sent: an unfinished answer only where the user goes on from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import Message, ToolCall
from allm_actors.execution.answers import to_send

ASKS, SAYS = Message(role="user", content="hi"), Message(role="assistant", content="hello")
CUT = Message(role="assistant", content="hel", metadata={"partial": True, "finish_reason": None})
BROKEN = Message(role="assistant", content="hel", metadata={"finish_reason": "error"})
CALL = ToolCall(id="c0", name="look", arguments={})
CALLS = Message(
    role="assistant", content="", metadata={"finish_reason": "error", "tool_calls": [CALL], "partial": True}
)
SYSTEM = Message(role="system", content="Be brief.")
TOLD = Message(role="tool", content="x", tool_call_id="c0")


@pytest.mark.parametrize("unfinished", [CUT, BROKEN], ids=["cut off", "broken"])
@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        ([ASKS], [], False),
        ([ASKS, CALLS, TOLD], [], False),
        ([ASKS], [SAYS], False),
        ([ASKS], [SAYS, ASKS], False),
        ([ASKS, BROKEN], [], False),
        ([ASKS], [ASKS], True),
        ([ASKS], [ASKS, SAYS, ASKS], True),
        ([], [], True),  # there would be nothing left
        ([SYSTEM], [], True),  # nor would there be for those who take the system message out
        ([SYSTEM, ASKS], [SYSTEM], False),  # for them it ends with the answer
        ([ASKS], [SYSTEM, ASKS], True),
    ],
)
def test_an_unfinished_answer_is_sent_where_the_user_goes_on_from_it(unfinished, before, after, sent):
    messages = [*before, unfinished, *after]
    kept = [*messages] if sent else [each for each in messages if each not in (CUT, BROKEN)]
    assert to_send(messages) == kept


@pytest.mark.parametrize(
    "last", [SAYS, CALLS, TOLD, ASKS, Message(role="assistant", content="", metadata=None)]
)
def test_a_finished_conversation_is_sent_as_it_is(last):
    messages = [ASKS, SAYS, ASKS, last]
    assert to_send(messages) is messages
    assert to_send([]) == []


@given(st.lists(st.sampled_from([SYSTEM, ASKS, SAYS, CUT, BROKEN, CALLS, TOLD])))
def test_only_unfinished_answers_are_left_out_and_the_last_word_is_never_one(messages):
    sent = to_send(messages)
    finished = [each for each in messages if each not in (CUT, BROKEN)]
    assert [each for each in sent if each not in (CUT, BROKEN)] == finished
    said = [each for each in sent if each != SYSTEM]
    assert all(each == SYSTEM for each in finished) or said[-1] not in (CUT, BROKEN)
    assert to_send(sent) == sent
