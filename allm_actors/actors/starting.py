"""Starting a call that belongs to no session: a turn in an unnamed session of its own, or a call that is not chat.

Rule of this file: it returns at once, and the channel of a call that cannot be started is ended all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from allm_actors.data import EngineError, Session, StreamError
from supervisors import Process

from .calls.call import CallSpec
from .calls.caller import CallActor, end_call
from .calls.streamer import StreamCallActor
from .ports import SESSIONS, Ports
from .sessions.session import SessionActor
from .sessions.setup import Cell, SessionSetup
from .streams.channel import Channel
from .turns.ending import ending
from .turns.spec import TurnSpec
from .workers.adapter import close

__all__ = ["start_call", "start_turn"]

_DEAD = "the host has died or is restarting; try again"


def start_turn(ports: Ports, spec: TurnSpec) -> None:
    """Start the session of a stateless turn; a failure ends the turn's channel."""
    spec.channel.io_loop = ports.io_loop
    setup = SessionSetup(ports=ports, cell=Cell(Session(thread=spec.thread)), first=spec)
    _start(ports, partial(_end_turn, spec), spec.channel, SessionActor, setup)


def start_call(ports: Ports, spec: CallSpec) -> None:
    """Start the process of a call that is not chat; a failure ends the call's channel."""
    spec.channel.io_loop = ports.io_loop
    actor = CallActor if spec.opened is None else StreamCallActor
    _start(ports, partial(_end_call, spec), spec.channel, actor, ports, spec)


def _start(
    ports: Ports, failed: Callable[[object], object], channel: Channel, actor: type[Process], *args: Any
) -> None:
    def ended(reason: object) -> None:
        if not channel.accepted:  # else it had begun, and has taken care of its channel
            failed(reason)

    def start(_gone: object = None) -> None:
        sessions: Any = ports.whereis(SESSIONS)
        if sessions is None:
            failed(EngineError("invalid_engine", message=_DEAD))
            return
        try:
            sessions.spawn_child(actor, *args, on_exit=ended)
        except Exception as error:  # noqa: BLE001 - for the caller, who waits for the channel
            failed(error)

    if ports.whereis(SESSIONS) is not None:
        start()
    else:
        ports.when_whole(start)


def _end_turn(spec: TurnSpec, error: object) -> None:
    close(spec.opened)
    if isinstance(error, EngineError):
        spec.channel.end(error=error)
        return
    result, last = ending(spec, spec.thread, error)
    spec.channel.end(result, last=last)


def _end_call(spec: CallSpec, error: object) -> None:
    if not isinstance(error, EngineError):
        error = StreamError("adapter_error", message=f"the call could not be started: {error}")
    end_call(spec, error)
