"""Short ways to write messages, requests and tools."""

import asyncio
import datetime
import functools
import inspect
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from allm_actors.data import Image, ImagePart, ImageRequest, Message, TextPart, Thread, Tool, ToolError
from allm_actors.data.build import (
    assistant,
    image_request,
    json_schema,
    request,
    system,
    tool,
    tool_result,
    user,
)
from allm_actors.data.rules.validate import validate
from allm_actors.data.schemas.handlers import called, context_of


@dataclass
class Point:
    x: int
    y: float = 0.0


def refused(handler, arguments):
    with pytest.raises(ToolError) as caught:
        handler(arguments)
    assert caught.value.reason == "invalid_arguments"
    return str(caught.value)


# --- messages and requests ----------------------------------------------------------------------------------------


def test_messages():
    assert system("a") == Message(role="system", content="a")
    assert user("a") == Message(role="user", content="a")
    assert assistant("a") == Message(role="assistant", content="a")
    parts = [TextPart(text="what is this?"), ImagePart(image=Image.from_url("u"))]
    assert user(parts).parts() == parts


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ({"x": 1}, '{"x":1}'),
        ([1, "a"], '[1,"a"]'),
        (None, "null"),
        (True, "true"),
    ],
    ids=repr,
)
def test_a_tool_result_is_text(content, text):
    message = tool_result("c0", content)
    assert message == Message(role="tool", content=text, tool_call_id="c0")
    validate(message)


def test_a_tool_result_of_parts_stays_parts():
    assert tool_result("c0", [TextPart(text="a")]).content == [TextPart(text="a")]


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("caf\udce9.txt", "caf\ufffd.txt"),
        (["a\ud800", "b"], '["a\ufffd","b"]'),
        ({"\udce9": 1}, '{"\ufffd":1}'),
    ],
    ids=["text", "list", "key"],
)
def test_a_tool_result_with_half_a_surrogate_pair_can_be_sent(content, written):
    assert tool_result("c0", content).content == written


CIRCLE = {}
CIRCLE["again"] = CIRCLE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CIRCLE, "this dict as JSON: it contains itself"),
        (
            ToolError("timeout"),
            "this ToolError as JSON: .*; give text, plain data or .*, and for an error its text",
        ),
        ([object()], "this list as JSON: .* give text"),
        ([10**5000], "this list as JSON: .* give text"),
    ],
    ids=range(4),
)
def test_a_tool_result_without_a_form_in_json_says_why(content, why):
    with pytest.raises(TypeError, match=f"allm.tool_result cannot write {why}"):
        tool_result("c0", content)


def test_a_request_of_messages_a_thread_or_a_text():
    assert request([user("hi")], temperature=0.5).temperature == 0.5
    assert request(Thread(messages=[user("hi")])) == request([user("hi")]) == request("hi")


def test_a_request_for_pictures():
    assert image_request("a cat", n=2) == ImageRequest(prompt="a cat", n=2)
    assert image_request(prompt="a cat") == image_request("a cat")
    assert image_request("a cat", prompt="a dog", n=2) == image_request("a cat", n=2)
    assert image_request(operation="variation").prompt is None
    assert request(messages="hi") == request("hi")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: request("a", messages="b"), "allm.request was given messages twice"),
        (lambda: image_request(5), "allm.image_request takes text, got int"),
        (lambda: image_request(prompt=["a"]), "allm.image_request takes text, got list"),
        (lambda: request(5), "allm.request takes messages, a Thread or a text, got int"),
        (lambda: request(user("hi")), "allm.request takes messages, a Thread or a text, got Message"),
        (request, "allm.request takes messages, a Thread or a text, got NoneType"),
        (
            lambda: request({"role": "user", "content": "hi"}),
            "allm.request takes messages, a Thread or a text, got dict",
        ),
        (lambda: request(b"hi"), "allm.request takes messages, a Thread or a text, got bytes"),
    ],
    ids=range(8),
)
def test_what_no_request_can_be_made_of_says_what_can(build, message):
    with pytest.raises(TypeError) as refused:
        build()
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: request([], temprature=1),
            "request has no option 'temprature'; did you mean 'temperature'?",
        ),
        (lambda: image_request("x", sise=1), "image_request has no option 'sise'; did you mean 'size'?"),
        (lambda: tool(nme="x"), "no option 'nme'|unexpected"),
        (lambda: request([], zzzzz=1), "request has no option 'zzzzz'; the options are messages, model, "),
    ],
    ids=["request", "image_request", "tool", "nothing near"],
)
def test_an_unknown_option_names_the_nearest(build, message):
    with pytest.raises(TypeError, match=message):
        build()


