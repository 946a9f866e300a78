"""Port: a process that owns a program of the operating system, and code that a kill really kills.

The rule of this file: process and program end together, whichever ends first. Whatever ends the process (a
crash, a kill, its supervisor), the program's whole process group is killed before anyone hears of the death.

    sed = Port.start_link(["sed", "-u", "s/cat/dog/"], owner=me)    # me: a ref or a name
    sed.tell(b"a cat")          # me is sent PortData(sed, b"a dog")
    sed.ask(b"a cat")           # the same, and returns once the program has taken it
    sed.tell(EOF)               # the end of its input; it will end, and so will the process

    exit code 0     the process ends with NORMAL
    anything else   with ExitStatus(code), a failure that supervisors restart; -9 is SIGKILL
    a shutdown      SIGTERM to the group; SIGKILL when the `shutdown` time is over

Source: Erlang/OTP `open_port` and "Ports and Port Drivers".
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

from supervisors import registry
from supervisors.errors import BadSpec, ReplyError, SupervisorError
from supervisors.port.framing import Framing, frames
from supervisors.port.program import ExitStatus, Program, Stderr
from supervisors.process import NO_REPLY, From, Process
from supervisors.reasons import NORMAL, Exit, Named, Reason
from supervisors.registry import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import ALIVE, Signal

__all__ = ["EOF", "CommandFailed", "Port", "PortData", "PortRefused"]

EOF: Final = Named("EOF", __name__)
"""Sent to a port: close the input of its program."""

_STDERR: Final = ("inherit", "stdout", "discard")


@final
@dataclass(frozen=True, slots=True)
class PortData:
    """Sent to the owner of a port: one frame of the program's output."""

    port: Ref[Any]
    data: bytes


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Output(Signal):
    chunk: bytes


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Ended(Signal):
    status: ExitStatus


class CommandFailed(SupervisorError):
    """The program could not be run at all: the cause of the port's `StartError`. Arguments are not shown."""

    def __init__(self, command: str, error: OSError) -> None:
        where = error.filename if error.filename not in (None, command) else command
        super().__init__(
            f"cannot run {command!r}: {error.strerror} ({where!r}); is it installed, on the PATH and executable?"
        )
        self.command = command
        self.errno: int | None = error.errno


