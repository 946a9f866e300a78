"""The guides say how many laws there are, and what every field of a scene and a stage is for."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from allm_actors.engine import behaviours
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.testing import conformance
from allm_actors.testing.conformance import AdapterSuite, CallScene, Scene, Stage, StreamSuite

GUIDES = Path(__file__).parents[2] / "docs/guides"
TESTING = (GUIDES / "testing.md").read_text()
SUITES = [getattr(conformance, name) for name in conformance.__all__ if name.endswith("Suite")]


def laws_of(suite):
    return sum(name.startswith("test_") for name in dir(suite))


def rows_of(name):
    """The first cells of the table whose head is `of name`."""
    table = TESTING.split(f"| of `{name}` |")[1].split("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_the_guide_knows_how_many_laws_a_suite_has(suite):
    (row,) = (
        line for line in TESTING.splitlines() if line.startswith("| `") and f"`{suite.__name__}`" in line
    )
    assert re.search(r"\| (\d+)", row)[1] == str(laws_of(suite))


def test_the_guide_to_adapters_knows_how_many_laws_it_runs():
    page = (GUIDES / "write-an-adapter.md").read_text()
    assert f"pytest runs the {laws_of(AdapterSuite) + laws_of(StreamSuite)} laws" in page


@pytest.mark.parametrize("scene", [Scene, CallScene], ids=lambda scene: scene.__name__)
def test_every_field_of_a_scene_is_in_the_guide(scene):
    fields = {field.name for field in dataclasses.fields(scene) if field.init}
    computed = {name for name, value in vars(scene).items() if isinstance(value, property)}
    assert set(rows_of(scene.__name__)) == fields | computed


def test_every_field_of_a_stage_is_in_the_guide():
    assert set(rows_of("Stage")) == {field.name for field in dataclasses.fields(Stage)}


def test_the_guide_has_the_methods_of_every_adapter_that_is_not_of_chat():
    page = (GUIDES / "embeddings-and-more.md").read_text().split("## An adapter of your own")[1]
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\|.*\(request, call\)", line)]
    told = {}
    for slot, method, returns, raises in rows:
        for name in re.findall(r"`(\w+_adapter)`", slot):
            slot_of = name
        told[re.search(r"`(\w+)\(", method)[1]] = (slot_of, re.findall(r"`(\w+)`", returns), raises)
    for row in CAPABILITIES.values():
        slot, (response,), raises = told.pop(row.method)
        assert (slot, response, row.error.__name__ in raises) == (row.slot, row.response.__name__, True)
        if row.stream_method is not None:
            slot, events, raises = told.pop(row.stream_method)
            assert (slot, row.error.__name__ in raises) == (row.slot, True)
            assert {*events, "ErrorEvent"} == {each.__name__ for each in event_types(row.stream_method)}
    assert not told


def event_types(method):
    """The types of the events that the stream of that method may have."""
    (protocol,) = (each for each in protocols() if hasattr(each, method))
    returned = inspect.signature(getattr(protocol, method), eval_str=True).return_annotation
    return returned.__args__[0].__args__[0].__args__


def protocols():
    return [getattr(behaviours, name) for name in behaviours.__all__]


def test_the_guide_names_every_method_of_their_protocols():
    page = (GUIDES / "embeddings-and-more.md").read_text().split("## An adapter of your own")[1]
    methods = {name for each in protocols() for name in vars(each) if not name.startswith("_")}
    assert not {name for name in methods if f"`{name}(" not in page}