# --- tools --------------------------------------------------------------------------------------------------------


def test_a_function_becomes_a_tool():
    @tool
    def get_weather(city: str, unit: Literal["c", "f"] = "c") -> dict:
        """Weather in a city.

        Args:
            city: its name
        """
        return {"city": city, "unit": unit}

    assert isinstance(get_weather, Tool)
    assert (get_weather.name, get_weather.description) == ("get_weather", "Weather in a city.")
    assert get_weather.schema["required"] == ["city"]
    assert get_weather.schema["properties"]["city"]["description"] == "its name"
    assert get_weather.handler({"city": "Oslo"}) == {"city": "Oslo", "unit": "c"}
    assert get_weather("Oslo", unit="f") == {"city": "Oslo", "unit": "f"}
    assert get_weather.handler.__wrapped__("Oslo") == {"city": "Oslo", "unit": "c"}
    validate(get_weather)


def test_a_call_of_a_tool_leaves_out_no_wrapper_of_its_handler():
    @tool
    def remove(path: str) -> str:
        """Remove it."""
        return path

    @functools.wraps(remove.handler)
    def never(*args, **kwargs):
        raise PermissionError("not allowed")

    guarded = msgspec.structs.replace(remove, handler=never)
    with pytest.raises(PermissionError):
        guarded("/etc")


def test_options_of_the_decorator():
    @tool(name="refund", description="Give it back.", manual=True, timeout=2.0, metadata={"a": 1})
    def f(order_id: str) -> str: ...

    assert (f.name, f.description, f.manual, f.timeout, f.metadata) == (
        "refund",
        "Give it back.",
        True,
        2.0,
        {"a": 1},
    )


def test_the_plain_form_takes_its_parts_as_they_are():
    def handler(arguments):
        return arguments

    echo = tool(name="echo", description="", schema={"type": "object"}, handler=handler)
    assert echo == Tool(name="echo", description="", schema={"type": "object"}, handler=handler)
    assert tool(name="ask", description="", schema={}, manual=True).handler is None


def test_a_function_may_come_with_a_schema_of_its_own():
    def move(x: int) -> int:
        """Move."""
        return x + 1

    given = {"type": "object", "properties": {"x": {"type": "integer", "maximum": 9}}}
    moved = tool(move, schema=given)
    assert (moved.name, moved.description, moved.schema) == ("move", "Move.", given)
    assert moved.handler({"x": 4}) == 5
    with pytest.raises(TypeError, match="tool 'move': schema must be a dict"):
        tool(move, schema=[])
    with pytest.raises(TypeError, match="not both"):
        tool(move, handler=move)
    with pytest.raises(TypeError, match=r"tool needs name, description; .* tool\(function, schema=…\)"):
        tool(schema=given)


def test_a_missing_part_is_named():
    with pytest.raises(TypeError, match="tool needs description, schema; "):
        tool(name="x", handler=print)
    with pytest.raises(TypeError, match="tool needs name, description; "):
        tool(schema={})


def test_what_cannot_be_a_tool():
    with pytest.raises(TypeError, match="@tool decorates a function"):
        tool(Point)
    with pytest.raises(TypeError, match="@tool needs name="):
        tool(functools.partial(lambda a, b: a, 1))
    with pytest.raises(TypeError, match="Tool manual must be a boolean, got: None"):
        tool(name="x", description="", schema={}, manual=None)


@pytest.mark.parametrize(
    ("field", "value", "must"),
    [
        ("handler", "get_weather", "a function"),
        ("compact", "no", "True or False"),
        ("compact", None, "True or False"),
        ("summary", ["a"], "a text"),
        ("metadata", None, "a dict"),
        ("metadata", ["strict"], "a dict"),
    ],
)
def test_a_field_of_another_kind_is_refused_where_the_tool_is_made(field, value, must):
    with pytest.raises(TypeError, match=f"tool 'x': {field} must be {must}, got: ") as refused:
        Tool(name="x", description="", schema={}, **{field: value})
    assert repr(value) in str(refused.value)


def test_keys_that_are_numbers_can_be_written_in_json():
    @tool
    def book(seats: dict[int, str], prices: dict[float, int] = {}):  # noqa: B006
        return seats, prices

    assert book.handler({"seats": {"12": "Ada"}, "prices": {"1.5": 2}}) == ({12: "Ada"}, {1.5: 2})
    with pytest.raises(ToolError, match="Expected `int`, got `str`"):
        book.handler({"seats": {"twelve": "Ada"}})


