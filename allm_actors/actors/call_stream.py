"""What a caller holds while a call that is not chat runs.

Rule of this file: thin. It is an `EventStream` whose result may be an error, which is raised: half a clip is no clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allm_actors.data import AllmError, StreamError
from allm_actors.engine.engine import Engine
from allm_actors.engine.threads import on_thread, running_loop

from .calls.call import CallSpec, call_spec
from .host import Host
from .stateless import default_host
from .streams.stream import E_co, EventStream, R_co
from .workers.adapter import close

__all__ = ["CallStream", "open_call_stream"]


def open_call_stream(
    name: str, engine: Engine, given: Any, options: Mapping[str, Any], *, streamed: bool = False
) -> CallStream[Any, Any]:
    """A call of the capability `name`, not begun yet. Raises what its gates refuse (see `calls.call`)."""
    host = default_host()
    spec = call_spec(name, engine, given, options, transport=host.transport, streamed=streamed)
    return CallStream(_Call(host, spec), spec.channel)


class CallStream(EventStream[R_co, E_co]):
    """The events of a call that is not chat: those of a clip or a transcript, or none.

    `result()` and `await` give the response. Raises: the capability's error, even if it came in mid-stream.
    """

    def result(self) -> R_co:
        """Run what is left and return the response."""
        return self._raised(super().result())

    async def aresult(self) -> R_co:
        """As `result`, without blocking the event loop."""
        return self._raised(await super().aresult())

    def _raised(self, outcome: R_co) -> R_co:  # type: ignore[misc]
        if isinstance(outcome, AllmError):
            raise self._channel.fresh(outcome)
        return outcome


class _Call:
    """The source of such a stream. It starts the process-wide host when the stream is first pulled."""

    __slots__ = ("_host", "_spec")

    def __init__(self, host: Host, spec: CallSpec) -> None:
        self._host, self._spec = host, spec

    def begin(self, _channel: Any) -> None:
        self._host.start().check_waiting()
        self._spec.span.start()
        self._host.call(self._spec)

    async def abegin(self, channel: Any) -> None:
        if not self._host.running:
            await on_thread(self._host.start)
        channel.home = running_loop()
        self._spec.span.start()
        self._host.call(self._spec)

    def unbegun(self) -> Any:
        close(self._spec.opened)
        return StreamError("cancelled", message="the call was closed before it began")