class PortRefused(ReplyError):
    """The port refuses a message; `why` is `"not bytes"`, `"input ended"` or `"input full"`."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


class Port(Process):
    """Runs `command` (a list: the program and its arguments; no shell), and passes bytes in both directions.

    `owner`, a ref or a name, is sent `PortData`; without one override `handle_data`. `framing` says what one
    message is (see `Framing`); a frame of more than `max_frame` bytes ends the port. `stderr` is `"inherit"`,
    `"stdout"` (it goes where the output goes) or `"discard"`. A program that writes faster than `handle_data`
    works is made to wait; for one that does not read, at most `max_input` bytes are kept, more are refused.

    Raises, from `start`: `BadSpec` for an invalid argument; `StartError` whose `__cause__` is `CommandFailed`.
    The program is a real one, so a port cannot be simulated.
    """

    max_frame: ClassVar[int] = 1_048_576
    max_input: ClassVar[int] = 16_777_216

    _port_program: Program | None = None
    _port_leaves_with: Reason = ALIVE

    def __init__(
        self,
        command: Sequence[str],
        *,
        owner: Ref[Any] | Name | None = None,
        framing: Framing = "lines",
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stderr: Stderr = "inherit",
    ) -> None:
        super().__init__()
        self._port_command = _checked(command)
        if stderr not in _STDERR:
            raise BadSpec("invalid_command", stderr, f"stderr must be one of {_STDERR}, not {stderr!r}")
        self._port_owner = owner
        self._port_frames = frames(framing, self.max_frame)
        self._port_cwd = None if cwd is None else os.fspath(cwd)
        self._port_env = env
        self._port_stderr: Stderr = stderr

    @property
    def pid(self) -> int | None:
        """The process id of the program, which is also the id of its process group; None before it runs."""
        return None if self._port_program is None else self._port_program.pid

    def handle_data(self, data: bytes) -> None:
        """One frame of the program's output, without its framing. The default sends it to the owner."""
        registry.send(self._port_owner, PortData(self.ref, data))

    def handle_message(self, message: Any) -> Any:
        """Handle a message to the port: by default, write bytes to the program, and close its input at `EOF`.

        Raises: `PortRefused`, which goes to the caller and does not end the port.
        """
        if message is EOF:
            self._program.end_input()
            return None
        self.write(message, self.current_request)
        return NO_REPLY

    def write(self, data: bytes, request: From | None = None) -> None:
        """Give one frame to the program; `request` is answered with None when the program's pipe has taken all of it.

        Without a request, what the program never takes becomes a dead letter. Raises: `PortRefused`; `FrameTooLong`.
        """
        program = self._program
        if not isinstance(data, bytes | bytearray | memoryview):
            raise PortRefused(
                "not bytes", f"{self} takes bytes and EOF, not {type(data).__name__}; encode it"
            )
        framed = self._port_frames.encode(bytes(data))
        if program.waiting and program.waiting + len(framed) > self.max_input:
            words = (
                f"the program of {self} does not read its input, and {program.waiting} bytes wait for it; send "
                f"no more until an ask has returned, or give its class a max_input above {self.max_input} bytes"
            )
            raise PortRefused("input full", words)

        def written(taken: bool) -> None:
            if request is None and not taken:
                self.system.dead_letters.add(data, self.ref, None, "the input of the program has ended")
            elif request is not None and taken:
                request.reply()
            elif request is not None:
                request.fail(PortRefused("input ended", f"the program of {self} takes no more input"))

        program.write(framed, written)

    # --- its life -----------------------------------------------------------------------------------------------------

    def init(self) -> object:
        """Start the program; a subclass that overrides this calls it."""
        ref = self.ref
        try:
            program = Program(
                self._port_command,
                on_output=lambda chunk: ref.inform(_Output(chunk)),
                on_exit=lambda status: ref.inform(_Ended(status)),
                cwd=self._port_cwd,
                env=self._port_env,
                stderr=self._port_stderr,
            )
        except OSError as error:
            raise CommandFailed(self._port_command[0], error) from None
        self._port_program = program
        if not ref.hold(lambda _: program.kill()):
            program.kill()  # we were killed just now
        return None

    def on_receive(self, message: Any) -> Any:
        """Handle the output and the end of the program; every other message goes to `handle_message`."""
        match message:
            case _Output(chunk):
                self._program.handled()
                for frame in self._port_frames.feed(chunk):
                    self.handle_data(frame)
                return None
            case _Ended(status):
                self._ended(status)
                return None
            case _:
                return self.handle_message(message)

    def handle_shutdown(self, reason: Reason) -> None:
        """Send SIGTERM to the program's group; the process ends when the program has ended."""
        program = self._port_program
        if program is None:
            self.finish(reason)
        elif self._port_leaves_with is ALIVE:
            self._port_leaves_with = reason
            program.terminate()
            self._limit_patience(program)

    @property
    def _program(self) -> Program:
        assert self._port_program is not None, "messages come after `init`"
        return self._port_program

    def _limit_patience(self, program: Program) -> None:
        # A parent that shuts us down kills us when the time is over; in any other case we set a timer.
        parent = self.ref.parent
        told = self._actor_stop_reason is not ALIVE
        if told and parent is not None and parent.is_alive():
            return
        patience = self.system.allowed(self.ref)
        if patience == "brutal_kill":
            program.kill()
        elif patience < math.inf:
            self.system.timers.after(patience, program.kill)

    def _ended(self, status: ExitStatus) -> None:
        for frame in self._port_frames.rest():
            self.handle_data(frame)
        if self._port_leaves_with is not ALIVE:
            self.finish(self._port_leaves_with)
        else:
            raise Exit(NORMAL if status.code == 0 else status)


def _checked(command: Sequence[str]) -> tuple[str, ...]:
    if isinstance(command, str | bytes) or not isinstance(command, Sequence):
        kind = type(command).__name__
        raise BadSpec("invalid_command", kind, f'a command must be a list such as ["ls", "-l"], not a {kind}')
    if not command or not all(isinstance(each, str) for each in command):
        # Shown by their types only: arguments may be secrets.
        found = [type(each).__name__ for each in command]
        raise BadSpec(
            "invalid_command", found, f"a command must be a program and its arguments, all str, not {found}"
        )
    if any("\0" in each for each in command) or not command[0]:
        raise BadSpec(
            "invalid_command", None, "a command must begin with the name of a program, and contain no NUL"
        )
    return tuple(command)
