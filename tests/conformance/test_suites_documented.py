"""The guides say how many laws there are, and what every field of a scene and a stage is for."""

import dataclasses
import re
from pathlib import Path

import pytest

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
