"""StreamCallActor: one call whose answer is a stream, of a clip or of a transcript.

Rule of this file: the adapter's events go to the reader, no further ahead of them than the window allows. A
stream is never retried; `execution.audio` folds its events into the result.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import Demand, ModelBatch, ModelJob, ModelRefused
from allm_actors.actors.streams.window import Window
from allm_actors.actors.turns.assignment import Assignment
from allm_actors.data import AllmError, ErrorEvent
from allm_actors.execution.audio import SpeechFold, TranscriptionFold

from .call import CallSpec, failed, signed
from .caller import CallActor, Expired

__all__ = ["StreamCallActor"]

LEAD = 8  # events a stream may be ahead of this actor
SILENCE = 60.0  # seconds, unless `stream_timeout` says otherwise
_FOLDS = {"speech": SpeechFold, "transcribe": TranscriptionFold}


class StreamCallActor(CallActor):
    """A call whose answer is a stream: the adapter's events go to the reader, through a bounded window."""

    def __init__(self, ports: Ports, spec: CallSpec) -> None:
        super().__init__(ports, spec)
        self._fold = _FOLDS[spec.capability.span]()
        self._reading = Assignment("call", window=Window(LEAD))
        self._heard = 0

    def begin(self) -> None:
        """Start reading the stream that the caller has opened."""
        spec, window = self.spec, self._reading.window
        assert window is not None
        job = ModelJob(
            token=self._crew.next_token(),
            session=self.ref,
            adapter=None,
            request=spec.request,
            call=spec.call,
            window=window,
            opened=spec.opened,
            loop=self._crew.ports.io_loop(),
            context=spec.context,
        )
        if spec.patience is not None:
            self.send_after(spec.patience, self.ref, Expired(-1))
        self._listen()
        self._crew.employ(self._reading, job)

    def news(self, message: Any) -> None:
        """Take events, their end, or the timeout between two events."""
        match message:
            case ModelBatch(token, events, last) if token in self._crew.assigned:
                self._take(events)
                if last:
                    self.fail(self._fold.outcome())  # it ended without its last event
            case ModelRefused(token, error) if token in self._crew.assigned:
                self.fail(error)
            case Demand():
                self._reading.caught_up()
            case Expired(-1):
                self.fail(self.too_late("request_timeout", self.spec.patience))
            case Expired(number) if number == self._heard:
                self._silent()
            case _:
                pass

    def lost(self, why: str) -> None:
        """The stream's process died before its end."""
        self.fail(self.broken(why))

    def fail(self, error: Exception) -> NoReturn:
        """End the stream with this error: as its last event, and as its result."""
        if not isinstance(error, AllmError):
            error = self.broken(repr(error))
        event = ErrorEvent(signed(self.spec, error))
        self._fold.apply(event)
        self.spec.channel.publish([event])
        self._over()

    def _take(self, events: Any) -> None:
        self._heard += 1
        told = [self._signed(event) for event in events if type(event) in self._fold.events]
        for event in told:
            self._fold.apply(event)
        self.spec.channel.publish(told)
        if self._fold.over:
            self._over()
        self._reading.published(self.spec.channel)
        self._listen()

    def _signed(self, event: Any) -> Any:
        if isinstance(event, ErrorEvent) and isinstance(event.error, AllmError):
            return ErrorEvent(signed(self.spec, event.error))
        return event

    def _listen(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = self.spec.call.stream_timeout or SILENCE
        if seconds != math.inf:
            self._deadline = self.send_after(seconds, self.ref, Expired(self._heard))

    def _silent(self) -> None:
        if self._reading.owed:  # it is the reader who is silent
            self._listen()
        else:
            seconds = self.spec.call.stream_timeout or SILENCE
            self.fail(self.too_late("stream_timeout", seconds))

    def _over(self) -> NoReturn:
        outcome = self._fold.outcome()
        if not isinstance(outcome, AllmError):
            self.succeed(outcome)
        failed(self.spec.span, self.spec.capability, outcome)
        self.spec.channel.end(outcome)
        self.leave()
