"""What a model sees of a compact tool, and what it is told when it asks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import Request, Tool, ToolCall, ValidationError
from allm_actors.data.build import user
from allm_actors.data.compact import (
    ToolHelp,
    missing_arguments,
    projected,
    with_help,
)
from allm_actors.data.rules.validate import validate
from allm_actors.testing import strategies

WEATHER = Tool(
    name="weather",
    description="Says the weather. It is often wrong.\nIn Celsius.",
    schema={
        "type": "object",
        "properties": {"unit": {}, "country": {}, "city": {"type": "string"}, "at": {}},
        "required": ["country", "city", "nowhere"],
    },
    handler=print,
    compact=True,
)
TIME = Tool(name="time", description="Says the time", schema={"type": "object"})


def stub(**fields):
    tool = Tool(**{"name": "t", "description": "", "schema": {}, "compact": True} | fields)
    return projected([tool])[0]


def ask(names, *tools):
    return ToolHelp.answer(tools, ToolCall(id="c", name="tool_help", arguments=names))


def test_a_compact_tool_is_sent_as_a_stub_and_the_others_as_they_are():
    sent = projected([WEATHER, TIME])
    assert sent[0] == Tool(
        name="weather",
        description="Says the weather. Args: country, city [at, unit]",
        schema={"type": "object"},
    )
    assert sent[1] is TIME
    assert [tool.name for tool in sent] == ["weather", "time", "tool_help"]
    names = {"type": "array", "items": {"type": "string"}, "description": "Names of tools"}
    assert sent[2].schema == {
        "type": "object",
        "properties": {"names": names},
        "required": ["names"],
        "additionalProperties": False,
    }
    assert sent[2].metadata == {"allm_builtin": "tool_help"}
    assert all(tool.handler is None for tool in sent)


def test_a_stub_is_not_strict_but_a_tool_that_is_sent_whole_is():
    strict = msgspec.structs.replace(WEATHER, metadata={"strict": True, "owner": "maps"})
    assert projected([strict])[0].metadata == {"owner": "maps"}
    assert projected([strict], tool_choice="weather")[0].metadata == strict.metadata


def test_without_compact_tools_nothing_changes():
    own = Tool(name="tool_help", description="mine", schema={})
    assert projected([TIME, own]) == [TIME, own]
    assert with_help([TIME, own]) == [TIME, own]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"description": "One. Two."}, "One."),
        ({"description": "Version 1.5 of it! More"}, "Version 1.5 of it!"),
        ({"description": "\n  No end\nSecond line."}, "No end"),
        ({"description": "Long", "summary": "Short"}, "Short"),
        ({"description": "Long", "metadata": {"summary": "Told"}}, "Told"),
        ({"description": "a" * 160}, "a" * 160),
        ({"description": "a" * 161}, "a" * 157 + "..."),
        ({"schema": {"properties": {}}}, "Args: none"),
        ({"schema": {"properties": {"b": {}, "a": {}}}}, "Args: [a, b]"),
        ({"schema": {"properties": {"b": {}}, "required": ["b"]}, "summary": "Do."}, "Do. Args: b"),
        ({"schema": {"properties": "odd", "required": "odd"}}, ""),
    ],
)
def test_what_a_stub_says(fields, said):
    assert stub(**fields).description == said


@pytest.mark.parametrize(
    "choice",
    [
        "weather",
        ("tool", "weather"),
        {"type": "tool", "name": "weather"},
        {"type": "function", "function": {"name": "weather"}},
        {"type": "function", "name": "weather"},
        {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        {"mode": "any", "allowedFunctionNames": ["weather"]},
        {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    ],
)
def test_a_forced_tool_is_sent_in_full(choice):
    sent = projected([WEATHER], choice)
    assert (sent[0].description, sent[0].schema) == (WEATHER.description, WEATHER.schema)
    assert [tool.name for tool in sent] == ["weather", "tool_help"]
    validate(Request(messages=[user("hi")], tools=sent))


def test_help_describes_each_named_tool_once():
    text = ask({"names": ["time", "nope", "time"]}, WEATHER, TIME)
    assert text == (
        '## time\nSays the time\nParameters (JSON Schema): {"type":"object"}\n\n'
        "## nope\nUnknown tool. Compact tools: weather"
    )
    assert ask({"names": ["x"]}, TIME).endswith("Compact tools: (none)")


@pytest.mark.parametrize("arguments", [{}, {"names": "time"}, {"names": [1]}, {"names": []}, None])
def test_help_that_is_asked_wrongly_says_how_to_ask(arguments):
    assert (
        ask(arguments, WEATHER) == 'tool_help expects {"names": ["tool_name", ...]}. Compact tools: weather'
    )


def test_a_tool_whose_schema_is_no_json_is_described_all_the_same():
    assert "object at" in ask({"names": ["t"]}, Tool(name="t", description="", schema={"x": object()}))


def test_only_what_a_compact_tool_requires_at_the_first_level_can_be_missing():
    call = ToolCall(id="c", name="weather", arguments={"city": None, "nowhere": 1})
    assert missing_arguments(WEATHER, call).startswith(
        "missing required argument(s): country\n\n## weather\n"
    )
    full = ToolCall(id="c", name="weather", arguments={"city": 1, "country": 2, "nowhere": 3})
    assert missing_arguments(WEATHER, full) is None
    assert missing_arguments(msgspec.structs.replace(WEATHER, compact=False), call) is None


def test_what_a_schema_requires_is_named():
    odd = msgspec.structs.replace(WEATHER, schema={"required": ["city", 5, ["at"]]})
    assert missing_arguments(odd, ToolCall(id="c", name="weather", arguments={"city": 1})) is None


def test_the_tool_that_explains_the_others_answers_when_it_is_run():
    [*_, explaining] = with_help([WEATHER, TIME])
    assert explaining.handler({"names": ["weather"]}) == ask({"names": ["weather"]}, WEATHER, TIME)


def test_a_tool_of_the_users_named_tool_help_cannot_stand_beside_compact_ones():
    own = Tool(name="tool_help", description="mine", schema={})
    for tools in ([own, WEATHER], projected([own, WEATHER])):
        with pytest.raises(ValidationError) as caught:
            validate(Request(messages=[user("hi")], tools=tools))
        assert caught.value.errors == [("tools", "duplicate_name")]
    assert with_help([own, WEATHER]) == [own, WEATHER]


@pytest.mark.parametrize("fields", [{"schema": None}, {"description": None}])
def test_what_cannot_be_sent_is_still_refused(fields):
    with pytest.raises(ValidationError, match="tools\\.0"):
        validate(Request(messages=[user("hi")], tools=[stub(**fields)]))


@given(st.lists(strategies.tools(), max_size=4, unique_by=lambda tool: tool.name), st.booleans())
def test_projecting_is_stable_and_names_every_tool(tools, forced):
    choice = tools[0].name if tools and forced else None
    sent = projected(tools, choice)
    assert projected(sent, choice) == sent
    assert projected(tools, choice) == sent
    assert [tool.name for tool in sent] == [tool.name for tool in with_help(tools)]
    assert not any(tool.compact for tool in sent)
    asked = ToolHelp.answer(
        tools, ToolCall(id="c", name="tool_help", arguments={"names": [t.name for t in tools]})
    )
    assert all(f"## {tool.name}\n{tool.description}" in asked for tool in tools)
