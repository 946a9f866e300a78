"""For pytest: fixtures that are there as soon as the library is installed.

    def test_it_answers(fake_engine): ...        # fake_engine([[script.text("Hi."), script.finish("stop")]])
    def test_it_recovers(sim_host): ...          # a simulated host, entered; with a marker, for many seeds
    def test_the_wire(loopback): ...             # loopback(replies): a started server on 127.0.0.1
    def test_it_talks(recorded): ...             # recorded(engine): plays this test's recording, or makes it

`ALLM_RECORD=1` in the environment, and a key, make recordings anew: `recordings/<file>/<test>.json` beside the test.

`@pytest.mark.allm_schedules(50)` runs a test with `sim_host` once for each of 50 seeds, and gives `schedules` that
number; the option `--allm-schedules=N` gives every such test N instead (a quick look, or a long night).

Rule of this file: pytest loads it in every run of everybody who has the library installed, so it imports nothing but
pytest; a fixture imports what it needs when it is used.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from allm_actors.engine.engine import Engine
    from allm_actors.testing.loopback import LoopbackServer
    from allm_actors.testing.simhost import SimHost

pytest.register_assert_rewrite("allm_actors.testing.conformance", "allm_actors.testing.laws")

_MARKER = "allm_schedules"


def pytest_addoption(parser: pytest.Parser) -> None:
    """See the option in `pytest --help`."""
    group = parser.getgroup("allm-actors")
    group.addoption(
        "--allm-schedules",
        type=int,
        default=None,
        metavar="N",
        help="how many seeds tests marked allm_schedules are run with, instead of the number in their marker",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(count): run with that many seeds (sim_host), or schedules (the fixture of that name)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed of the simulated host."""
    if "_seed_of_sim_host" in metafunc.fixturenames:
        seeds = range(_count(metafunc.definition, metafunc.config, default=1))
        ids = [f"seed {seed}" for seed in seeds]
        metafunc.parametrize("_seed_of_sim_host", seeds, indirect=True, ids=ids)


@pytest.fixture
def schedules(request: pytest.FixtureRequest) -> int:
    """How many schedules this test may take: the marker's number (200 without one), or the option's."""
    return _count(request.node, request.config, default=200)


@pytest.fixture
def _seed_of_sim_host(request: pytest.FixtureRequest) -> int:
    """The seed of this test. A fixture beside `sim_host`, so that a suite may parametrize, or replace, that one."""
    if not hasattr(request, "param") and request.node.get_closest_marker(_MARKER) is not None:
        pytest.fail(
            "request.getfixturevalue('sim_host') comes too late to run this test with many seeds: name sim_host as an "
            f"argument of the test, or in usefixtures, or remove the marker {_MARKER}",
            pytrace=False,
        )
    return int(getattr(request, "param", 0))


@pytest.fixture
def sim_host(request: pytest.FixtureRequest, _seed_of_sim_host: int) -> Iterator[SimHost]:
    """A simulated host, running, with a seed of its own: the parameter, if a test gives it one."""
    from allm_actors.testing.simhost import SimHost

    with SimHost(getattr(request, "param", _seed_of_sim_host)) as host:
        yield host


@pytest.fixture
def fake_engine() -> Callable[..., Engine]:
    """`fake_engine(scripts, **fields)`: an engine that plays these scripts, one for each model call. `fields` are the
    engine's, with other `adapter_opts`, such as `record`, as well.
    """
    from allm_actors.engine.engine import Engine

    def make(scripts: Sequence[Sequence[Any]], **fields: Any) -> Engine:
        opts = {"scripts": [list(script) for script in scripts], **(fields.pop("adapter_opts", None) or {})}
        return Engine(adapter="fake", adapter_opts=opts, **fields)

    return make


@pytest.fixture
def loopback() -> Iterator[Callable[[Any], LoopbackServer]]:
    """`loopback(replies)`: a server on 127.0.0.1 that is stopped after the test."""
    from allm_actors.testing.loopback import LoopbackServer

    with ExitStack() as servers:
        yield lambda replies: servers.enter_context(LoopbackServer(replies))


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """`recorded(engine, **how)`: the engine over this test's recording; `how` is of `Recorder` and `Player`: `redact`.

    With `ALLM_RECORD=1` and a key for the engine's provider the network is asked and the recording made anew. Otherwise
    it is played; a test that has none fails, and says how to make it.
    """
    from allm_actors.testing.recordings import RECORD, Recordings

    place = request.path.parent / "recordings" / request.path.stem
    kept, earlier = place / f"{_name_of(request.node)}.json", place / f"{_plain(request.node.name)}.json"
    if not kept.exists() and earlier.exists() and os.environ.get(RECORD) != "1":
        kept = earlier  # from when classes and letters were not told apart
    recordings = Recordings(kept)

    def over(engine: Engine, **how: Any) -> Engine:
        try:
            return recordings.over(engine, **how)
        except FileNotFoundError as missing:
            pytest.fail(str(missing), pytrace=False)

    return over


def _name_of(node: Any) -> str:
    """What its recording is called: no other test of the file has that."""
    inside = node.nodeid.partition("::")[2].replace("::", ".")
    name = _plain(inside)
    return name if name == inside else f"{name}-{hashlib.sha256(inside.encode()).hexdigest()[:8]}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _count(node: Any, config: pytest.Config, *, default: int) -> int:
    marker = node.get_closest_marker(_MARKER)
    if marker is None:
        return default
    if len(marker.args) != 1 or marker.kwargs or not _is_positive(marker.args[0]):
        raise pytest.UsageError(
            f"{node.nodeid}: use @pytest.mark.{_MARKER}(50), got {marker.args or marker.kwargs}"
        )
    given: int | None = config.getoption("--allm-schedules")
    if given is not None and given < 1:
        raise pytest.UsageError(f"--allm-schedules must be a positive number, got: {given}")
    return int(marker.args[0]) if given is None else given


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
