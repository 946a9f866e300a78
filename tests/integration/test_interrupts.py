"""Ctrl-C, caught as a prompt or a notebook does: whatever it struck, the host and its sessions go on."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from tests.integration.interrupting import interrupted

# Python prints what strikes a finalizer, and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PACKAGES = ("supervisors", "allm_actors/actors", "allm_actors/execution")
CALLS = [script.tool_call("add", {"a": 1, "b": 2}, id="c0"), script.finish("tool_calls")]
SOON = 20.0
SAYS = [script.text("Three."), script.finish("stop")]


@allm.tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


ENGINE = allm.Engine("fake", tools=[add], adapter_opts={"scripts": [[*CALLS], [*SAYS]] * 20_000})


def whole(host: allm.Host) -> None:
    host.session("s", ENGINE).reply("1 + 2?").result()


def streamed(host: allm.Host) -> None:
    with host.session("s", ENGINE).reply("1 + 2?") as turn:
        for _ in turn:
            pass


def cancelled(host: allm.Host) -> None:
    session = host.session("s", ENGINE)
    turn = session.reply("1 + 2?")
    next(turn)
    session.cancel()
    turn.result()


def another(host: allm.Host) -> None:
    session = host.session(f"s{time.monotonic_ns()}", ENGINE)
    session.reply("1 + 2?").result()
    session.stop()


def forgotten(host: allm.Host) -> None:
    host.session("s", ENGINE).reply("1 + 2?").result()
    host.delete_session("s")


def listed(host: allm.Host) -> None:
    host.session_ids()


@pytest.mark.parametrize("store", [None, "s.db"])
@pytest.mark.parametrize("work", [whole, streamed, cancelled, another, forgotten, listed])
def test_a_host_goes_on_wherever_ctrl_c_has_struck(
    work: Callable[[allm.Host], object], store: str | None, tmp_path: Any
) -> None:
    stride = 13  # of some 2,000 places; each run of this test takes others
    with allm.Host(store=store and tmp_path / store) as host:
        work(host)
        for at in itertools.count(time.monotonic_ns() % stride, stride):
            struck = interrupted(lambda: work(host), at, *PACKAGES)
            session = host.session("s", ENGINE)
            if session.status == "error":
                session.recover()
            assert session.reply("And now?").result().halted_reason == "completed", at
            if len(session.messages) > 40:
                host.delete_session("s")
            if not struck:
                break
        gc.collect()  # what was struck may leave a turn that nobody reads, whose end is that of its stream
        deadline = time.monotonic() + SOON
        while host.stats().turns:
            assert time.monotonic() < deadline, host.stats()


def test_a_start_that_ctrl_c_has_struck_is_over_at_once() -> None:
    host = allm.Host(shutdown_timeout=1e6)
    for at in itertools.count(0, 40):
        struck = interrupted(host.start, at, *PACKAGES)
        began = time.monotonic()
        host.stop()  # harmless where nothing runs; what was struck after the last step of the start does
        assert time.monotonic() - began < SOON
        if not struck:
            break
    gc.collect()  # a start that was struck may leave an event loop that nobody closes
