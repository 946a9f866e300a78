"""The adapter that the guide writes keeps the laws that it names, and needs its key."""

import re
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.engine import keys

PAGE = Path(__file__).parents[2] / "docs/guides/write-an-adapter.md"
written: dict[str, object] = {"__name__": __name__}
for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
    exec(compile(block, str(PAGE), "exec"), written)


class TestParrot(written["TestParrot"]): ...


class TestParrotsStream(written["TestParrotsStream"]): ...


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("PARROT_API_KEY", raising=False)
    yield
    keys.delete("parrot")


def test_it_refuses_what_it_cannot_do_before_it_is_asked():
    engine = allm.Engine(adapter=written["Parrot"]())
    with pytest.raises(allm.EngineError, match="set PARROT_API_KEY"):
        allm.generate(engine, [allm.user("Hello?")])
    tool = allm.tool(name="t", description="", schema={})
    with pytest.raises(allm.ValidationError, match="no hands"):
        allm.generate(engine, [allm.user("Hello?")], tools=[tool], api_key="k")
