"""What is special about processes on an event loop: others use the loop too."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.system import System
from tests.integration.supervisors.conftest import SOON, Echo


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_task_that_wants_to_end_the_program_does_not_end_the_loop(end: BaseException) -> None:
    dispatcher = LoopDispatcher()
    failed: Future[BaseException | None] = Future()

    async def leave() -> None:
        raise end

    def begin() -> None:
        task = dispatcher.loop.create_task(leave())
        task.add_done_callback(lambda task: failed.set_result(task.exception()))

    with System(dispatcher=dispatcher):
        ref = Echo.start()
        dispatcher.loop.call_soon_threadsafe(begin)
        assert failed.result(SOON) is end
        assert ref.ask("still there", timeout=SOON) == "still there"
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "so is asyncio"), dispatcher.loop).result(
            SOON
        )
    assert dispatcher.loop.is_closed()