def test_arguments_become_what_the_annotations_say():
    @tool
    def f(at: Point, when: datetime.datetime, share: float, kinds: set[str], anything, more: Any = None):
        return at, when, share, kinds, anything, more

    got = f.handler(
        {
            "at": {"x": 1},
            "when": "2026-01-02T03:04:05Z",
            "share": 1,
            "kinds": ["a", "a"],
            "anything": {"b": 2},
        }
    )
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert got == (Point(1), when, 1.0, {"a"}, {"b": 2}, None)
    assert isinstance(got[2], float)


def test_local_types_written_as_text():
    @dataclass
    class Local:
        n: int

    @tool
    def f(at: "Local", rest: "list[Local]" = ()):
        return at

    assert f.handler({"at": {"n": 1}}) == Local(1)


def test_what_does_not_fit_is_named_with_what_it_should_be():
    @tool
    def f(n: int, unit: Literal["c", "f"] = "c", at: Point | None = None): ...

    assert refused(f.handler, {}) == "argument n: missing; expected int"
    assert refused(f.handler, {"n": "1"}) == "argument n: Expected `int`, got `str`"
    assert refused(f.handler, {"n": 1, "at": {"x": "a"}}) == "argument at: Expected `int`, got `str` - at `x`"
    assert refused(f.handler, {"n": 1, "unit": "secret"}) == (
        "argument unit: Invalid enum value; expected one of 'c', 'f'"
    )
    both = refused(f.handler, {"n": 1, "m": 2, "k": 3})
    known = "unexpected; the arguments are: n, unit, at"
    assert both == f"argument m: {known}; argument k: {known}"


def test_the_error_carries_the_tool_and_the_arguments():
    @tool(name="adder")
    def f(a: int, b: int): ...

    with pytest.raises(ToolError) as caught:
        f.handler({"a": "x"})
    assert caught.value.tool_name == "adder"
    assert caught.value.metadata["arguments"] == ["a", "b"]


def test_an_async_function_stays_one():
    @tool
    async def f(n: int, context=None):
        return n, context

    assert inspect.iscoroutinefunction(f.handler)
    assert asyncio.run(f.handler({"n": 1}, "ctx")) == (1, "ctx")


def test_positional_only_and_open_ended_parameters():
    @tool
    def f(a: int = 1, b: int = 2, /, **others):
        return a, b, others

    assert f.handler({"b": 5, "c": 6}) == (1, 5, {"c": 6})


@pytest.mark.parametrize("name", ["has space", "", "x" * 65, "prix_é", 3], ids=str)
def test_a_name_that_no_provider_takes_is_refused(name):
    for build in (
        lambda: tool(name=name)(lambda: 1),
        lambda: tool(name=name, description="", schema={}),
    ):
        with pytest.raises(ValueError, match=r"name must be 1 to 64 letters, digits, _ and -, got: "):
            build()


def test_a_lambda_needs_a_name():
    with pytest.raises(ValueError, match=r"got: '<lambda>'; pass such a name as name="):
        tool(lambda: 1)
    assert tool(name="one")(lambda: 1).handler({}) == 1


def test_a_schema_that_is_none_is_refused():
    with pytest.raises(TypeError, match="tool 'f': schema must be a dict with a JSON Schema, got str"):
        tool(name="f", description="", schema="{}")


def test_a_whole_number_is_an_integer_however_it_is_written():
    @tool
    def add(a: int, b: float, point: Point, many: list[int], more: Any = None):
        return a, b, point, many, more

    given = {"a": 3.0, "b": 2.0, "point": {"x": 1.0, "y": 2.0}, "many": [1.0, 2], "more": [1.5, "x"]}
    a, b, point, many, more = add.handler(given)
    assert (a, b, point, many, more) == (3, 2.0, Point(1, 2.0), [1, 2], [1.5, "x"])
    assert [type(each) for each in (a, b, point.x, point.y, *many)] == [int, float, int, float, int, int]
    assert given["a"] == 3.0
    for wrong in (3.5, 1e300, "3", "3.0", True):
        assert "argument a: Expected `int`" in refused(add.handler, {**given, "a": wrong})
    assert refused(add.handler, {**given, "point": {"x": 1.0, "y": "2"}}).startswith(
        "argument point: Expected `float`"
    )


class Ge:  # as annotated_types has them
    def __init__(self, ge):
        self.ge = ge


