"""The same scenarios on a thread each, on a pool, and in simulations: `SEEDS=200` tries more of those."""

import os
import zlib

import pytest

from supervisors import PoolDispatcher, Sim, System, ThreadDispatcher, child
from tests.integration.supervisors.supervision.family import Log, Worker

SEEDS = range(int(os.environ.get("SEEDS", "3")))


@pytest.fixture(
    params=[ThreadDispatcher, PoolDispatcher, *SEEDS],
    ids=lambda each: f"seed-{each}" if isinstance(each, int) else each.__name__,
    autouse=True,
)
def system(request):
    if isinstance(request.param, int):
        # Each scenario has seeds of its own, the same at every run.
        with Sim(zlib.crc32(request.node.nodeid.encode()) + request.param) as sim:
            yield sim.system
    else:
        with System(dispatcher=request.param()) as system:
            yield system


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def worker(log):
    def make(id, outcome=None, **fields):
        return child(Worker, log, id, outcome).replace(id=id, **fields)

    return make
