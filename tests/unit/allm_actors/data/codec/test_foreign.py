"""What a codec makes of a class that it does not know: `Response.parsed`, subclasses, and refusals."""

import dataclasses
import datetime
import enum
import uuid

import msgspec
import pytest

from allm_actors.data import ImageRequest, Message, Ok, Response, ToolCall
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.codec.foreign import refusal

WRITERS = {
    "json": lambda value: from_json(to_json(value)),
    "msgpack": lambda value: from_msgpack(to_msgpack(value)),
}
DAY = datetime.date(2026, 5, 4)


@dataclasses.dataclass
class Order:
    number: int
    due: datetime.date = DAY
    lines: list["Order"] = dataclasses.field(default_factory=list)


class Point(msgspec.Struct):
    x: int


class Model:
    def __init__(self, **fields):
        self.fields = fields

    def model_dump(self, *, mode):
        return {"mode": mode, **self.fields}


class Pair(tuple):
    __slots__ = ()


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "something else"


class Whole(int):
    def __int__(self):
        return -1


class Word(enum.Enum):
    YES = "yes"
    CALL = print


PARSED = {
    "none": (None, None),
    "text": ("a", "a"),
    "bytes": (b"\xff", b"\xff"),
    "a dataclass": (Order(7), {"number": 7, "due": "2026-05-04", "lines": []}),
    "dataclasses in one": (
        Order(7, lines=[Order(8)]),
        {"number": 7, "due": "2026-05-04", "lines": [{"number": 8, "due": "2026-05-04", "lines": []}]},
    ),
    "a struct": (Point(1), {"x": 1}),
    "a model": (Model(a=1), {"mode": "json", "a": 1}),
    "a model in a dict in a list": ([{"a": Model()}], [{"a": {"mode": "json"}}]),
    "a tuple": ((Point(1), DAY), ({"x": 1}, "2026-05-04")),
    "an enum": (Word.YES, "yes"),
    "keys": ({1: Point(1)}, {1: {"x": 1}}),
    "keys of what is converted": (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "one of ours": (ToolCall(id="c", name="t", arguments={}), ToolCall(id="c", name="t", arguments={})),
    "one of ours in a list": (
        [Ok(Message(role="user", content="hi"))],
        [Ok(Message(role="user", content="hi"))],
    ),
}


@pytest.mark.parametrize("codec", WRITERS)
@pytest.mark.parametrize("parsed", PARSED)
def test_what_an_answer_was_parsed_to_is_written_as_data(parsed, codec):
    given, written = PARSED[parsed]
    assert WRITERS[codec](Response(output_text="a", parsed=given)).parsed == written


REFUSED = {
    "a model": (Ok(Model()), "Ok.value", "its type is Model; use plain data (text,"),
    "an answer": (
        Response(parsed=[Point(1), object()]),
        "Response.parsed[1]",
        "its type is object; use plain data",
    ),
    "a model that dumps no data": (
        Response(parsed=Model(a=object())),
        "Response.parsed",
        "its type is Model; use",
    ),
    "a function": (
        Ok([print]),
        "Ok.value[0]",
        "it is a function or another callable; encode the tool without its",
    ),
    "an exception": (Ok({"a": KeyError()}), "Ok.value['a']", "it is a KeyError; use str(error), or one of"),
    "an enum": (Ok((Word.CALL,)), "Ok.value[0]", "it is a function or another"),
    "under a number": (Ok({7: object()}), "Ok.value[7]", "its type is object; use"),
    "under bytes": (Ok({b"k": object()}), "Ok.value[a bytes]", "its type is object; use"),
    "a key": (
        ImageRequest(prompt="p", options={"api_key": "k"}),
        "ImageRequest.options['api_key']",
        "a key is never",
    ),
}


@pytest.mark.parametrize("write", [to_json, to_msgpack])
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_where_and_why(case, write):
    value, place, why = REFUSED[case]
    with pytest.raises(TypeError) as caught:
        write(value)
    assert str(caught.value).startswith(f"{place} cannot be encoded: {why}")


def test_a_circle_and_a_depth_are_called_so():
    circle: list = []
    circle.append(circle)
    assert str(refusal(Ok(circle))) == "Ok.value[0] cannot be encoded: it contains itself"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert "Ok cannot be encoded: it is nested too deeply; at most" in str(refusal(Ok(deep)))


SUBCLASSES = [
    (Text("a"), "a"),
    (Whole(3), 3),
    (type("Real", (float,), {})(2.5), 2.5),
    (type("Raw", (bytes,), {})(b"x"), b"x"),
    (Pair((1, 2)), (1, 2)),
    (type("Many", (list,), {})([1]), [1]),
    (type("Map", (dict,), {})({"a": 1}), {"a": 1}),
]


@pytest.mark.parametrize("codec", WRITERS)
@pytest.mark.parametrize(("given", "written"), SUBCLASSES)
def test_a_subclass_is_written_as_what_it_is_of(given, written, codec):
    value = WRITERS[codec](Ok(given)).value
    assert value == written
    assert type(value) is type(written)