class MinLen:
    def __init__(self, min_length):
        self.min_length = min_length


class General:  # and what pydantic has besides
    def __init__(self, pattern):
        self.pattern = pattern


class Field:
    def __init__(self, *metadata, description=None):
        self.metadata, self.description = list(metadata), description


def test_bounds_of_other_libraries_are_told_and_kept():
    @tool
    def f(
        city: Annotated[str, Field(MinLen(2), description="where")],
        days: Annotated[int, Ge(1)] | None = None,
        codes: list[Annotated[str, Field(General("^[A-Z]+$"))]] = [],  # noqa: B006 - a default of the schema
    ):
        return city, days, codes

    properties = f.schema["properties"]
    assert properties["city"] == {"description": "where", "type": "string", "minLength": 2}
    assert properties["days"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "null"}]
    assert properties["codes"]["items"] == {"type": "string", "pattern": "^[A-Z]+$"}
    assert f.handler({"city": "Rome", "days": 2, "codes": ["A"]}) == ("Rome", 2, ["A"])
    for wrong in ({"city": "R"}, {"city": "Rome", "days": 0}, {"city": "Rome", "codes": ["a"]}):
        refused(f.handler, wrong)


class Bound:
    def __init__(self, **bounds):
        self.__dict__.update(bounds)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (
            Annotated[int | None, Bound(ge=1)],
            {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        ),
        (
            Annotated[float | str, Bound(gt=0, max_length=3)],
            {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "maxLength": 3}]},
        ),
        (
            Annotated[list[str] | None, Bound(min_length=1)],
            {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "null"}]},
        ),
        (Annotated[int, Bound(ge=0.5, le=1e6)], {"type": "integer", "minimum": 1, "maximum": 1_000_000}),
        (
            Annotated[int, Bound(gt=0.5, lt=9.5)],
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
        ),
        (Annotated[int, Bound(ge=0), Bound(gt=0)], {"type": "integer", "exclusiveMinimum": 0}),
        (Annotated[int, Bound(le=9), Bound(lt=9)], {"type": "integer", "exclusiveMaximum": 9}),
        (Annotated[int, Bound(ge=0, le=2**70)], {"type": "integer", "minimum": 0}),
        (Annotated[int, Bound(multiple_of=0.5)], {"type": "integer"}),
        (Annotated[int, msgspec.Meta(ge=0), Bound(ge=3)], {"type": "integer", "minimum": 0}),
        (
            Annotated[int, msgspec.Meta(gt=0), Bound(ge=3, le=9)],
            {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
        ),
        (Annotated[int, Bound(ge=float("nan"))], {"type": "integer"}),
        (Annotated[bool, Bound(ge=0)], {"type": "boolean"}),
        (Annotated[Any, Bound(ge=0)], {}),
        (Annotated[Literal["a"], Bound(min_length=1)], {"type": "string", "enum": ["a"]}),
        (Annotated[Decimal, Bound(gt=0)], {"type": "string", "format": "decimal"}),
        (Annotated[UUID, Bound(min_length=1)], {"type": "string", "format": "uuid"}),
        (Annotated[str, Bound(pattern=r"^\p{Lu}+$")], {"type": "string"}),
        (Annotated[str, Bound(max_length=-1)], {"type": "string"}),
    ],
)
def test_a_bound_holds_for_the_types_that_can_have_it(annotation, told):
    def f(a): ...

    f.__annotations__["a"] = annotation
    assert tool(f).schema["properties"]["a"] == told


def test_calling_a_tool_calls_the_function_that_was_decorated_or_the_handler_that_was_given():
    def inner(arguments):
        return "inner", arguments

    @functools.wraps(inner)
    def guarded(arguments):
        return "guarded", arguments

    plain = tool(name="plain", description="", schema={}, handler=guarded)
    assert plain({"a": 1}) == plain.run({"a": 1}, None) == ("guarded", {"a": 1})

    @tool
    @functools.wraps(inner)
    def decorated(arguments: dict):
        return "decorated", arguments

    assert decorated({"a": 1}) == ("decorated", {"a": 1})


def test_what_is_said_beside_a_type_and_is_no_bound_changes_nothing():
    def f(
        a: Annotated[int, "the first", object(), {"ge": 3}, int],
        b: Annotated[str, msgspec.Meta(max_length=3)],
    ): ...

    properties = tool(f).schema["properties"]
    assert properties["a"] == {"description": "the first", "type": "integer"}
    assert properties["b"] == {"type": "string", "maxLength": 3}


