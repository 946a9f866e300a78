"""A session value that follows the stream of its run.

Rule of this file: the session is changed only at the end, so that a stream may be left early: the received
part of an answer stays in the thread, and each of its calls has an answer. Only the nudge of a second pass
(`structured_finalize`) is in no event; if that pass was left before its end, the nudge is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

import msgspec

from allm_actors.data import ChatCompleted, ChatResult, Event, Session, StepCompleted, StepResult

from .fold import Fold
from .sessions import apply_chat_result, apply_step_result
from .tools import repair

__all__ = ["StreamReducer"]

if TYPE_CHECKING:  # one of a mode that is not known
    import typing_extensions

    R_co = typing_extensions.TypeVar("R_co", covariant=True, default=ChatResult | StepResult)
else:
    R_co = TypeVar("R_co", covariant=True)


class StreamReducer(Generic[R_co]):
    """Folds the events of a turn into the session after it.

    `session` is the one that the turn began with: the stream's `session`, which has the user's new message.
    The value that was given to `stream_reply` gives the same result only if the turn is read to its end.
    Raises: ValueError for a mode other than `chat` and `step`.
    """

    __slots__ = ("_fold", "_mode", "_over", "_session", "_stepped")

    @overload
    def __init__(
        self: StreamReducer[ChatResult], session: Session, mode: Literal["chat"] = "chat"
    ) -> None: ...
    @overload
    def __init__(self, session: Session, mode: Literal["chat", "step"]) -> None: ...
    def __init__(self, session: Session, mode: Literal["chat", "step"] = "chat") -> None:
        if mode not in ("chat", "step"):
            raise ValueError(f"mode must be 'chat' or 'step'; got: {mode!r}")
        self._session = session
        self._mode = mode
        self._fold = Fold(session.thread)
        self._stepped = self._over = False

    def apply(self, event: Event) -> Self:
        """Take one event. Returns this reducer."""
        self._fold.apply(event)
        self._stepped = self._stepped or isinstance(event, StepCompleted)
        self._over = self._over or isinstance(event, ChatCompleted)
        return self

    def finish(self) -> tuple[Session, R_co]:
        """The session after the events so far, and the result. Can be called again, also after more events."""
        return self._finished()

    def _finished(self) -> tuple[Session, Any]:
        if self._mode == "chat":
            result = self._chat_result()
            return apply_chat_result(self._session, result), result
        if self._stepped:
            step = self._fold.step_result()
            return apply_step_result(self._session, step), step
        broken = self._fold.broken()
        if broken is not None:
            return apply_step_result(self._session, broken), broken
        return self._session, ChatResult(thread=self._session.thread, halted_reason="cancelled")

    def _chat_result(self) -> ChatResult:
        result = self._fold.chat_result()
        broken = None if self._over else self._fold.broken()
        if broken is not None:
            steps = [*result.steps, broken]
            return msgspec.structs.replace(
                result, thread=broken.thread, final_response=broken.response, steps=steps
            )
        if self._over or result.halted_reason != "cancelled" or result.thread is None:
            return result
        thread = repair(result.thread.add(*self._fold.left()))
        return msgspec.structs.replace(result, thread=thread, final_response=self._fold.response())
