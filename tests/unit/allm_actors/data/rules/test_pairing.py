"""An answer belongs behind its call, in the order of the calls; who looks for open calls finds all that are."""

from hypothesis import given
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.data import Message, Request, Thread, ToolCall
from allm_actors.data.rules.pairing import are_paired, behind_their_calls, open_calls
from allm_actors.data.rules.validate import validate
from allm_actors.execution.tools import repair


def calling(*ids):
    calls = [ToolCall(id=id, name="look", arguments={}) for id in ids]
    return Message(role="assistant", content="", metadata={"tool_calls": calls})


def answer(id):
    return Message(role="tool", content=f"of {id}", tool_call_id=id)


HI, HURRY = allm.user("hi"), allm.user("hurry")


@st.composite
def late_answers(draw):
    """A valid conversation whose answers may come after other messages, and before the next use of their id."""
    messages = [HI]
    for step in range(draw(st.integers(0, 4))):
        ids = [f"c{n}" if draw(st.booleans()) else f"s{step}.{n}" for n in range(draw(st.integers(0, 3)))]
        said = [allm.user(f"u{step}.{n}") for n in range(draw(st.integers(0, 2)))]
        messages += [calling(*ids), *draw(st.permutations([*map(answer, ids), *said]))]
    return messages


def is_near(messages):
    """Whether nothing but the answers to earlier calls of the same message stands between a call and its answer."""
    near = []
    for message in messages:
        if message.role != "tool":
            near = [call.id for call in message.tool_calls]
        elif message.tool_call_id not in near:
            return False
        else:
            del near[: near.index(message.tool_call_id) + 1]
    return True


@given(late_answers())
def test_every_answer_comes_behind_its_call_and_all_else_stays_in_its_order(messages):
    validate(Request(messages=messages))
    moved = behind_their_calls(messages)
    validate(Request(messages=moved))
    assert are_paired(messages)
    assert are_paired(moved)
    assert is_near(moved)
    assert sorted(map(id, moved)) == sorted(map(id, messages))
    assert [m for m in moved if m.role != "tool"] == [m for m in messages if m.role != "tool"]
    assert (moved is messages) == is_near(messages)
    assert behind_their_calls(moved) is moved


@given(late_answers(), st.data())
def test_what_is_repaired_answers_exactly_what_is_open(messages, data):
    """Also where an answer is late, which an earlier repair took for none."""
    lost = data.draw(st.sets(st.sampled_from([id(m) for m in messages if m.role == "tool"] or [0])))
    left = [message for message in messages if id(message) not in lost]
    thread = repair(Thread.from_messages(left))
    validate(Request(messages=thread.messages))
    added = [message for message in thread.messages if not any(message is other for other in left)]
    assert are_paired(left) == (added == [])
    assert all(open_calls(left).values())
    assert len(added) == sum(map(len, open_calls(left).values())) == len(lost & {id(m) for m in messages})
    assert [m for m in thread.messages if any(m is other for other in left)] == left


def test_the_answers_of_two_steps_find_their_own():
    messages = [HI, calling("a", "b"), HURRY, answer("b"), calling("c"), answer("a"), HURRY, answer("c")]
    hi, ab, hurry, b, c, a, again, of_c = messages
    assert behind_their_calls(messages) == [hi, ab, a, b, hurry, c, of_c, again]


def test_where_the_model_would_go_on_with_what_it_said_meanwhile_the_answer_stays():
    wait = allm.assistant("wait")
    messages = [HI, calling("a"), HURRY, wait, answer("a")]
    assert behind_their_calls(messages) is messages
    for last in (HURRY, wait):
        hi, call, hurry, _, late, end = [*messages, last]
        assert behind_their_calls([*messages, last]) == [hi, call, late, hurry, wait, end]


def test_answers_that_stay_are_in_the_order_of_their_calls_too():
    hi, ab, wait, b, a = messages = [HI, calling("a", "b"), allm.assistant("wait"), answer("b"), answer("a")]
    assert behind_their_calls(messages) == [hi, ab, wait, a, b]


def test_what_looks_like_the_calls_of_somebody_else_is_never_answered():
    said = Message(role="user", content="", metadata=calling("b", "a").metadata)
    asked, b, a, wait = calling("a", "b"), answer("b"), answer("a"), allm.assistant("wait")
    assert behind_their_calls([asked, said, b, a]) == [asked, a, b, said]
    assert behind_their_calls([asked, said, wait, b, a]) == [asked, said, wait, a, b]  # they stay: see above


def test_of_two_calls_of_one_id_the_first_is_answered_first():
    messages = [HI, calling("a", "b", "a"), allm.tool_result("a", 1), answer("b"), allm.tool_result("a", 2)]
    assert behind_their_calls(messages) is messages
    hi, asked, first, b, second = messages
    assert behind_their_calls([hi, asked, b, first, second]) == messages


def test_two_calls_of_one_id_are_repaired_once():
    """No answer can tell them apart, and `validate` says so."""
    thread = repair(Thread.from_messages([HI, calling("a", "a"), answer("a")]))
    assert [message.role for message in thread.messages] == ["user", "assistant", "tool"]
    assert repair(thread) is thread


def test_an_id_that_is_used_again_is_that_of_the_nearest_call():
    messages = [calling("a"), answer("a"), calling("a"), HURRY, answer("a")]
    assert behind_their_calls(messages) == [messages[0], messages[1], messages[2], messages[4], HURRY]


def test_an_answer_to_nothing_stays_where_it_is():
    x, hi, ab, a, y, b = messages = [answer("x"), HI, calling("a", "b"), *map(answer, "ayb")]
    assert behind_their_calls(messages) is messages
    assert behind_their_calls([x, hi, ab, b, y, a]) == [x, hi, ab, a, b, y]


def test_answers_to_calls_of_two_messages_are_not_put_in_each_others_place():
    asked, again = calling("a"), calling("a")
    first = Message(role="tool", content="of the second", tool_call_id="a")
    second = Message(role="tool", content="of the first", tool_call_id="a")
    messages = [HI, asked, again, allm.assistant("wait"), first, second]
    assert behind_their_calls(messages) is messages
