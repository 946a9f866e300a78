"""What `allm_actors.testing` promises is there, and loaded late."""

import subprocess
import sys

import pytest

from allm_actors import testing


@pytest.mark.parametrize("name", testing.__all__)
def test_every_promised_name_can_be_had(name: str) -> None:
    assert getattr(testing, name) is not None


def test_the_list_is_sorted_and_every_home_is_promised() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert set(testing._HOME) <= set(testing.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        testing.nonsense  # noqa: B018


def test_importing_it_loads_nothing() -> None:
    heavy = "{'msgspec', 'pykka', 'hypothesis'}"
    code = f"import sys, allm_actors.testing; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")
