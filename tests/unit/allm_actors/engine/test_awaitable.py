"""What a function returned is its result, awaitable or not."""

import asyncio

import pytest

from allm_actors.engine.awaitable import result_of


class Own:
    """An awaitable that is no coroutine."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return 7


async def seven():
    return 7


async def fails():
    raise LookupError("no")


@pytest.mark.parametrize("returned", [lambda: 7, seven, Own], ids=["value", "coroutine", "awaitable"])
def test_a_result_is_awaited_if_it_must_be(returned):
    assert result_of(returned()) == 7


def test_what_an_awaitable_raises_is_raised():
    with pytest.raises(LookupError, match="no"):
        result_of(fails())
