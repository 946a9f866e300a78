"""One running program of the operating system: its pipes, its process group, its end.

The rule of this file: what was started is reaped and what was opened is closed, on two daemon threads that
end with the program, however that ends. A signal goes to the whole group, and only while its id cannot have
been reused: when the leader is dead, the rest of the group is killed first, and only then is the leader
reaped. Where somebody else reaps it (SIGCHLD ignored, a handler that waits for all), the id may be reused,
and no signal is sent. POSIX only.

Source: POSIX `setsid`, `killpg`, `waitid` (WNOWAIT).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final
from weakref import WeakSet

from supervisors.runtime.birth import DaemonThread

__all__ = ["ExitStatus", "Program", "Stderr"]

Stderr: TypeAlias = Literal["inherit", "stdout", "discard"]
Written: TypeAlias = Callable[[bool], object]

_CHUNK: Final = 65_536  # bytes
_WINDOW: Final = 64  # chunks that may wait to be handled; with more the program waits, as its pipe is full
_LEFT_OVER: Final = 64  # chunks that are still read once the program is dead; a pipe holds far less
_STDERR: Final[Mapping[str, int | None]] = {
    "inherit": None,
    "stdout": subprocess.STDOUT,
    "discard": subprocess.DEVNULL,
}


@final
@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a program ended: its exit code, or, below zero, the signal that ended it. It is not a clean reason.

    None: unknown, because somebody else has reaped the program, as the kernel does where SIGCHLD is ignored.
    """

    code: int | None

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, such as `"SIGKILL"`; None if it ended by itself."""
        if self.code is None or self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"  # one of the real-time signals


class Program:
    """A program in a session and process group of its own.

    `on_output(chunk)` is called with what it writes, `on_exit(status)` once after the last of it. Thread: any
    for the methods; both callbacks are called on a thread of the program's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_output: Callable[[bytes], object],
        on_exit: Callable[[ExitStatus], object],
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stderr: Stderr = "inherit",
    ) -> None:
        self._on_output = on_output
        self._on_exit = on_exit
        self._lock = threading.RLock()  # reentrant: a finalizer may run while it is held, and kill
        self._pending: deque[tuple[memoryview, Written]] = deque()
        self._code: int | None = None
        self._waiting = 0  # bytes that the program has not taken yet
        self._unhandled = 0
        self._input_ends = False
        self._reaped = False
        self._exited = False
        self._done = False
        self._wake_out, self._wake_in = os.pipe()
        try:
            # The pipes are ours to close; Popen would close them at times of its own.
            self._popen = subprocess.Popen(  # noqa: S603 - running what the caller says is the purpose
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=_STDERR[stderr],
                cwd=cwd,
                env=None if env is None else dict(env),
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._wake_in)
            os.close(self._wake_out)
            raise
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._stdin, self._stdout = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        os.set_blocking(self._wake_in, False)
        _programs.add(self)
        self._start_threads()

    @property
    def pid(self) -> int:
        """The process id of the program, and the id of its process group."""
        return self._popen.pid

    @property
    def waiting(self) -> int:
        """How many bytes the program has not taken yet."""
        return self._waiting

    def write(self, data: bytes, written: Written) -> None:
        """Queue `data` for the program; `written(True)` when it has taken all, `(False)` if it never will."""
        with self._lock:
            refused = self._input_ends or self._exited
            if not refused:
                self._pending.append((memoryview(data), written))
                self._waiting += len(data)
        if refused:
            written(False)
        else:
            self._wake()

    def end_input(self) -> None:
        """Close the input of the program, after what was written."""
        with self._lock:
            self._input_ends = True
        self._wake()

    def handled(self) -> None:
        """Called once for each chunk of output, when it has been handled."""
        with self._lock:
            self._unhandled -= 1
            full = self._unhandled == _WINDOW - 1
        if full:
            self._wake()

    def terminate(self) -> None:
        """Ask the whole group to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group (SIGKILL). Does not wait."""
        self._signal(signal.SIGKILL)

    # --- threads ------------------------------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        name = f"supervisors-port-{self.pid}"
        watch = DaemonThread(self._watch, name)
        serve = DaemonThread(self._serve, name)
        try:
            watch.start()
            serve.start()
        except RuntimeError:  # there are no more threads, and nobody would look after the program
            self.kill()
            if watch.began:
                watch.join()
            else:
                self._reap()
            self._close()
            raise

    def _watch(self) -> None:
        try:
            self._code = _code_at_end(self._popen)
        except ChildProcessError:
            pass  # reaped already: its id may be a stranger's by now
        else:
            self.kill()
        self._reap()
        self._wake()

    def _reap(self) -> None:
        with self._lock:
            self._reaped = True  # first: a finalizer that ran after the wait would signal a stranger
            self._popen.wait()
            self._exited = True

    def _serve(self) -> None:
        try:
            while not self._exited:
                self._turn()
            self._read_rest()
        except BaseException:
            self.kill()  # nobody would read what it writes
            raise
        finally:
            self._close()
        self._on_exit(ExitStatus(self._code))

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wake_out, select.POLLIN)
        if self._stdout >= 0 and self._unhandled < _WINDOW:
            poll.register(self._stdout, select.POLLIN)
        if self._stdin >= 0 and self._pending:
            poll.register(self._stdin, select.POLLOUT)
        elif self._stdin >= 0 and self._input_ends:
            self._close_stdin()
        for fd, _ in poll.poll():
            if fd == self._wake_out:
                os.read(self._wake_out, _CHUNK)
            elif fd == self._stdout:
                self._read()
            elif fd == self._stdin:
                self._feed()

    def _read(self) -> bool:
        # Whether there may be more.
        try:
            chunk = os.read(self._stdout, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._stdout = -1  # end of its output; the program itself may go on
            return False
        with self._lock:
            self._unhandled += 1
        self._on_output(chunk)
        return True

    def _read_rest(self) -> None:
        # What left the group may hold the pipe open and go on writing: that is not this program's output.
        for _ in range(_LEFT_OVER):
            if self._stdout < 0 or not self._read():
                return

    def _feed(self) -> None:
        data, written = self._pending[0]
        try:
            count = os.write(self._stdin, data[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it has closed its input
            self._close_stdin()
            return
        with self._lock:
            self._waiting -= count
        if count < len(data):
            self._pending[0] = data[count:], written
        else:
            self._pending.popleft()
            written(True)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> None:
        with self._lock:
            if not self._reaped and _is_a_child(self.pid):
                try:
                    os.killpg(self.pid, number)
                except (ProcessLookupError, PermissionError):
                    pass  # dead already; on macOS that is a PermissionError

    def _stay_behind(self) -> None:
        # In a forked child. Our copies of the pipes are closed: else the program would not see its input end
        # when our parent closes it.
        self._lock = threading.RLock()  # a thread that held it does not exist here
        self._reaped = self._exited = self._input_ends = True
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        if not self._done:
            self._done = True
            os.close(self._wake_in)
            os.close(self._wake_out)

    def _wake(self) -> None:
        with self._lock:
            if not self._done:
                try:
                    os.write(self._wake_in, b"\0")
                except BlockingIOError:
                    pass  # the pipe is full: it will wake up anyway

    def _close_stdin(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._stdin = -1
        with self._lock:
            self._input_ends = True
            refused, self._pending = self._pending, deque()
            self._waiting = 0
        for _, written in refused:
            written(False)

    def _close(self) -> None:
        assert self._popen.stdout is not None
        self._close_stdin()
        self._popen.stdout.close()
        with self._lock:
            self._done = True
            os.close(self._wake_in)
            os.close(self._wake_out)


_programs: WeakSet[Program] = WeakSet()


def _in_a_fork() -> None:
    for program in list(_programs):
        program._stay_behind()  # noqa: SLF001 - same package
    _programs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)


def _code_at_end(popen: subprocess.Popen[bytes]) -> int:
    """Wait for the end, if possible without reaping, so that the id is not reused; returns the exit code.

    Raises: `ChildProcessError` if somebody else has reaped it.
    """
    if hasattr(os, "waitid"):
        end = os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    popen.returncode = os.waitstatus_to_exitcode(os.waitpid(popen.pid, 0)[1])
    return popen.returncode


def _is_a_child(pid: int) -> bool:
    """Whether `pid` is a child of this OS process, dead or alive, that nobody has reaped."""
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return False
    return True
