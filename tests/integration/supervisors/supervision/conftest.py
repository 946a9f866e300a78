"""The same scenarios on a thread each, on a pool, and in simulations."""

import pytest

from supervisors import PoolDispatcher, Sim, System, ThreadDispatcher
from tests.integration.supervisors.conftest import name_of


@pytest.fixture(params=[ThreadDispatcher, PoolDispatcher, Sim], ids=name_of, autouse=True)
def system(request):
    with System(dispatcher=request.param()) as system:
        yield system
