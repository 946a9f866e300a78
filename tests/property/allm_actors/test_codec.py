"""Laws of the two codecs: a round trip is identity, exactly, and reading is total."""

import math

import msgspec
import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from allm_actors.data import (
    EVENTS,
    ChatCompleted,
    Message,
    Ok,
    StoreError,
    Thread,
    ToolError,
    ValidationError,
)
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.codec.shapes import CODES, shape_of
from allm_actors.data.depth import DEEPEST_WRITTEN
from allm_actors.testing import strategies

VALUES = st.one_of(
    strategies.messages(),
    strategies.parts(),
    strategies.images(),
    strategies.tool_calls(),
    strategies.tools(),
    strategies.threads(open_calls=True),
    strategies.sessions(),
    strategies.requests(),
    strategies.responses(),
    strategies.usage(),
    strategies.step_results(),
    strategies.chat_results(),
    strategies.model_refs(),
    strategies.image_requests(),
    strategies.image_responses(),
    strategies.embedding_requests(),
    strategies.embedding_responses(),
    strategies.moderation_requests(),
    strategies.moderation_responses(),
    strategies.audios(),
    strategies.speech_requests(),
    strategies.speech_responses(),
    strategies.speech_events(),
    strategies.transcription_requests(),
    strategies.transcription_responses(),
    strategies.transcription_events(),
    strategies.questions(),
    strategies.classification_requests(),
    strategies.classification_responses(),
    strategies.errors(),
    strategies.handler_results(),
    strategies.events(),
)
LEAVES = st.one_of(
    strategies.json_values(),
    st.integers(),
    st.floats(allow_nan=False) | st.just(math.nan),
    st.binary(max_size=5),
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.text("a\ud83d\ude00", max_size=5),
    st.sampled_from([1, -1]).map(lambda sign: sign * 10**5000),
    strategies.messages(),
    strategies.errors(),
    st.builds(
        dict,
        __type__=st.sampled_from(
            ["ALLM.Message", "ALLM.Future", "tuple", "map", "text", "int", "value", "", 5, None]
        ),
    ),
)
KEYS = st.one_of(
    st.text(max_size=3),
    st.text("a\ud83d\ude00", max_size=3),
    st.integers(),
    st.none(),
    st.tuples(st.integers()),
    st.just("__type__"),
)


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        inner.map(Ok),
    )


ANYTHING = st.recursive(LEAVES, containers, max_leaves=4)


@given(VALUES)
def test_a_round_trip_through_json_is_identity(value):
    assert from_json(to_json(value)) == value


@given(VALUES)
def test_a_round_trip_through_bytes_is_identity(value):
    assert from_msgpack(to_msgpack(value)) == value


@given(ANYTHING)
def test_both_are_exact_for_whatever_metadata_holds(value):
    message = Message(role="user", content="hi", metadata={"it": value})
    stored = to_msgpack(message)
    assert to_msgpack(from_msgpack(stored)) == stored
    assert to_msgpack(from_json(to_json(message))) == stored


CODECS = pytest.mark.parametrize(
    ("write", "read"), [(to_json, from_json), (to_msgpack, from_msgpack)], ids=["JSON", "MessagePack"]
)
AROUND = 3  # levels around what is in a message's metadata: an envelope, its fields, the metadata


def nested(levels, around, leaf=None):
    """A message with so many levels of this in its metadata."""
    it = leaf
    for _ in range(levels):
        it = around(it)
    return Message(role="user", content="hi", metadata={"it": it})


@CODECS
@pytest.mark.parametrize("around", [lambda it: {"a": it}, lambda it: [it]], ids=["dict", "list"])
def test_what_is_nested_as_deep_as_may_be_written_is_read(write, read, around):
    value = nested(DEEPEST_WRITTEN - AROUND, around)
    assert read(write(value)) == value
    with pytest.raises(TypeError, match=f"at most {DEEPEST_WRITTEN} levels"):
        write(nested(DEEPEST_WRITTEN - AROUND + 1, around))


