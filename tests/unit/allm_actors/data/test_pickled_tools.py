"""Tools on their way to another process."""

import copy
import multiprocessing
import pickle

import msgspec
import pytest

from allm_actors import Engine, Tool, tool


@tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


class Shop:
    @staticmethod
    @tool(timeout=5.0)
    def price(item: str) -> str:
        """What it costs."""
        return f"{item}: 3"


def plain(arguments):
    return arguments


def used(engine):
    """In the other process."""
    first, second, third, fourth = engine.tools
    return (
        first(1, 2),
        second.timeout,
        second(3, 4),
        third("tea"),
        fourth({"x": 1}),
        first.handler is second.handler,
    )


def test_a_decorated_function_is_the_tool_that_it_is_there():
    again = pickle.loads(pickle.dumps(add))
    assert again == add
    assert again.handler is add.handler
    assert pickle.loads(pickle.dumps(Shop.price)) == Shop.price


def test_a_copy_shares_nothing_that_can_be_changed():
    copied = copy.deepcopy(add)
    copied.schema["properties"].clear()
    assert set(add.schema["properties"]) == {"a", "b"}


def test_a_tool_that_is_not_there_any_more_says_so(monkeypatch):
    kept = pickle.dumps(add)
    monkeypatch.setitem(globals(), "add", None)
    with pytest.raises(AttributeError, match=r"pickled as add of .*, which is not there any more"):
        pickle.loads(kept)


def test_what_was_changed_of_it_stays_changed():
    changed = msgspec.structs.replace(add, name="plus", timeout=2.0)
    assert pickle.loads(pickle.dumps(changed)) == changed
    assert copy.copy(changed) == changed


def test_a_tool_of_its_parts_is_pickled_with_its_parts():
    whole = Tool(name="plain", description="", schema={}, handler=plain)
    assert pickle.loads(pickle.dumps(whole)) == whole
    assert pickle.loads(pickle.dumps(msgspec.structs.replace(whole, handler=None))).handler is None


def test_a_function_that_nobody_could_find_there_is_refused():
    @tool
    def inside(a: int) -> int:
        """No."""
        return a

    with pytest.raises((pickle.PicklingError, AttributeError), match="inside"):
        pickle.dumps(inside)


def test_an_engine_with_tools_goes_to_a_process_that_begins_anew():
    tools = [
        add,
        msgspec.structs.replace(add, name="plus", timeout=2.0),
        Shop.price,
        Tool(name="plain", description="", schema={}, handler=plain),
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(used, (Engine("fake", tools=tools),)) == (3, 2.0, 7, "tea: 3", {"x": 1}, True)
