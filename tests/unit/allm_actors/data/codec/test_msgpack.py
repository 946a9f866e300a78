"""Bytes: exact, compact, and refused by name when a later version wrote them."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from allm_actors.data import Message, Ok, Request, Session, StoreError, Thread, Tool, Usage
from allm_actors.data.codec import SCHEMA_VERSION, from_msgpack, to_msgpack
from allm_actors.data.codec.shapes import CODES, FIRST_CODE, shape_of
from allm_actors.data.depth import DEEPEST_WRITTEN

HI = Message(role="user", content="hi")


def refused(data):
    with pytest.raises(StoreError) as caught:
        from_msgpack(data)
    return caught.value.reason


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.0,
        -0.0,
        2**64,
        2**64 - 1,
        -(2**63),
        -(2**63) - 1,
        -(2**80),
        "",
        "\ud800",
        b"\x00",
        (),
        (1, (2, [3])),
        {None: 1, 2: (3,), "a": {}},
        {"\ud800": "\udfff", "a": "b"},
        [HI, {"m": HI}],
        Request(messages=[HI], temperature=1),
    ],
    ids=repr,
)
def test_plain_data_and_values_keep_their_types(value):
    back = from_msgpack(to_msgpack(value))
    assert back == value
    assert repr(back) == repr(value)


def test_trailing_defaults_take_no_room():
    assert len(to_msgpack(HI)) == 14
    assert len(to_msgpack(Usage())) < 10


def test_false_is_not_taken_for_a_default_of_zero():
    usage = Usage(total_cost=0)
    assert repr(from_msgpack(to_msgpack(usage))) == repr(usage)


def test_the_version_stands_in_front():
    assert msgspec.msgpack.decode(to_msgpack(None)) == [SCHEMA_VERSION, None]


def test_bytes_of_a_later_version_are_refused_by_name():
    assert refused(msgspec.msgpack.encode([SCHEMA_VERSION + 1, {"whatever": 1}])) == "newer_schema"
    assert (
        refused(msgspec.msgpack.encode([SCHEMA_VERSION, {None: [max(CODES.values()) + 1]}])) == "newer_schema"
    )
    assert refused(msgspec.msgpack.encode([SCHEMA_VERSION, {None: ["ALLM.Later", {}]}])) == "newer_schema"
    assert refused(msgspec.msgpack.encode([SCHEMA_VERSION, {None: [CODES[Ok], 1, 2]}])) == "newer_schema"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"nope",
        to_msgpack(HI)[:-1],
        to_msgpack(HI) + b"\x00",
        *map(msgspec.msgpack.encode, (1, [1], [0, 1], ["1", 1], [1, {None: 5}], [1, {None: []}])),
        msgspec.msgpack.encode([1, {None: [CODES[StoreError], "no such reason"]}]),
    ],
)
def test_other_bytes_are_corrupt(data):
    assert refused(data) == "corrupt"


KEY = "canary-7f3a9b2c4d5e6f70819"
BAD_ERROR = {None: [CODES[StoreError], KEY]}
LATER = {None: [250, KEY]}


def thread_of(message):
    return {None: [CODES[Thread], [{None: [CODES[Message], "user", "hi"]}, message]]}


def with_metadata(it):
    return {None: [CODES[Message], "user", "hi", None, None, {"a b": (it,)}]}


@pytest.mark.parametrize(
    ("tree", "reason", "words"),
    [
        (BAD_ERROR, "corrupt", ["$ is a StoreError that cannot be rebuilt (ValueError"]),
        (
            thread_of(with_metadata(BAD_ERROR)),
            "corrupt",
            ["$.messages[1].metadata['a b'][0] is a StoreError"],
        ),
        (thread_of(with_metadata({None: 5})), "corrupt", ["$.messages[1].metadata['a b'][0] is an object"]),
        (thread_of(with_metadata(LATER)), "newer_schema", ["type 250", "$.messages[1].metadata['a b'][0]"]),
        ([{None: [0, 1, {None: []}]}], "corrupt", ["$[0][1]"]),
        ({b"k": {None: []}}, "corrupt", ["$[a value of the type bytes]"]),
        ({None: [CODES[Ok], 1, 2]}, "newer_schema", ["a Ok", "more fields", "($)", "upgrade"]),
        ([{None: ["shop.Order", {}]}], "newer_schema", ["'shop.Order'", "($[0])", "codec.register"]),
    ],
    ids=range(8),
)
def test_a_refusal_says_where_and_what(tree, reason, words):
    with pytest.raises(StoreError) as caught:
        from_msgpack(msgspec.msgpack.encode([SCHEMA_VERSION, tree]))
    assert caught.value.reason == reason
    for word in words:
        assert word in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_refusal_says_what_the_bytes_are():
    for data, words in [
        (b"\xc1", "1 bytes that are not MessagePack (DecodeError: "),
        (msgspec.msgpack.encode(KEY), "they begin with a text of length 26"),
        (msgspec.msgpack.encode([1]), "they begin with a list of 1"),
    ]:
        with pytest.raises(StoreError) as caught:
            from_msgpack(data)
        assert words in str(caught.value)
    with pytest.raises(TypeError, match="from_msgpack takes bytes, got str"):
        from_msgpack("x")


def test_a_handler_is_refused():
    tool = Tool(name="x", description="", schema={}, handler=print)
    with pytest.raises(TypeError, match=r"list\[0\].handler cannot be encoded"):
        to_msgpack([tool])


def test_half_of_a_surrogate_pair_is_refused_where_the_room_for_it_is_used_up():
    value = "\ud800"
    for _ in range(DEEPEST_WRITTEN - 1):
        value = [value]
    with pytest.raises(TypeError, match="nested too deeply"):
        to_msgpack(value)


def test_the_codes_are_the_ones_that_stored_bytes_use():
    """Stored bytes have a code for each class and its fields in this order: append fields, take new codes.

    A class or a field that is new gets its line in the file here; a line that is there never changes.
    """
    assert min(CODES.values()) >= FIRST_CODE
    stored = json.loads(Path(__file__).with_name("stored_codes.json").read_text("utf-8"))
    assert {
        str(code): [cls.__name__, *(f.name for f in shape_of(cls).fields)] for cls, code in CODES.items()
    } == stored


def test_bytes_written_today_stay_readable():
    golden = "920181c0931aa2733181c092199181c09310a475736572a26869"
    session = Session(id="s1", thread=Thread(messages=[HI]))
    assert to_msgpack(session).hex() == golden
    assert from_msgpack(bytes.fromhex(golden)) == session


class TestRegister:
    def test_types_from_outside_travel_by_field_name(self):
        from allm_actors.data.codec import from_json, register, to_json

        @dataclasses.dataclass(frozen=True)
        class Dial:
            number: int
            label: str = ""
            seen: ClassVar[int] = 0

        register(Dial, "Test.Dial")
        for encode, decode in ((to_json, from_json), (to_msgpack, from_msgpack)):
            assert decode(encode(Dial(5))) == Dial(5)
            assert decode(encode(Ok({"dial": Dial(6, "x")}))) == Ok({"dial": Dial(6, "x")})
        assert from_json('{"__type__":"Test.Dial","data":{"number":7,"later":1}}') == Dial(7)

    def test_a_type_may_say_how_it_is_taken_apart(self):
        from allm_actors.data.codec import from_json, register, to_json

        class Box:
            def __init__(self, inside):
                self.inside = inside

        register(
            Box, "Test.Box", to_fields=lambda box: {"in": box.inside}, from_fields=lambda f: Box(f["in"])
        )
        assert from_json(to_json(Box((1, HI)))).inside == (1, HI)
        with pytest.raises(TypeError, match=r"Box\['in'\] cannot be encoded"):
            to_msgpack(Box(print))

    def test_a_taken_tag_and_a_shapeless_type_are_refused(self):
        from allm_actors.data.codec import register

        class Other:
            pass

        with pytest.raises(ValueError, match=r"'ALLM.Message' belongs to Message"):
            register(Other, "ALLM.Message")
        with pytest.raises(ValueError, match="Message already has an encoding"):
            register(Message, "Test.Message")
        with pytest.raises(TypeError, match="give to_fields and from_fields"):
            register(Other, "Test.Other")