@CODECS
@pytest.mark.parametrize(
    "around",
    [
        lambda it: (it,),
        lambda it: {1: it},
        lambda it: {"__type__": "tuple", "data": it},
        lambda it: {"\ud83d": it},
        lambda it: [it, "\ud83d"],
        Ok,
        lambda it: nested(0, None, it),
        lambda it: Message(role="user", content="hi", metadata=[it]),
        lambda it: ToolError("handler_raised", cause=it),
        lambda it: Thread(messages=[nested(0, None, it)]),
    ],
    ids=[
        "tuple",
        "map",
        "tag",
        "half a key",
        "half a character",
        "value",
        "message",
        "misplaced",
        "error",
        "thread",
    ],
)
def test_what_can_be_written_can_be_read_by_who_has_called_a_lot_already(write, read, around):
    def called(times, what):
        return called(times - 1, what) if times else what()

    written = 0
    for levels in range(1, DEEPEST_WRITTEN + 1):
        value = nested(levels, around)
        try:
            data = write(value)
        except TypeError:
            break
        if levels > DEEPEST_WRITTEN // 8:  # the first ones are read by the laws above
            assert write(called(100, lambda data=data: read(data))) == data
        written = levels
    assert DEEPEST_WRITTEN // 8 < written < DEEPEST_WRITTEN


SOURCES = st.tuples(
    st.sampled_from(["binary", "base64", "url", "file", "ftp", 5]), st.sampled_from(["aGk=", "?", b"x"])
)
ODD = (
    ANYTHING
    | SOURCES
    | st.lists(st.integers(1, 9), min_size=2, max_size=2)
    | st.just({"type": "url", "value": "u"})
)


@given(VALUES, st.data())
def test_both_are_exact_for_whatever_stands_in_a_field(value, data):
    shape = shape_of(type(value))
    field = data.draw(st.sampled_from([field for field in shape.fields if field.kind != "absent"]))
    odd = data.draw(ODD | st.lists(ODD, max_size=2) | st.lists(ODD, max_size=2).map(tuple))
    items = dict(zip([each.name for each in shape.fields], shape.get(value), strict=True))
    try:
        value = shape.build(items | {field.name: odd})
    except (TypeError, ValueError):  # it refuses such a field itself
        reject()
    assume(shape.get(value)[shape.fields.index(field)] is not None or field.make_default() is None)
    assert to_msgpack(from_json(to_json(value))) == to_msgpack(value)


@given(VALUES)
def test_an_envelope_has_a_tag_and_the_known_fields(value):
    tree = msgspec.json.decode(to_json(value))
    shape = shape_of(type(value))
    assert list(tree) == ["__type__", "data"]
    assert tree["__type__"] == shape.tag
    assert set(tree["data"]) <= {field.key for field in shape.fields}


TAGS = st.sampled_from(
    [shape_of(cls).tag for cls in CODES]
    + ["tuple", "map", "bytes", "float", "text", "int", "value", "ALLM.Future"]
)
FIELDS = st.sampled_from(sorted({field.key for cls in CODES for field in shape_of(cls).fields}))
TREES = st.recursive(
    strategies.json_values(),
    lambda inner: st.builds(
        lambda tag, data: {"__type__": tag, "data": data},
        TAGS,
        st.dictionaries(FIELDS, inner, max_size=4) | st.lists(inner, max_size=2) | inner,
    ),
    max_leaves=6,
)


@given(st.text() | TREES.map(lambda tree: msgspec.json.encode(tree).decode()))
@example("[" * 100_000)
@example("1" * 5_000)
@example('{"__type__":"ALLM.Message","data":{"content":"\\ud800"}}')
@example("\ud800")
@example("NaN")
def test_any_text_is_a_value_or_a_validation_error(text):
    try:
        from_json(text)
    except ValidationError as refused:
        problems = refused.errors
    else:
        problems = [None]
    assert len(problems) == 1


CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 256) | st.text(max_size=2) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.builds(
            lambda code, fields: {None: [code, *fields]}, st.integers(0, 120), st.lists(inner, max_size=3)
        )
    ),
    max_leaves=6,
)


@given(
    st.binary()
    | CONTENTS.map(lambda tree: msgspec.msgpack.encode([1, tree]))
    | st.tuples(VALUES.map(to_msgpack), st.integers(0, 400), st.binary(max_size=2)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + len(cut[2]) :]
    )
)
@example(msgspec.msgpack.encode([1, {None: [3, "x"]}]))
def test_any_bytes_are_a_value_or_a_store_error(data):
    try:
        from_msgpack(data)
    except StoreError as refused:
        reason = refused.reason
    else:
        reason = None
    assert reason in (None, "corrupt", "newer_schema")


def test_every_value_and_event_has_a_tag_of_its_own():
    tags = {shape_of(cls).tag for cls in CODES}
    assert len(tags) == len(CODES)
    assert set(EVENTS) <= set(CODES)


@given(strategies.chat_results())
def test_an_event_inside_plain_data_comes_back(result):
    assert from_msgpack(to_msgpack([{"event": ChatCompleted(result)}])) == [{"event": ChatCompleted(result)}]
