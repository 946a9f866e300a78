"""In one executable: whatever is imported by a name made at run time is in the list for PyInstaller."""

import importlib.metadata
import runpy
from pathlib import Path

from allm_actors import cli
from allm_actors.engine import catalog, dialects, remote

DISTRIBUTION = "allm-actors"


def hidden():
    (entry,) = [
        each
        for each in importlib.metadata.entry_points(group="pyinstaller40", name="hook-dirs")
        if each.dist is not None and each.dist.name == DISTRIBUTION
    ]
    (folder,) = entry.load()()
    return runpy.run_path(Path(folder) / "hook-allm_actors.py")["hiddenimports"]


def test_the_hook_names_every_module_that_is_found_by_name():
    rows = [*catalog.PROVIDERS.values()]
    formats = {row.dialect for row in rows}
    assert {dialects.find_dialect(name).__module__ for name in formats} <= {*hidden()}
    signers = {f"{remote.__name__}.{row.signer}" for row in rows if row.signer}
    assert signers
    assert signers <= {*hidden()}
    assert {f"{cli.__name__}.{command}" for command in ("chat", "run", "providers", "sessions")} <= {
        *hidden()
    }


def test_the_hook_names_nothing_of_the_tests():
    assert not [name for name in hidden() if "testing" in name or "-" in name]
    assert len({*hidden()}) == len(hidden())
