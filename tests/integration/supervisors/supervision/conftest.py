"""The same scenarios on a thread each, on a pool, and in simulations."""

import pytest

from supervisors import PoolDispatcher, Sim, System, ThreadDispatcher, child
from tests.integration.supervisors.conftest import name_of
from tests.integration.supervisors.supervision.family import Log, Worker


@pytest.fixture(params=[ThreadDispatcher, PoolDispatcher, Sim], ids=name_of, autouse=True)
def system(request):
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
