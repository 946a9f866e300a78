"""Telemetry of calls: spans and events, passed to handlers that can never break a call.

    from allm_actors import telemetry

    telemetry.attach("my-metrics", lambda event: print(event.name, event.measurements), events=["allm.chat.stop"])

Rule of this package: nothing is computed while no handler is attached; events never contain a key; a handler
that raises is logged and detached, as in Erlang's `telemetry`.
"""

from .bridge import EventLog, log_events
from .bus import Event, attach, detach, emit, listening
from .names import EVENTS, SPANS
from .spans import Span

__all__ = [
    "EVENTS",
    "SPANS",
    "Event",
    "EventLog",
    "Span",
    "attach",
    "detach",
    "emit",
    "listening",
    "log_events",
]
