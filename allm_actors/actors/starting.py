"""The start of a call that is not chat.

Rule of this file: it returns at once, and a call that cannot be started has its end all the same.
"""

from __future__ import annotations

from typing import Any

from allm_actors.data import EngineError, StreamError
from supervisors import ChildSpec

from .call import CallSpec
from .caller import CallActor, end_call
from .ports import SESSIONS, Ports
from .streamer import StreamCallActor

__all__ = ["start_call"]


def start_call(ports: Ports, spec: CallSpec) -> None:
    """Start the process of a call. Returns at once; what fails ends the call's channel."""
    if ports.whereis(SESSIONS) is not None:
        _start(ports, spec)
    else:
        ports.when_whole(lambda _gone: _start(ports, spec))


def _start(ports: Ports, spec: CallSpec) -> None:
    sessions: Any = ports.whereis(SESSIONS)
    if sessions is None:
        text = "the host has died, or is being restarted; try again"
        end_call(spec, EngineError("invalid_engine", message=text))
        return
    actor = CallActor if spec.opened is None else StreamCallActor
    started = sessions.start_child_soon(
        ChildSpec(id=None, start=actor, args=(ports, spec), restart="temporary")
    )
    started.add_done_callback(lambda future: _end_if_failed(spec, future))


def _end_if_failed(spec: CallSpec, future: Any) -> None:
    try:
        future.get(timeout=0)
    except Exception as error:  # noqa: BLE001 - told to whoever waits for the call
        end_call(spec, StreamError("adapter_error", message=f"the call could not be started: {error}"))
