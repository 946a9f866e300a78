"""Names lead to adapters; a wrong one leads to the nearest right one."""

from importlib.metadata import EntryPoint

import pytest

from allm_actors.data import EngineError
from allm_actors.engine import adapters
from allm_actors.engine.adapter import Adapter, Batches
from allm_actors.engine.adapters import find_adapter, find_capable, known_adapters
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.fake import FakeAdapter

NAMES = sorted(PROVIDERS)


def test_every_row_is_an_adapter_that_is_made_once():
    assert set(NAMES) | {"fake"} <= set(known_adapters())
    for name in NAMES:
        adapter = find_adapter(name)
        assert adapter.name == name
        assert adapter is find_adapter(name)
        assert isinstance(adapter, Adapter)
        assert isinstance(adapter, Batches)


def test_an_adapter_object_is_itself():
    fake = FakeAdapter()
    assert find_adapter(fake) is fake
    assert find_adapter("fake") is not fake


def test_no_adapter_says_how_to_give_one():
    with pytest.raises(EngineError, match="Engine\\(adapter=") as missing:
        find_adapter(None)
    assert missing.value.reason == "missing_adapter"


@pytest.mark.parametrize(("name", "near"), [("opnai", "openai"), ("grok", "groq"), ("mistrall", "mistral")])
def test_an_unknown_name_names_the_nearest(name, near):
    with pytest.raises(EngineError, match=near) as unknown:
        find_adapter(name)
    assert unknown.value.reason == "unknown_adapter"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("openai/gpt-4.1", "openai:gpt-4.1"), ("openrouter/openai/gpt-4.1", "openrouter:openai/gpt-4.1")],
)
def test_a_slash_between_provider_and_model_should_be_a_colon(name, meant):
    with pytest.raises(EngineError, match=f"did you mean '{meant}'") as unknown:
        find_adapter(name)
    assert unknown.value.metadata["near"] == [meant]


def test_a_slash_in_the_name_of_a_slot_should_be_a_colon():
    with pytest.raises(EngineError, match="did you mean 'openai:small'"):
        find_capable(CAPABILITIES["embed"], "openai/small")


def test_a_models_name_alone_is_told_to_name_the_provider():
    with pytest.raises(EngineError, match=r"PROVIDER:MODEL, such as 'openai:gpt-4\.1-mini'"):
        find_adapter("gpt-4.1")


def test_a_name_like_no_other_lists_them_all():
    with pytest.raises(EngineError) as unknown:
        find_adapter("zzz")
    assert all(name in unknown.value.message for name in NAMES)


@pytest.fixture
def installed(monkeypatch):
    points = {}
    monkeypatch.setattr(adapters, "_installed", lambda _group: points)
    monkeypatch.setattr(adapters, "_made", {})
    return points


def test_an_installed_package_brings_an_adapter(installed):
    installed["plugin"] = EntryPoint("plugin", "allm_actors.engine.fake:FakeAdapter", adapters.GROUP)
    assert isinstance(find_adapter("plugin"), FakeAdapter)
    assert "plugin" in known_adapters()


@pytest.mark.parametrize("value", ["no_such_module:thing", "math:pi", "os:getcwd"])
def test_a_broken_package_is_named(installed, value):
    installed["plugin"] = EntryPoint("plugin", value, adapters.GROUP)
    with pytest.raises(EngineError, match=r"plugin.*cannot be used") as broken:
        find_adapter("plugin")
    assert broken.value.reason == "invalid_engine"


def test_importing_the_engine_imports_no_http_client():
    import subprocess
    import sys

    code = "import sys, allm_actors.engine.adapters as a; a.find_adapter('openai'); print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
