"""News are told in their order to everybody, whatever strikes while they are told."""

from threading import RLock, Thread
from typing import Any

import pytest

from supervisors.runtime.news import News


class Listener:
    """In the place of a ref: hears what it is told, and is struck by Ctrl-C as often as it is to be."""

    def __init__(self, heard: list[Any], strikes: int = 0) -> None:
        self.heard = heard
        self.strikes = strikes

    def inform(self, message: Any) -> None:
        self.heard.append(message)
        if self.strikes:
            self.strikes -= 1
            raise KeyboardInterrupt


def test_who_is_struck_while_telling_tells_the_rest_and_then_of_the_strike() -> None:
    heard: list[Any] = []
    news = News(RLock(), lambda ref: None)
    struck, other = Listener(heard, strikes=1), Listener(heard)
    for ref, message in [(struck, 1), (other, 2), (struck, 3)]:
        news.add(ref, message)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        news.tell()
    assert heard == [1, 2, 3]
    news.add(other, 4)  # type: ignore[arg-type]
    news.tell()
    assert heard == [1, 2, 3, 4]


def test_what_is_added_while_something_is_told_comes_after_it() -> None:
    heard: list[Any] = []
    news = News(RLock(), lambda ref: None)
    other = Listener(heard)

    class Adds(Listener):
        def inform(self, message: Any) -> None:
            news.add(other, "added")  # type: ignore[arg-type]
            news.tell()
            super().inform(message)

    news.add(Adds(heard), "first")  # type: ignore[arg-type]
    news.add(other, "second")  # type: ignore[arg-type]
    news.tell()
    assert heard == ["first", "second", "added"]


def test_a_dead_process_whose_burial_was_struck_is_buried_the_next_time() -> None:
    buried: list[Any] = []
    dead = Listener([])

    def forget(ref: Any) -> None:
        buried.append(ref)
        if len(buried) == 1:
            raise KeyboardInterrupt

    news = News(RLock(), forget)
    with pytest.raises(KeyboardInterrupt):
        news.died(dead)  # type: ignore[arg-type]
    news.tell()
    news.tell()
    assert buried == [dead, dead]


def test_who_dies_in_the_middle_of_a_change_is_forgotten_after_it() -> None:
    buried: list[Any] = []
    lock, dead = RLock(), Listener([])
    news = News(lock, buried.append)
    with lock:
        news.died(dead)  # type: ignore[arg-type]
        assert buried == []
    news.tell()
    assert buried == [dead]


def test_what_a_burial_brings_is_told() -> None:
    heard: list[Any] = []
    other = Listener(heard)
    news = News(RLock(), lambda ref: news.add(other, "gone"))  # type: ignore[arg-type]
    news.died(Listener([]))  # type: ignore[arg-type]
    assert heard == ["gone"]


def test_no_lock_is_held_while_something_is_told() -> None:
    free: list[bool] = []
    lock = RLock()

    def look() -> None:
        free.append(lock.acquire(blocking=False))
        if free[-1]:
            lock.release()

    class Looks(Listener):
        def inform(self, message: Any) -> None:
            elsewhere = Thread(target=look)
            elsewhere.start()
            elsewhere.join()

    news = News(lock, lambda ref: None)
    news.add(Looks([]), "news")  # type: ignore[arg-type]
    news.tell()
    assert free == [True]
