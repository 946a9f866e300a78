"""Laws of folding."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    EVENTS,
    Message,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    TextCompleted,
    TextDelta,
    Thread,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from allm_actors.execution.fold import Fold, fold

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def cut(text, places):
    """The text in pieces, cut at these places."""
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@st.composite
def nonsense(draw):
    kind = draw(st.sampled_from(EVENTS))
    return kind(*[draw(anything) for _ in kind.__struct_fields__])


@given(st.text(), st.lists(st.integers(min_value=0)))
def test_a_reply_is_the_join_of_its_deltas_in_any_chunking(text, places):
    deltas = [TextDelta(piece) for piece in cut(text, places)]
    assert fold(deltas).response().output_text == text
    assert fold([MessageStarted(), *deltas, TextCompleted(text)]).response().output_text == text
    completed = MessageCompleted(Message(role="assistant", content=text), "stop")
    assert fold([MessageStarted(), *deltas, completed]).response().output_text == text
    assert fold([MessageStarted(), completed]).response().output_text == text


@given(st.text(), st.lists(st.integers(min_value=0)))
def test_arguments_are_the_join_of_their_fragments_in_any_chunking(text, places):
    events = [ToolCallStarted("c0", "t"), *(ToolCallDelta("c0", piece) for piece in cut(text, places))]
    assert fold(events).response().tool_calls[0].raw_arguments == text


@given(st.lists(nonsense() | anything, max_size=12))
def test_folding_is_total(events):
    reader = fold(events, Thread())
    reader.response()
    reader.step_result()
    reader.chat_result()


@given(st.lists(nonsense(), max_size=12), st.integers(0, 12))
def test_folding_in_two_parts_is_folding_at_once(events, place):
    whole = fold(events, Thread())
    parts = Fold(Thread()).apply_all(events[:place]).apply_all(events[place:])
    assert repr(parts.response()) == repr(whole.response())
    assert repr(parts.chat_result()) == repr(whole.chat_result())


usages = st.dictionaries(
    st.sampled_from(["input_tokens", "output_tokens", "total_tokens"]), st.none() | st.integers(0, 9)
)


@given(st.lists(usages))
def test_of_each_field_of_usage_the_last_that_was_said_stays(said):
    expected = {}
    for usage in said:
        expected |= {field: value for field, value in usage.items() if value is not None}
    assert fold([RawChunk(("usage", usage)) for usage in said]).response().usage == Usage(**expected)
