"""What a class of processes may define: attributes, and the handlers that the runtime calls.

The rule of this file: everything here may be overridden, and every default does nothing, or what Pykka does.

Source: Erlang/OTP `gen_server`, callbacks; `pykka.Actor`.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Final

import pykka

from supervisors.errors import BadSpec
from supervisors.reasons import Crash, Named, Reason, shown
from supervisors.runtime.limit import UNBOUNDED, MailboxConfig
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import Down, ExitMsg
from supervisors.spec import is_number

__all__ = ["DEFER_START", "Hooks", "check_attributes"]

DEFER_START: Final = Named("DEFER_START", __name__)
"""Returned by `init`: still starting, until `start_succeeded`, `start_failed` or `start_ignored`."""


class Hooks(pykka.Actor):
    """The attributes and handlers of a process that a subclass may override."""

    trap_exit: bool = False
    """True: exit signals from others go to `handle_exit` and do not end the process."""

    drain_on_shutdown: bool = False
    """True: a shutdown does not overtake the messages that were queued before it."""

    reply_errors: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions that refuse a request without ending the process, as `ReplyError` does."""

    max_handler_seconds: ClassVar[float | None] = None
    """A handler that takes longer is reported (`handler_overdue`), with its stack; None: no limit."""

    kill_overdue: ClassVar[bool] = False
    """True: the process of such a handler is also killed; see `exit` for what that means for its thread."""

    mailbox: ClassVar[MailboxConfig] = UNBOUNDED
    dispatcher: ClassVar[str] = "default"
    """The name of the dispatcher that runs the process; see `System`."""

    ref_type: ClassVar[type[Ref[Any]]] = Ref
    register_in_pykka: ClassVar[bool] = False
    """True: also list the process in `pykka.ActorRegistry`; its `stop_all` stops what supervisors restart."""

    incarnation: int = 0
    """How often this child was started before: a fencing token for stores outside the runtime."""

    def init(self, *_args: Any, **_kwargs: Any) -> object:
        """Set up, on the process's own dispatcher; raising fails the start.

        Returns None, `(OK, info)`, `IGNORE` or `DEFER_START`. Only supervisors' `init` is called with arguments.

        The default calls Pykka's `on_start()`.
        """
        self.on_start()
        return None

    def handle_continue(self, arg: Any) -> Any:
        """Called after `self.continue_(arg)`, before any other message."""

    def handle_exit(self, exit: ExitMsg) -> Any:
        """An exit signal arrived; only with `trap_exit`."""

    def handle_down(self, down: Down) -> Any:
        """A monitored process ended."""

    def handle_system(self, signal: Any) -> None:
        """`ChildStarted`, `ChildIgnored` or `ChildStartFailed` of a `spawn`; overtakes messages."""

    def terminate(self, reason: Reason) -> None:
        """Clean up; the mailbox is closed. Not called after a kill or a failed start. Exceptions are logged.

        The default calls Pykka's `on_failure()` after a crash and `on_stop()` otherwise.
        """
        if isinstance(reason, Crash):
            exc = reason.exc
            self.on_failure(type(exc), exc, exc.__traceback__)
        else:
            self.on_stop()


_SECONDS: Final = ("shutdown", "max_handler_seconds", "hibernate_after", "passivate_after")

_CALLED: Final = (
    "init",
    "handle_call",
    "handle_cast",
    "handle_info",
    "handle_timeout",
    "handle_data",
    "handle_continue",
    "handle_exit",
    "handle_down",
    "handle_system",
    "handle_shutdown",
    "on_hibernate",
    "terminate",
    "on_start",
    "on_stop",
    "on_failure",
    "label",
    "inspect_state",
)
# Not `on_receive`: as in Pykka, what it returns is the answer, and that may be a coroutine, for the asker to await.


def check_attributes(cls: type[Any]) -> None:
    """Refuse a class with an impossible attribute or handler, which would else only show in its processes.

    Raises: `BadSpec("invalid_class")`, where the class is defined.
    """
    for name in _SECONDS:
        value = cls.__dict__.get(name)
        if value is None or (name == "shutdown" and value == "brutal_kill"):
            continue
        if not (is_number(value) and value >= 0):
            wanted = 'seconds >= 0, or "brutal_kill"' if name == "shutdown" else "seconds >= 0, or None"
            raise BadSpec(
                "invalid_class", (name, value), f"{name}={value!r} of {cls.__name__} must be {wanted}"
            )
    _check_reply_errors(cls)
    for name in _CALLED:
        _check_called(cls, name)


def _check_reply_errors(cls: type[Any]) -> None:
    value: object = cls.reply_errors
    if isinstance(value, tuple) and all(isinstance(e, type) and issubclass(e, BaseException) for e in value):
        return
    message = f"reply_errors={shown(value)} of {cls.__name__} must be a tuple of exception classes"
    raise BadSpec("invalid_class", ("reply_errors", value), message)


def _check_called(cls: type[Any], name: str) -> None:
    if not any(name in vars(base) for base in cls.__mro__[1:] if issubclass(base, pykka.Actor)):
        return  # not an override: the runtime does not call it
    value = getattr(cls, name)
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        message = (
            f"{cls.__name__}.{name} must be a plain function: an asynchronous one is never awaited, so it "
            "would not run; start a task on an event loop in it, or call `asyncio.run(...)`"
        )
        raise BadSpec("invalid_class", (name, value), message)
