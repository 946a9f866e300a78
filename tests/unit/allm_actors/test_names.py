"""Every promised name is there, is loaded late, and is seen by type checkers."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import allm_actors
from allm_actors.actors.store import Store
from allm_actors.engine import adapter, behaviours, wire

CONTRACTS = [
    Store,
    *(getattr(behaviours, name) for name in behaviours.__all__),
    *(adapter.Adapter, adapter.Batches, adapter.Scripted, adapter.ToolExecutor, adapter.ToolResultEncoder),
    *(wire.Transport, wire.HttpResponse),
]


def test_the_list_is_sorted_and_has_every_name_that_has_a_home() -> None:
    assert allm_actors.__all__ == sorted(set(allm_actors.__all__))
    assert {*allm_actors._HOME, *allm_actors._MODULES} <= set(allm_actors.__all__)


def test_the_list_is_written_out_so_that_type_checkers_can_read_it() -> None:
    tree = ast.parse(Path(allm_actors.__file__).read_text())
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and _names(node) == ["__all__"]]
    assert [ast.literal_eval(each) for each in lists] == [allm_actors.__all__]


def test_every_promised_name_can_be_had() -> None:
    assert [name for name in allm_actors.__all__ if getattr(allm_actors, name, None) is None] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, allm_actors; sys.exit(' '.join({'msgspec', 'httpx', 'pykka'} & set(sys.modules)) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_who_implements_a_contract_may_name_the_arguments(contract: type) -> None:
    methods = [
        value for name, value in vars(contract).items() if name[0] != "_" and inspect.isfunction(value)
    ]
    assert methods
    named = {
        each.name
        for method in methods
        for each in inspect.signature(method).parameters.values()
        if each.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    assert named <= {"self"}


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]
