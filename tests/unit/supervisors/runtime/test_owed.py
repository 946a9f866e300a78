"""An answer is owed as long as somebody could get it, or wants to be told that it will not come."""

import gc
from typing import Any

from supervisors.errors import ProcessDown
from supervisors.runtime.future import Future
from supervisors.runtime.owed import Owed


def down() -> ProcessDown:
    return ProcessDown("over", None)


def test_what_is_settled_before_it_is_owed_is_not_owed() -> None:
    owed, future = Owed(), Future[Any]()
    future.set(1)
    owed.add(future)
    assert len(owed) == 0


def test_what_is_discarded_does_not_fail() -> None:
    owed, future = Owed(), Future[Any]()
    owed.add(future)
    owed.discard(future)
    owed.fail(down)
    assert not future.done()
    assert len(owed) == 0


def test_what_nobody_waits_for_is_forgotten() -> None:
    owed, future = Owed(), Future[Any]()
    owed.add(future)
    assert len(owed) == 1
    del future
    gc.collect()
    assert len(owed) == 0


def test_a_callback_is_told_of_the_end_when_all_have_let_the_future_go() -> None:
    told: list[Any] = []
    owed, future = Owed(), Future[Any]()
    future.add_done_callback(lambda each: told.append(type(each.error)))
    owed.add(future)
    del future
    gc.collect()
    assert len(owed) == 1
    owed.fail(down)
    owed.fail(down)
    assert told == [ProcessDown]
    assert len(owed) == 0


def test_each_that_is_owed_fails_with_an_error_of_its_own() -> None:
    owed, futures = Owed(), [Future[Any]() for _ in range(2)]
    for future in futures:
        owed.add(future)
    owed.fail(down)
    errors = [future.error for future in futures]
    assert [type(error) for error in errors] == [ProcessDown, ProcessDown]
    assert errors[0] is not errors[1]