def test_a_schema_is_taken_as_it_is_now():
    schema = {"type": "object", "properties": {}, "required": []}
    made = []
    for name, argument in (("weather", "city"), ("stock", "symbol")):
        schema["properties"][argument] = {"type": "string"}
        schema["required"].append(argument)
        made.append(tool(name=name, description="", schema=schema, handler=len))
        made.append(json_schema(name, schema))
    schema["properties"].clear()
    assert [list(each["properties"]) for each in (made[0].schema, made[1]["schema"])] == [["city"], ["city"]]
    required = [each["required"] for each in (made[0].schema, made[1]["schema"])]
    assert required == [["city"]] * 2
    assert [each["required"] for each in (made[2].schema, made[3]["schema"])] == [["city", "symbol"]] * 2


# --- methods ------------------------------------------------------------------------------------------------------


def test_a_method_is_a_tool_when_it_is_bound():
    class Shop:
        def __init__(self, price):
            self._price = price

        def price(self, item: str) -> int:
            """What it costs."""
            return self._price

        @staticmethod
        @tool
        def opens(day: str) -> str:
            return day

        @classmethod
        def name(cls, short: bool) -> str:
            return cls.__name__

    price = tool(Shop(3).price)
    assert (price.name, price.description, price.schema["required"]) == ("price", "What it costs.", ["item"])
    assert price.handler({"item": "tea"}) == 3
    assert tool(Shop.name).handler({"short": True}) == "Shop"
    assert Shop.opens.handler({"day": "Monday"}) == "Monday"

    with pytest.raises(
        TypeError, match=r"Shop\.price: a model cannot give self; .* allm\.tool\(instance\.price\)"
    ):
        tool(Shop.price)
    with pytest.raises(TypeError, match="a model cannot give cls"):
        tool(name="n")(Shop.name.__func__)


def test_an_argument_may_be_called_self():
    @tool
    def describe(self: str) -> str:
        return self

    assert describe.schema["required"] == ["self"]


# --- the context --------------------------------------------------------------------------------------------------


def test_the_context_goes_where_the_function_wants_it():
    class ToolContext: ...

    @tool
    def by_type(a: int, ctx: ToolContext):
        return a, ctx

    @tool
    def by_name(context, a: int):
        return a, context

    @tool
    def without(a: int):
        return a

    assert by_type.handler({"a": 1}, "ctx") == by_name.handler({"a": 1}, "ctx") == (1, "ctx")
    assert by_type.handler.takes_context
    assert context_of(by_name.handler) is not None
    assert context_of(without.handler) is None
    assert without.handler({"a": 1}, "ctx") == 1


def test_a_context_with_a_type_of_its_own_is_an_argument():
    @tool
    def search(context: str) -> str:
        return context.upper()

    assert search.schema["properties"] == {"context": {"type": "string"}}
    assert not search.handler.takes_context
    assert search.handler({"context": "the letter"}) == "THE LETTER"


@pytest.mark.parametrize("annotation", [Any, object, inspect.Parameter.empty], ids=str)
def test_a_context_with_no_type_of_its_own_is_the_librarys(annotation):
    def search(context=None):
        return context

    if annotation is not inspect.Parameter.empty:
        search.__annotations__["context"] = annotation
    made = tool(search)
    assert made.schema["properties"] == {}
    assert made.handler({}, "given") == "given"


def test_an_object_whose_call_is_asynchronous_is_an_asynchronous_tool():
    class Search:
        """Look for a word."""

        async def __call__(self, word: str) -> str:
            return f"found {word}"

    made = tool(Search(), name="search")
    assert inspect.iscoroutinefunction(made.handler)
    assert asyncio.run(made.handler({"word": "a"})) == "found a"


def test_what_is_of_its_class_already_is_taken_as_it_is():
    class Place: ...

    here = Place()

    def go(where: Place) -> Place:
        return where

    assert tool(go, schema={"type": "object"}).handler({"where": here}) is here


def test_plain_handlers_are_asked_for_their_parameters():
    class Two:
        def __call__(self, arguments, ctx): ...

    assert context_of(lambda arguments: 1) is None
    assert context_of(lambda arguments, n=1: n) is None
    assert context_of(lambda *arguments: 1) is None
    assert context_of(dict) is None
    assert context_of(lambda arguments, whatever: 1) is not None
    assert context_of(lambda arguments, context=None: 1) is not None
    assert context_of(Two()) is not None
    assert context_of(functools.partial(lambda a, b, c: 1, 1)) is not None


