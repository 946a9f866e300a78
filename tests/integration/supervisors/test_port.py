"""A program and its process end together, with everything that the program started, and leave nothing behind."""

from __future__ import annotations

import errno
import itertools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from supervisors import (
    KILLED,
    NO_REPLY,
    NORMAL,
    SHUTDOWN,
    BadSpec,
    Crash,
    ProcessDown,
    StartError,
    Supervisor,
    System,
    child,
    exit,
)
from supervisors.port import EOF, CommandFailed, ExitStatus, FrameTooLong, Port, PortData, PortRefused
from supervisors.port.program import Program, _code_at_end
from tests.integration.interrupting import interrupted
from tests.integration.supervisors.conftest import SOON, Log, Watcher, beside

pytestmark = [
    pytest.mark.real("a program of the operating system"),
    pytest.mark.usefixtures("blocking_system"),
]

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def _nothing_is_left_open(_no_thread_is_left_behind: None) -> Iterator[None]:
    before = sorted(Path("/dev/fd").iterdir())
    yield
    end = time.monotonic() + SOON
    # What was killed is reaped, and its pipes are closed, by its own threads.
    while sorted(Path("/dev/fd").iterdir()) != before and time.monotonic() < end:
        select.select([], [], [], 0.005)
    assert sorted(Path("/dev/fd").iterdir()) == before


@pytest.fixture
def owner(log: Log) -> Any:
    return Watcher.start(log)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "alive")
    yield group
    os.close(group.fd)


