"""Since Python 3.14 an annotation may name what there is for type checkers only, without quotation marks (PEP 649)."""

import sys
import textwrap

import pytest

import allm_actors as allm
from allm_actors.data.schemas.handlers import called, context_of
from allm_actors.execution.tools import as_policy

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14 annotations are evaluated where they stand"
)


def defined(source):
    """What a module defines whose imports for type checkers are left out, as they are when it runs."""
    module = {"__name__": "somewhere", "allm": allm}
    exec(compile(textwrap.dedent(source), "somewhere.py", "exec", dont_inherit=True), module)
    return module


def test_a_tool_needs_neither_its_context_nor_what_it_returns_at_run_time():
    module = defined("""
        @allm.tool
        def look(city: str, context: ToolContext) -> Weather:
            return {"city": city, "context": context}
    """)
    assert module["look"].schema["properties"] == {"city": {"type": "string"}}
    assert module["look"].handler({"city": "Lisbon"}, "here") == {"city": "Lisbon", "context": "here"}


def test_an_argument_of_a_type_that_is_not_there_is_refused_with_its_name():
    with pytest.raises(TypeError, match="look: cannot evaluate the annotation 'City' of city; import it"):
        defined("""
            @allm.tool
            def look(city: City) -> str:
                return ""
        """)


def test_a_local_type_is_found_beside_one_that_is_not_there():
    module = defined("""
        def made():
            import dataclasses
            from typing import Annotated
            from msgspec import Meta

            at_least = 1

            @dataclasses.dataclass
            class City:
                name: str

            days_told = "from"

            def look(
                city: City,
                days: Annotated[int, Meta(ge=at_least, description=f"{days_told} {at_least}")],
                context: ToolContext,
            ) -> Weather:
                return f"{city.name} {days} {context}"

            return look
    """)
    tool = allm.tool(module["made"]())
    assert tool.schema["$defs"]["City"]["properties"] == {"name": {"type": "string"}}
    assert tool.schema["properties"]["days"] == {"type": "integer", "minimum": 1, "description": "from 1"}
    assert tool.handler({"city": {"name": "Porto"}, "days": 2}, "here") == "Porto 2 here"


def test_a_context_may_be_optional():
    module = defined("""
        @allm.tool
        def look(city: str, about: ToolContext | None) -> Weather | None:
            return about
    """)
    assert list(module["look"].schema["properties"]) == ["city"]
    assert module["look"].handler({"city": "Porto"}, "here") == "here"


def test_a_type_within_a_type_is_named_whole():
    with pytest.raises(
        TypeError, match=r"cannot evaluate the annotation 'list\[City\]' of cities; import it"
    ):
        defined("""
            @allm.tool
            def look(cities: list[City]) -> str:
                return ""
        """)


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ("arguments: Arguments, about: ToolContext", ""),
        ("arguments: Arguments, *, about: ToolContext", "about"),
    ],
)
def test_a_handler_with_a_schema_gets_its_context(parameters, place):
    handler = defined(f"def handler({parameters}) -> Answer: return about")["handler"]
    assert context_of(handler) == place
    assert called(handler, place, {}, "here") == "here"


def test_whoever_settles_failing_tools_may_name_types_that_are_not_there():
    settle = defined("def settle(call: ToolCall, error: ToolError) -> Settled: return 'continue'")["settle"]
    assert as_policy(settle) is settle