def test_a_plain_handler_gets_the_context_where_it_wants_it():
    class ToolContext: ...

    def by_type(arguments, ctx: ToolContext = None):
        return ctx

    def by_text(arguments, n=1, ctx: "allm.ToolContext" = None):  # noqa: F821 - it is not looked up
        return ctx

    def by_name(arguments, *, context):
        return context

    def by_name_with_default(arguments, n=1, *, context=None):
        return context

    for handler in (by_type, by_text, by_name, by_name_with_default):
        assert called(handler, context_of(handler), {}, "given") == "given"
    for handler in (lambda arguments, n=1: n, lambda context: context, dict):
        assert context_of(handler) is None
        made = Tool(name="t", description="", schema={}, handler=handler)
        assert made.run({}, "given") != "given"
    assert called(lambda context: context, None, "arguments", "given") == "arguments"
    with pytest.raises(ToolError, match="tool 't' has no handler; give it one"):
        Tool(name="t", description="", schema={}).run({}, "given")


# --- models that validate themselves ------------------------------------------------------------------------------


def test_a_model_that_validates_itself_is_not_quoted():
    class Refusal(ValueError):
        def errors(self):
            return [{"loc": ("q", 0), "msg": "Field required", "input": "secret"}]

    class Model:
        @classmethod
        def model_json_schema(cls):
            return {"type": "object"}

        @classmethod
        def model_validate(cls, value):
            if value.get("q") is None:
                raise Refusal("secret")
            return cls()

    @tool
    def f(model: Model):
        return type(model).__name__

    assert f.handler({"model": {"q": 1}}) == "Model"
    text = refused(f.handler, {"model": {}})
    assert text == "argument model: q.0: Field required; expected Model"


class Picky:
    """A type whose own code says what it likes."""

    @classmethod
    def model_json_schema(cls):
        return {"type": "object"}

    @classmethod
    def model_validate(cls, value):
        raise ValueError(f"{value} is not one")


@dataclass
class Account:
    iban: str

    def __post_init__(self):
        raise ValueError(f"{self.iban} is not an IBAN")


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    n: int = 0


class Cash(msgspec.Struct, tag=True):
    pass


class Card(msgspec.Struct, tag=True):
    pass


@pytest.mark.parametrize(
    ("type_", "value", "said", "unquoted"),
    [
        (Account, {"iban": "SECRET"}, "SECRET is not an IBAN", "does not fit; expected Account"),
        (list[Account], [{"iban": "SECRET"}], "SECRET is", "does not fit; expected list["),
        (Picky, "SECRET", "SECRET is not one", "does not fit; expected Picky"),
        (Closed, {"SECRET": 1}, "`SECRET`", "does not fit; expected Closed"),
        (Cash | Card, {"type": "SECRET"}, "'SECRET'", "does not fit; expected "),
        (dict[str, int], {"SECRET": "x"}, "Expected `int`, got `str`", "Expected `int`, got `str`"),
        (Literal["a"], "SECRET", "one of 'a'", "Invalid enum value; expected one of 'a'"),
        (Closed, {"n": "SECRET"}, "at `n`", "Expected `int`, got `str` - at `n`"),
    ],
    ids=range(8),
)
def test_what_is_wrong_with_an_argument_can_be_said_without_a_word_of_it(type_, value, said, unquoted):
    def f(to):
        return to

    f.__annotations__["to"] = type_
    with pytest.raises(ToolError) as caught:
        tool(f).handler({"to": value})
    assert said in str(caught.value)
    plain = caught.value.metadata["unquoted"]
    assert plain.startswith(f"argument to: {unquoted}")
    assert "SECRET" not in plain


def test_an_argument_that_the_model_made_up_is_named_to_it_alone():
    @tool
    def f(a: int, b: int = 0):
        return a

    with pytest.raises(ToolError, match="argument SECRET: unexpected; the arguments are: a, b") as caught:
        f.handler({"SECRET": 1})
    plain = "argument a: missing; expected int; an argument that is unexpected; the arguments are: a, b"
    assert caught.value.metadata == {"arguments": ["a", "SECRET"], "unquoted": plain}


@pytest.mark.parametrize("build", [system, user, assistant])
@pytest.mark.parametrize("text", [None, 5, {"text": "hi"}], ids=str)
def test_a_message_is_built_of_text(build, text):
    with pytest.raises(TypeError, match=rf"allm\.{build.__name__} takes text"):
        build(text)