class Group:
    """Knows when the last of those who were told to `say` that they live is dead, however and wherever that was."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.say = f"exec 9>'{path}'; "
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def is_dead(self, within: float = SOON) -> bool:
        # At the end of a FIFO nobody is left who could write to it.
        ready, _, _ = select.select([self.fd], [], [], within)
        return bool(ready) and os.read(self.fd, 1) == b""


def sh(script: str, **options: Any) -> Any:
    return Port.start(["sh", "-c", script], **options)


def watch(owner: Any, port: Any) -> None:
    owner.ask(lambda self: self.monitor(port) and None)


def ended(log: Log) -> Any:
    """The reason with which what is watched ends; output is not looked at."""
    while isinstance(news := log.next(), PortData):
        pass
    return news.reason


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_what_is_told_goes_in_and_what_comes_out_is_told_and_then_the_end(owner: Any, log: Log) -> None:
    port = Port.start(["cat"], owner=owner)
    watch(owner, port)
    port.tell(b"one")
    assert port.ask(b"two", timeout=SOON) is None
    port.tell(EOF)
    assert [log.next() for _ in range(2)] == [PortData(port, b"one"), PortData(port, b"two")]
    assert log.next().reason is NORMAL
    assert port.exit_reason is NORMAL


def test_a_name_may_be_the_owner_and_what_nobody_owns_is_a_dead_letter(log: Log) -> None:
    letters = Log()
    System.current().dead_letters.subscribe(letters)
    Watcher.start(log, name="owner")
    Port.start(["echo", "hello"], owner="owner")
    assert log.next().data == b"hello"
    Port.start(["echo", "hello"])
    assert letters.next().message.data == b"hello"


def test_much_goes_through_in_order(owner: Any, log: Log) -> None:
    port = Port.start(["cat"], owner=owner, framing="packets")
    sent = [bytes([n % 256]) * 10_000 for n in range(300)]
    for packet in sent:
        port.tell(packet)
    port.tell(EOF)
    assert [log.next().data for _ in sent] == sent


def test_a_stream_arrives_as_it_comes(owner: Any, log: Log) -> None:
    sh("printf abc", owner=owner, framing="stream")
    assert log.next().data == b"abc"


def test_errors_go_where_they_are_told_to(owner: Any, log: Log) -> None:
    sh("echo out; echo err >&2", owner=owner, stderr="stdout")
    assert {log.next().data, log.next().data} == {b"out", b"err"}
    quiet = sh("read go; echo err >&2; echo out", owner=owner, stderr="discard")
    watch(owner, quiet)
    quiet.tell(b"go")
    assert log.next().data == b"out"
    assert log.next().reason is NORMAL


def test_a_program_has_the_place_and_the_environment_it_is_given(
    owner: Any, log: Log, tmp_path: Path
) -> None:
    sh('pwd; echo "$WHO"', owner=owner, cwd=tmp_path, env={"WHO": "me"})
    assert (log.next().data, log.next().data) == (str(tmp_path).encode(), b"me")


def test_who_asks_waits_until_the_program_has_read(tmp_path: Path) -> None:
    may = tmp_path / "may"
    os.mkfifo(may)
    port = sh(f"read go <'{may}'; exec cat >/dev/null")
    waiting = port.ask(b"x" * 400_000, block=False)  # more than fits into a pipe
    assert not waiting.done()
    may.write_bytes(b"go\n")
    assert waiting.get(timeout=SOON) is None


def test_a_program_that_does_not_read_is_given_only_so_much() -> None:
    class Small(Port):
        max_input = 200_000

    port = Small.start(["sleep", "1000"])
    waiting = port.ask(b"x" * 150_000, block=False)
    with pytest.raises(PortRefused) as refused:
        port.ask(b"x" * 150_000, timeout=SOON)
    assert refused.value.why == "input full"
    exit(port, "kill")
    with pytest.raises(ProcessDown):
        waiting.get(timeout=SOON)


def test_what_the_program_has_taken_does_not_count_and_one_frame_may_be_longer() -> None:
    class Small(Port):
        max_input = 100

    port = Small.start(["cat"])
    for _ in range(3):
        assert port.ask(b"x" * 60, timeout=SOON) is None
    assert port.ask(b"x" * 1000, timeout=SOON) is None


def test_what_a_program_has_not_taken_when_it_closed_its_input_is_in_nobodys_way(tmp_path: Path) -> None:
    class Small(Port):
        max_input = 200_000

    may = tmp_path / "may"
    os.mkfifo(may)
    port = Small.start(["sh", "-c", f"read go <'{may}'; exec 0<&-; exec sleep 1000"])
    waiting = port.ask(b"x" * 150_000, block=False)  # more than fits into a pipe
    may.write_bytes(b"go\n")
    for answer in (waiting, None):
        with pytest.raises(PortRefused) as refused:
            (answer or port.ask(b"x" * 150_000, block=False)).get(timeout=SOON)
        assert refused.value.why == "input ended"


def test_a_program_that_writes_too_fast_is_made_to_wait(log: Log) -> None:
    class Slow(Port):
        seen = 0

        def handle_data(self, data: bytes) -> None:
            self.seen += 1
            if self.seen % 1000 == 0:
                log((self.seen, len(self.actor_inbox)))
                self.ref.tell(b"")  # written, and not read by anybody

    port = Slow.start(["sh", "-c", "exec yes"], framing="stream")
    lengths = [log.next()[1] for _ in range(3)]
    assert max(lengths) <= 70, "64 chunks, and what the test itself has told it"
    exit(port, "kill")


@pytest.mark.parametrize("message", ["text", 3, None, ["bytes"]], ids=repr)
def test_what_is_no_bytes_is_refused_and_harms_nobody(message: Any) -> None:
    port = Port.start(["cat"])
    with pytest.raises(PortRefused) as refused:
        port.ask(message, timeout=SOON)
    assert refused.value.why == "not bytes"
    assert port.ask(b"bytes", timeout=SOON) is None


def test_nothing_can_be_written_after_the_end_of_the_input() -> None:
    letters = Log()
    System.current().dead_letters.subscribe(letters)
    port = sh("sleep 1000")
    port.tell(EOF)
    with pytest.raises(PortRefused) as refused:
        port.ask(b"late", timeout=SOON)
    assert refused.value.why == "input ended"
    port.tell(b"later")
    assert letters.next().message == b"later"


def test_a_program_that_closes_its_input_is_no_failure(owner: Any, log: Log) -> None:
    port = sh("exec 0<&-; echo closed; sleep 1000", owner=owner)
    assert log.next().data == b"closed"
    with pytest.raises(PortRefused) as refused:
        port.ask(b"x", timeout=SOON)
    assert refused.value.why == "input ended"
    assert port.is_alive()


def test_a_program_that_closes_its_output_may_go_on(owner: Any, log: Log) -> None:
    port = sh("exec 1>&-; read line; exit 7", owner=owner)
    watch(owner, port)
    port.tell(b"go")
    assert log.next().reason == ExitStatus(7)


def test_an_output_that_is_at_its_end_is_not_read_over_and_over(
    owner: Any, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ends = Program._read, []

    def counted(self: Program) -> bool:
        more = read(self)
        if not more:
            ends.append(1)
            log("end of the output")
        return more

    monkeypatch.setattr(Program, "_read", counted)
    port = sh("exec 1>&-; read line; exit 7", owner=owner)
    assert log.next() == "end of the output"
    watch(owner, port)
    port.tell(b"go")
    assert log.next().reason == ExitStatus(7)
    assert ends == [1]


def test_a_line_without_an_end_ends_the_port(owner: Any, log: Log, group: Group) -> None:
    class Narrow(Port):
        max_frame = 100

    port = Narrow.start(["sh", "-c", group.say + "read go; head -c 1000 /dev/zero; sleep 1000"])
    watch(owner, port)
    port.tell(b"go")
    assert isinstance(log.next().reason.exc, FrameTooLong)
    assert group.is_dead()


def test_lines_that_came_with_one_that_is_too_long_are_delivered(owner: Any, log: Log) -> None:
    class Narrow(Port):
        max_frame = 100

    port = Narrow.start(
        ["sh", "-c", f"read go; printf 'one\\ntwo\\n{'x' * 200}\\n'; sleep 1000"], owner=owner
    )
    watch(owner, port)
    port.tell(b"go")
    assert [log.next().data, log.next().data] == [b"one", b"two"]
    assert isinstance(log.next().reason.exc, FrameTooLong)


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason", "number"),
    [("exit 0", NORMAL, None), ("exit 3", ExitStatus(3), None), ("kill -9 $$", ExitStatus(-9), "SIGKILL")],
    ids=["clean", "code", "signal"],
)
def test_the_status_is_the_reason(script: str, reason: Any, number: Any, owner: Any, log: Log) -> None:
    port = sh(f"read go; {script}")
    watch(owner, port)
    port.tell(b"go")
    assert log.next().reason == reason
    assert getattr(port.exit_reason, "signal", None) == number


@pytest.fixture
def _children_reap_themselves() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("_children_reap_themselves")
def test_where_sigchld_is_ignored_nobody_knows_how_it_ended(owner: Any, log: Log) -> None:
    port = sh("read go")
    watch(owner, port)
    port.tell(b"go")
    assert log.next().reason == ExitStatus(None)
    assert port.exit_reason.signal is None


@pytest.mark.usefixtures("_children_reap_themselves")
def test_a_number_that_may_be_a_strangers_is_sent_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_later(popen: Any) -> int:
        assert looked.wait(SOON)
        return _code_at_end(popen)

    signals: list[int] = []
    looked = threading.Event()
    monkeypatch.setattr("supervisors.port.program._code_at_end", look_later)
    program = Program(["true"], on_output=print, on_exit=lambda _: None)
    monkeypatch.setattr(os, "killpg", lambda _pid, number: signals.append(number))
    with suppress(ChildProcessError):
        os.waitpid(program.pid, 0)  # until it is gone
    program.kill()
    looked.set()
    assert signals == []


def test_the_status_is_known_also_where_somebody_else_reaps(
    monkeypatch: pytest.MonkeyPatch, owner: Any, log: Log
) -> None:
    def reap_first(popen: Any) -> int:
        code = _code_at_end(popen)
        os.waitpid(popen.pid, 0)
        return code

    monkeypatch.setattr("supervisors.port.program._code_at_end", reap_first)
    port = sh("read go; exit 3")
    watch(owner, port)
    port.tell(b"go")
    assert log.next().reason == ExitStatus(3)


def test_a_failure_is_restarted_and_a_success_is_not(owner: Any, log: Log) -> None:
    spec = child(Port, ["sh", "-c", 'echo "$$"; read code; exit "$code"'], owner=owner)
    sup = Supervisor.start_link([spec.replace(restart="transient")])
    first, pid = sup.which_child(Port).ref, log.next().data
    first.tell(b"1")
    assert log.next().data != pid, "another program"
    second = sup.which_child(Port).ref
    watch(owner, second)
    second.tell(b"0")
    assert log.next().reason is NORMAL
    assert sup.which_child(Port).ref is None


def test_a_kill_kills_the_whole_group(owner: Any, log: Log, group: Group) -> None:
    port = sh(group.say + "sh -c 'sleep 1000 & echo ready; wait' & wait", owner=owner)
    assert log.next().data == b"ready"
    assert not group.is_dead(within=0)
    exit(port, "kill")
    assert port.exit_reason is KILLED
    assert group.is_dead()


def test_what_the_program_leaves_running_is_killed_when_it_ends(owner: Any, log: Log, group: Group) -> None:
    port = sh(group.say + "read go; sleep 1000 & echo left", owner=owner)
    watch(owner, port)
    port.tell(b"go")
    assert log.next().data == b"left"
    assert log.next().reason is NORMAL
    assert group.is_dead()


def test_who_leaves_the_group_and_keeps_the_pipe_keeps_nobody_waiting(
    owner: Any, log: Log, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    leaves = f"setsid sh -c 'echo $$ >{pid}; echo out; exec sleep 1000' &"
    port = sh(f"read go; {leaves} while ! test -s {pid}; do :; done", owner=owner)
    watch(owner, port)
    port.tell(b"go")
    assert ended(log) is NORMAL
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_shutdown_is_a_friendly_signal(owner: Any, log: Log) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    sup = Supervisor.start_link([child(Port, ["sh", "-c", script], owner=owner)])
    port = sup.which_child(Port).ref
    watch(owner, port)
    assert log.next().data == b"ready"
    sup.terminate_child(Port)
    assert log.next().data == b"bye", "what it says at last is told"
    assert repr(log.next().reason) == "SHUTDOWN", "it ended as it was told to, whatever its code"


def test_who_does_not_listen_is_killed_when_its_time_is_over(owner: Any, log: Log, group: Group) -> None:
    spec = child(Port, ["sh", "-c", group.say + STUBBORN], owner=owner)
    sup = Supervisor.start_link([spec.replace(shutdown=0.2)])
    port = sup.which_child(Port).ref
    assert log.next().data == b"ready"
    begun = time.monotonic()
    sup.terminate_child(Port)
    assert time.monotonic() - begun >= 0.2
    assert port.exit_reason is KILLED
    assert group.is_dead()


def test_the_patience_of_a_supervisor_is_that_of_the_spec(owner: Any, log: Log) -> None:
    class Hasty(Port):
        shutdown = 0.0

    script = "trap 'echo asked; read last; echo $last; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    sup = Supervisor.start_link([child(Hasty, ["sh", "-c", script], owner=owner).replace(shutdown=SOON)])
    [port] = [each.ref for each in sup.which_children()]
    assert log.next().data == b"ready"
    stopped = beside(sup.stop)
    assert log.next().data == b"asked"
    port.tell(b"words")
    assert log.next().data == b"words"
    stopped.get(timeout=SOON)


def test_a_clients_stop_has_an_end_too(owner: Any, log: Log, group: Group) -> None:
    class Hasty(Port):
        shutdown = 0.2

    port = Hasty.start(["sh", "-c", group.say + STUBBORN], owner=owner)
    assert log.next().data == b"ready"
    assert port.stop(timeout=SOON)
    assert port.exit_reason is NORMAL
    assert group.is_dead()


@pytest.mark.timeout(20)
def test_a_finalizer_may_kill_a_program_at_any_moment_of_its_use() -> None:
    def use(program: Program) -> None:
        program.write(b"x", lambda _: None)
        program.handled()
        program.end_input()
        program.terminate()

    for at in itertools.count():
        ended = threading.Event()
        program = Program(["cat"], on_output=lambda _: None, on_exit=lambda _, ended=ended: ended.set())
        struck = interrupted(partial(use, program), at, "supervisors/port", by=program.kill)
        program.kill()
        assert ended.wait(SOON)
        if not struck:
            break
    assert at > 10  # there were so many places


@pytest.mark.timeout(20)
def test_a_finalizer_that_kills_a_program_while_it_is_reaped_signals_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, signals = threading.Event(), []
    program = Program(["cat"], on_output=lambda _: None, on_exit=lambda _: ended.set())
    wait = program._popen.wait

    def wait_and_kill() -> int:
        code = wait()
        monkeypatch.setattr(
            "supervisors.port.program._is_a_child", lambda _: True
        )  # it is a stranger's by now
        monkeypatch.setattr(os, "killpg", lambda *signal: signals.append(signal))
        program.kill()
        return code

    monkeypatch.setattr(program._popen, "wait", wait_and_kill)
    program.end_input()
    assert ended.wait(SOON)
    assert signals == []


def test_an_exit_that_nobody_waits_for_has_an_end_too(owner: Any, log: Log, group: Group) -> None:
    class Hasty(Port):
        shutdown = 0.2

    port = Hasty.start(["sh", "-c", group.say + STUBBORN], owner=owner)
    assert log.next().data == b"ready"
    watch(owner, port)
    exit(port, SHUTDOWN)
    assert log.next().reason is SHUTDOWN
    assert group.is_dead()


def test_a_forked_child_holds_no_pipe_of_a_program(owner: Any, log: Log) -> None:
    forked_ends, we_end = os.pipe()
    port = Port.start(["cat"], owner=owner)
    watch(owner, port)
    port.tell(b"x")
    assert log.next().data == b"x"
    pid = os.fork()  # beside threads, as it happens to users
    if pid == 0:
        os.close(we_end)
        os.read(forked_ends, 1)  # until the parent has seen what it wants to see
        os._exit(0)
    try:
        port.tell(EOF)
        assert log.next().reason is NORMAL
    finally:
        os.close(we_end)
        os.close(forked_ends)
        os.waitpid(pid, 0)


def test_a_crash_takes_the_program_with_it(group: Group) -> None:
    class Fragile(Port):
        def handle_data(self, data: bytes) -> None:
            raise ValueError(data)

    port = Fragile.start(["sh", "-c", group.say + "echo boom; sleep 1000"])
    assert group.is_dead()
    assert isinstance(port.exit_reason, Crash)


def test_a_port_whose_supervisor_was_killed_takes_its_program_with_it(
    owner: Any, log: Log, group: Group
) -> None:
    class Hasty(Port):
        shutdown = 0.1

    sup = Supervisor.start([child(Hasty, ["sh", "-c", group.say + STUBBORN], owner=owner)])
    assert log.next().data == b"ready"
    exit(sup, "kill")
    assert group.is_dead()


def test_leaving_the_system_ends_its_programs(log: Log, group: Group) -> None:
    with System():
        Port.start(["sh", "-c", group.say + "echo ready; cat"], owner=Watcher.start(log))
        assert log.next().data == b"ready"
    assert group.is_dead()


def test_the_dead_are_reaped(owner: Any) -> None:
    ports = [sh("echo 1; read x") for _ in range(8)]
    pids = [port.proxy().pid.get(timeout=SOON) for port in ports]
    assert len(set(pids)) == 8
    for port in ports:
        exit(port, "kill")
    end = time.monotonic() + SOON
    while any(_is_ours(pid) for pid in pids) and time.monotonic() < end:
        select.select([], [], [], 0.005)
    assert not any(_is_ours(pid) for pid in pids)


def _is_ours(pid: int) -> bool:
    # WNOWAIT: to look is not to reap.
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


# --- starts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options", "number"),
    [
        (["there-is-no-such-program"], {}, errno.ENOENT),
        (["/"], {}, errno.EACCES),
        (["cat"], {"cwd": "/there/is/no/such/place"}, errno.ENOENT),
    ],
    ids=["unknown", "not executable", "no such place"],
)
def test_a_program_that_cannot_be_run_is_a_start_error(command: Any, options: Any, number: int) -> None:
    with pytest.raises(StartError) as error:
        Port.start([*command, "a-secret-argument"], **options)
    cause = error.value.__cause__
    assert isinstance(cause, CommandFailed)
    assert (cause.command, cause.errno) == (command[0], number)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("ls -l", {}),
        (b"ls", {}),
        ([], {}),
        ([""], {}),
        (["ls", 3], {}),
        (["l\0s"], {}),
        (None, {}),
        (["ls"], {"stderr": "somewhere"}),
        (["ls"], {"framing": "words"}),
    ],
    ids=repr,
)
def test_nonsense_is_refused_before_anything_runs(command: Any, options: Any) -> None:
    with pytest.raises(BadSpec):
        Port.start(command, **options)


def test_under_a_supervisor_a_program_that_is_not_there_is_the_childs_failure() -> None:
    with pytest.raises(StartError, match="there-is-no-such-program"):
        Supervisor.start_link([child(Port, ["there-is-no-such-program"])])


def test_python_in_a_port_is_really_killed(owner: Any, log: Log, group: Group) -> None:
    spin = "print('ready', flush=True)\nwhile True: pass"
    port = sh(f'{group.say} exec "{sys.executable}" -c "{spin}"', owner=owner)
    assert log.next().data == b"ready"
    exit(port, "kill")
    assert group.is_dead()


def test_a_subclass_answers_in_its_own_words() -> None:
    class Doubling(Port):
        def __init__(self) -> None:
            super().__init__(["sh", "-c", 'while read n; do echo "$((n * 2))"; done'])
            self.asked: list[Any] = []

        def handle_message(self, message: Any) -> Any:
            self.asked.append(self.current_request)
            self.write(str(message).encode())
            return NO_REPLY

        def handle_data(self, data: bytes) -> None:
            self.asked.pop(0).reply(int(data))

    assert Doubling.start().ask(21, timeout=SOON) == 42
