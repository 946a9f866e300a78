"""What a model is known not to do is refused, all at once, and what nobody knows is allowed."""

import pytest

from allm_actors.data import (
    Document,
    DocumentPart,
    EngineError,
    Image,
    ImagePart,
    Message,
    ModelRef,
    Request,
    Tool,
    ValidationError,
)
from allm_actors.data.build import json_schema
from allm_actors.engine import Engine
from allm_actors.engine.preflight import check_capabilities, with_finalize
from allm_actors.engine.resolve import resolve_model, resolve_model_ref

PICTURE = Message(role="user", content=[ImagePart(image=Image.from_url("https://x/y.png"))])
PAPER = Message(role="user", content=[DocumentPart(document=Document.from_url("https://x/y.pdf"))])
EVERYTHING = Request(
    messages=[PICTURE, PAPER],
    tools=[Tool(name="t", description="", schema={})],
    response_format=json_schema("a", {"type": "object"}),
)
NOTHING = {"tools": {"enabled": False}, "json_native": False, "vision": False, "documents": False}


def test_all_refusals_are_listed():
    with pytest.raises(
        ValidationError, match=r"^model does not support requested capabilities: .* \(m\)"
    ) as caught:
        check_capabilities(ModelRef(id="m", capabilities=NOTHING), EVERYTHING)
    assert caught.value.reason == "unsupported_capability"
    assert caught.value.errors == [
        (["tools"], "tools_disabled"),
        (["response_format"], "json_native_disabled"),
        (["vision"], "vision_disabled"),
        (["documents"], "documents_disabled"),
    ]


@pytest.mark.parametrize(
    "able",
    [
        None,
        {},
        {"tools": {"enabled": True}},
        {"tools": {}},
        {"vision": None, "json_native": True},
        {"x": False},
    ],
)
def test_what_is_not_known_to_be_impossible_is_allowed(able):
    check_capabilities(ModelRef(id="m", capabilities=able), EVERYTHING)
    check_capabilities(None, EVERYTHING)


def test_a_request_that_asks_for_nothing_special_is_allowed():
    plain = Request(messages=[Message(role="user", content="hi")], response_format={"type": "json_object"})
    check_capabilities(ModelRef(id="m", capabilities=NOTHING), plain)


def test_a_model_ref_stands_for_its_name():
    ref, other = ModelRef(id="m"), ModelRef(id="o")
    engine = Engine(model=ref)
    assert resolve_model(engine, {}) == "m"
    assert resolve_model_ref(engine, {}) is ref
    assert resolve_model_ref(engine, {"model": other}) is other
    assert resolve_model_ref(engine, {"model": "m"}) is None
    assert resolve_model_ref(engine, {}, Request(messages=[], model="m")) is ref
    assert resolve_model_ref(engine, {}, Request(messages=[], model="x")) is None
    assert "model='m'" in repr(engine)


class Picky:
    name = "picky"

    def __init__(self, answer):
        self.answer = answer

    def requires_structured_finalize(self, request):
        return self.answer() if callable(self.answer) else self.answer


def test_an_adapter_may_need_an_answer_of_its_own_for_a_structure():
    assert with_finalize(Picky(True), EVERYTHING).structured_finalize is True
    assert with_finalize(Picky(False), EVERYTHING) is EVERYTHING
    assert with_finalize(object(), EVERYTHING) is EVERYTHING
    with pytest.raises(
        EngineError, match="'picky' failed at requires_structured_finalize: ZeroDivisionError"
    ):
        with_finalize(Picky(lambda: 1 / 0), EVERYTHING)
