"""Ctrl-C strikes anywhere in what the main thread does with processes: they are all there for whoever goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from supervisors.runtime import dispatch
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from tests.integration.interrupting import interrupted
from tests.integration.supervisors.conftest import SOON, Echo

pytestmark = pytest.mark.real("signals strike the main thread")

DISPATCHERS = [LoopDispatcher, PinnedDispatcher, ThreadDispatcher, PoolDispatcher]


@pytest.fixture(params=DISPATCHERS)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dispatch, "_PAUSE", 0.001)
    make: Callable[[], Dispatcher] = request.param
    with System(dispatcher=make()) as system:
        yield system


@pytest.mark.parametrize(
    "work",
    [
        lambda ref: ref.tell("hello"),
        lambda ref: ref.ask("hello", timeout=SOON),
        lambda ref: ref.ask("hello", block=False),
        lambda ref: ref.proxy().actor_urn.get(timeout=SOON),
    ],
    ids=["tell", "ask", "ask later", "proxy"],
)
def test_whoever_is_told_or_asked_is_there_for_the_next(here: System, work: Callable[[Any], object]) -> None:
    ref = Echo.start()
    for at in itertools.count():
        struck = interrupted(lambda: work(ref), at, "supervisors")
        assert ref.ask(at, timeout=SOON) == at
        if not struck:
            break
    assert at > 10  # there were so many places


def test_others_have_their_turn_at_once(here: System) -> None:
    ref, other = Echo.start(), Echo.start()
    for at in itertools.count():
        struck = interrupted(lambda: ref.tell("hello"), at, "supervisors")
        assert other.ask(at, timeout=SOON) == at
        assert ref.ask(at, timeout=SOON) == at
        if not struck:
            break
