"""The loop, supervised: sessions, adapters and tools as actors under a host's tree."""

from .awaited import AsyncHost, AsyncSessionHandle
from .call_stream import CallStream, open_call_stream
from .host import Host
from .sessions.handle import SessionHandle
from .stateless import StatelessCall, default_host
from .stats import HostStats
from .store import StoredSession
from .streams.stream import EventStream, Turn
from .turns.turn import open_first_call, thread_of, turn_spec, view_of

__all__ = [
    "AsyncHost",
    "AsyncSessionHandle",
    "CallStream",
    "EventStream",
    "Host",
    "HostStats",
    "SessionHandle",
    "StatelessCall",
    "StoredSession",
    "Turn",
    "default_host",
    "open_call_stream",
    "open_first_call",
    "thread_of",
    "turn_spec",
    "view_of",
]
