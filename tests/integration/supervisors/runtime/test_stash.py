"""What a process puts aside comes back in its order, before everything else, and is never lost without a word."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors import (
    KILLED,
    GenServer,
    MailboxConfig,
    Process,
    ProcessDown,
    ReplyError,
    StartError,
    Stop,
    System,
    call,
    cast,
    exit,
    get_state,
)
from tests.integration.supervisors.conftest import SOON, Log


class Door(Process):
    """Puts aside whatever comes while it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open = False
        self.seen: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if message in ("open", "close"):
            self.open = message == "open"
            if self.open:
                self.unstash_all()
            return None
        if message == "seen":
            return self.seen
        if not self.open:
            self.stash()
            return "this is no answer"
        self.seen.append(message)
        return message


def test_what_was_put_aside_comes_first_and_in_its_order(system: System) -> None:
    door = Door.start()
    for message in (1, 2):
        door.tell(message)
    third = door.ask(3, block=False)
    door.ask("close", timeout=SOON)  # all three were put aside by now
    assert not third.done()

    door.tell("open")
    door.tell(4)
    assert third.get(timeout=SOON) == 3
    assert door.ask("seen", timeout=SOON) == [1, 2, 3, 4]


def test_a_message_can_be_put_aside_again(system: System) -> None:
    class Third(Door):
        tries = 0

        def on_receive(self, message: Any) -> Any:
            if message != "knock":
                return super().on_receive(message)
            self.tries += 1
            if self.tries < 3:
                self.stash()
            return self.tries

    door = Third.start()
    answer = door.ask("knock", block=False)
    for _ in range(2):
        door.ask("open", timeout=SOON)
    assert answer.get(timeout=SOON) == 3


@pytest.mark.parametrize("end", [lambda ref: exit(ref, "kill"), lambda ref: ref.stop()], ids=["kill", "stop"])
def test_what_is_put_aside_at_the_death_fails_or_is_a_dead_letter(end: Any, system: System) -> None:
    letters = Log()
    system.dead_letters.subscribe(letters)
    door = Door.start()
    door.tell("told")
    asked = door.ask("asked", block=False)
    door.ask("close", timeout=SOON)
    end(door)
    with pytest.raises(ProcessDown) as down:
        asked.get(timeout=SOON)
    assert down.value.reason is door.exit_reason
    assert letters.next().message == "told"
    assert system.dead_letters.count == 1


def test_who_fails_after_putting_aside_has_put_nothing_aside(system: System) -> None:
    class Torn(Door):
        def on_receive(self, message: Any) -> Any:
            if message == "tear":
                self.stash()
                raise ReplyError("torn")
            return super().on_receive(message)

    door = Torn.start()
    with pytest.raises(ReplyError, match="torn"):
        door.ask("tear", timeout=SOON)
    door.ask("open", timeout=SOON)
    assert door.ask(1, timeout=SOON) == 1, "the next message is not put aside instead"
    assert door.ask("seen", timeout=SOON) == [1]


def test_a_server_puts_calls_casts_and_messages_aside(system: System) -> None:
    class Server(GenServer):
        ready = False

        def __init__(self) -> None:
            super().__init__()
            self.log: list[Any] = []

        def handle_call(self, request: Any, from_: Any) -> Any:
            if request == "ready":
                self.ready = True
                self.unstash_all()
                return None
            return self.note(request)

        def handle_cast(self, request: Any) -> None:
            self.note(request)

        def handle_info(self, msg: Any) -> None:
            self.note(msg)

        def note(self, what: Any) -> Any:
            if not self.ready:
                self.stash()
            else:
                self.log.append(what)
            return list(self.log)

    server = Server.start()
    cast(server, "cast")
    server.tell("told")
    answer = server.ask("called", block=False)
    call(server, "ready")
    assert answer.get(timeout=SOON) == ["cast", "told", "called"]
    assert "_actor_stash" not in get_state(server)


def test_only_messages_can_be_put_aside(system: System, log: Log) -> None:
    class Odd(Door):
        def handle_down(self, down: Any) -> None:
            self.stash()

        def on_receive(self, message: Any) -> Any:
            return message(self)

    other, odd = Door.start(), Odd.start(on_exit=log)
    odd.ask(lambda self: self.monitor(other) and None, timeout=SOON)
    exit(other, "kill")
    assert "can stash only" in str(log.next().exc)


@pytest.mark.parametrize(
    "hook", ["init", "handle_continue", "handle_timeout", "on_hibernate", "handle_system"]
)
def test_where_no_message_is_handled_none_can_be_put_aside(hook: str, system: System, log: Log) -> None:
    class Odd(GenServer):
        hibernate_after = 0.0 if hook == "on_hibernate" else None

        def init(self) -> None:
            if hook == "init":
                self.stash()

        def handle_info(self, msg: Any) -> None:
            if hook == "handle_continue":
                self.continue_()
            elif hook == "handle_timeout":
                self.idle_timeout(0.0)
            elif hook == "handle_system":
                self.spawn(Process)

        def note(self, *_: Any) -> None:
            self.stash()

    setattr(Odd, hook, Odd.init if hook == "init" else Odd.note)
    if hook == "init":
        with pytest.raises(StartError, match="can stash only"):
            Odd.start()
    else:
        odd = Odd.start(on_exit=log)
        if hook != "on_hibernate":
            odd.tell("go")
        assert "can stash only" in str(log.next().exc)


@pytest.mark.parametrize("asked", [False, True])
def test_who_stops_after_putting_aside_stops(asked: bool, system: System) -> None:
    class Tired(Process):
        def on_receive(self, message: Any) -> Any:
            self.stash()
            return Stop("tired", reply="this is no answer")

    tired = Tired.start()
    if asked:
        with pytest.raises(ProcessDown) as down:
            tired.ask(1, timeout=SOON)
        assert down.value.reason == "tired"
    else:
        tired.tell(1)
        assert tired.actor_stopped.wait(SOON)
        assert system.dead_letters.count == 1
    assert tired.exit_reason == "tired"


def test_what_has_come_back_comes_back_once(system: System) -> None:
    door = Door.start()
    for message in (1, 2, "open", "close", 3, "open", "close", "open"):
        door.tell(message)
    assert door.ask("seen", timeout=SOON) == [1, 2, 3]
    door.tell("close")
    door.tell(4)
    door.stop()
    assert system.dead_letters.count == 1


def test_the_load_counts_what_comes_back(system: System) -> None:
    class Bounded(Door):
        mailbox = MailboxConfig(maxlen=7)

    door = Bounded.start()
    for message in range(6):
        door.ask("seen", timeout=SOON)  # so that never more than one waits
        door.tell(message)
    door.ask("seen", timeout=SOON)
    door.ask("open", timeout=SOON)
    assert door.ask("seen", timeout=SOON) == list(range(6))
    assert door.load().high_water >= 6
    assert door.load().oldest_age == 0.0


def test_a_killed_handler_puts_nothing_aside(system: System) -> None:
    class Killed(Door):
        def on_receive(self, message: Any) -> Any:
            try:
                exit(self.ref, "kill")
            finally:
                self.stash()

    ref = Killed.start()
    with pytest.raises(ProcessDown) as down:
        ref.ask(1, timeout=SOON)
    assert down.value.reason is KILLED
