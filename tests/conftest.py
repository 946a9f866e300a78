"""What every test shares: Hypothesis profiles. `HYPOTHESIS_PROFILE=thorough` looks longer."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisors.runtime.running import running
from supervisors.runtime.system import _entered

# No deadline: a shared machine pauses, and a pause is not a finding. `pytest-timeout` holds the line.
settings.register_profile(
    "quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# A shell that runs us in the background has Ctrl-C ignored, here and in what we start: nothing would ever hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _hypothesis_has_its_random_numbers() -> None:
    """Hypothesis looks, once a thread, for who holds them, and warns when it finds nobody, as may be while another
    thread collects garbage. Here it is alone.
    """
    given(st.none())(lambda _: None)()


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_of_this_module() -> None:
    """Spare every collection of garbage what was made before: thousands of tests, and their reports."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_system_is_left_entered() -> Iterator[None]:
    """A test that left one would make another one fail, later and somewhere else."""
    before = _entered.get(), running.process
    yield
    assert (_entered.get(), running.process) == before
