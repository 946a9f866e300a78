"""Each field of each encoded value: what is missing is a default, what is not known is refused or passed on.

The list is `CODES`, from which both codecs are compiled; a new value or a new closed field is tested without being
named here.
"""

import json

import msgspec
import pytest

import allm_actors as allm
from allm_actors.data import AllmError, ValidationError, errors
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.codec.shapes import CODES, shape_of

SHAPES = [shape_of(cls) for cls in CODES]
ERRORS = [shape for shape in SHAPES if issubclass(shape.cls, AllmError)]
CLOSED = [(shape, field) for shape in SHAPES for field in shape.fields if field.kind == "closed"]


def name_of(value):
    return value.key if hasattr(value, "key") else value.cls.__name__


def read(shape, **data):
    return from_json(json.dumps({"__type__": shape.tag, "data": data}))


def least(shape):
    """The least that a value of this shape needs."""
    if issubclass(shape.cls, AllmError):
        return {"reason": min(shape.cls.reasons)}
    return {"question": "?"} if shape.tag == "ALLM.AskUser" else {}


def test_every_error_and_every_value_of_the_public_surface_has_an_encoding():
    assert {getattr(errors, name) for name in errors.__all__} - set(CODES) == {AllmError}
    values = {value for name in allm.__all__ if isinstance(value := getattr(allm, name), type)}
    ours = {value for value in values if value.__module__.startswith("allm_actors.data.")}
    held = {value for value in ours if issubclass(value, msgspec.Struct | Exception)}
    assert {value.__name__ for value in held - set(CODES)} == {"AllmError"}


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_what_is_missing_is_a_default_in_both_codecs(shape):
    value = read(shape, **least(shape))
    assert type(value) is shape.cls
    for field in shape.fields:
        if (
            field.key not in least(shape) and field.key != "message"
        ):  # an error without a message has its default one
            assert getattr(value, field.name) == field.make_default()
    assert (
        read(shape, **least(shape), **{f.key: None for f in shape.fields if f.key not in least(shape)})
        == value
    )
    assert from_json(to_json(value)) == value
    assert from_msgpack(to_msgpack(value)) == value


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_a_field_of_a_later_version_is_passed_over(shape):
    assert read(shape, **least(shape), field_of_tomorrow=[1]) == read(shape, **least(shape))


@pytest.mark.parametrize(("shape", "field"), CLOSED, ids=name_of)
def test_a_word_that_is_not_known_is_refused(shape, field):
    with pytest.raises(ValidationError) as refused:
        read(shape, **{**least(shape), field.key: "a word of tomorrow"})
    assert (refused.value.reason, refused.value.errors) == (
        "invalid_request",
        [("_unknown", "atom_decode_failed")],
    )


@pytest.mark.parametrize(("shape", "field"), CLOSED, ids=name_of)
def test_every_word_that_is_known_is_read(shape, field):
    for word in field.of:
        assert getattr(read(shape, **{**least(shape), field.key: word}), field.name) == word


def test_the_closed_words_are_the_ones_of_the_contract():
    closed = {(shape.cls.__name__, field.key) for shape, field in CLOSED}
    assert {
        ("Message", "role"),
        ("ImagePart", "detail"),
        ("Response", "finish_reason"),
        ("MessageCompleted", "finish_reason"),
        ("Session", "status"),
        ("ImageRequest", "operation"),
        ("ImageRequest", "response_format"),
        ("StepCompleted", "mode"),
    } <= closed
    assert {shape.cls.__name__ for shape in ERRORS} <= {name for name, key in closed if key == "reason"}
    assert ("ChatResult", "halted_reason") not in closed


@pytest.mark.parametrize("place", ["metadata", "context", "options"])
def test_values_are_values_again_wherever_a_map_holds_them(place):
    held = {"error": allm.AdapterError("timeout"), "calls": [allm.ToolCall(id="c", name="t", arguments={})]}
    value = {
        "metadata": lambda: allm.Message(role="user", content="x", metadata=held),
        "context": lambda: allm.Session(context=held),
        "options": lambda: allm.Request(messages=[], options=held),
    }[place]()
    assert getattr(from_json(to_json(value)), place) == held
    assert getattr(from_msgpack(to_msgpack(value)), place) == held


def test_a_type_of_tomorrow_is_passed_on_as_it_came():
    text = '{"__type__":"ALLM.Hologram","data":{"by":{"__type__":"ALLM.TextPart","data":{"text":"a","metadata":{}}}}}'
    tree = from_json(text)
    assert tree == {"__type__": "ALLM.Hologram", "data": {"by": allm.TextPart(text="a")}}
    message = allm.Message(role="user", content="x", metadata={"later": tree})
    assert json.loads(to_json(message))["data"]["metadata"]["later"] == json.loads(text)
    assert from_json(to_json(message)) == from_msgpack(to_msgpack(message)) == message
