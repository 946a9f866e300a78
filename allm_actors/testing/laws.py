"""What holds of every turn, whatever the model, the tools and the caller do.

Rule of this file: only what is visible from outside is checked: the events that were read, the result, and
the session's value. A law is a function that raises AssertionError with what it found; `LAWS` lists them as
the documentation does.

    one end            the stream ends with one ChatCompleted, whose result is the turn's
    in turns           there are no more steps than the turn may have, and each but the last left something to do, be
                       it an answer that did not fit
    one call a step    a step is one model call, and nothing is asked again
    asks again         an answer that does not fit is told so, and is the last only where asking again failed or
                       the caller's `halt_when` wanted no other
    all answered       providers accept the thread: every call has one answer, none answers nothing
    in order           a step's answers stand in the order of its calls
    nothing lost       the user's message, every step's messages, and what was halted for are in the result
    says its errors    a model call that failed ends the turn as `error`
    tools bracketed    what is answered was started, or refused; what was started is answered before its step is over;
                       no more run at once than may; of several halts the first in the order of calls counts
    run once           no call's handler runs more often than the call was started
    one value          the events fold to the steps of the result
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allm_actors.data import (
    AskUserRequested,
    ChatCompleted,
    ChatResult,
    Event,
    Message,
    Request,
    StepCompleted,
    StepResult,
    Thread,
    ToolCall,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
    ValidationError,
)
from allm_actors.data.rules.validate import validate
from allm_actors.execution.answers import REJECTED
from allm_actors.execution.fold import fold

__all__ = ["LAWS", "Observed", "answered", "check_turn"]

_CUT = ("cancelled", "interrupted")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One chat turn as it was seen: its `events` (None: only the result was asked for) and its `result`.

    `limit` is its `max_turns`, `passes` 2 with `structured_finalize`, `retries` its `max_retries` where its answer has
    to fit; `asked` and `failed` count its model calls and those that failed, `ran` the runs of handlers by the calls'
    ids. `undisturbed` turns were neither cut off nor hit by a crash.
    """

    before: Thread
    said: str | None
    events: Sequence[Event] | None
    result: ChatResult
    limit: int = 8
    passes: int = 1
    retries: int = 0
    asked: int | None = None
    failed: int = 0
    concurrency: int | None = None
    ran: Mapping[str, int] | None = None
    undisturbed: bool = True

    @property
    def whole(self) -> bool:
        """Whether the turn ended by itself, neither cancelled nor broken."""
        return self.undisturbed and self.result.halted_reason not in _CUT

    @property
    def most(self) -> int:
        """How many model calls it may make."""
        return self.limit + self.passes - 1 + self.retries


def check_turn(turn: Observed) -> None:
    """Raises AssertionError for the first law that this turn breaks, by its name."""
    for name, law in LAWS.items():
        try:
            law(turn)
        except AssertionError as error:
            error.add_note(f"law: {name}; halted: {turn.result.halted_reason}")
            raise


def answered(messages: Sequence[Message], pending: Sequence[ToolCall] = ()) -> None:
    """Raises AssertionError unless providers accept these messages once the pending calls are answered."""
    waiting = [Message(role="tool", content="", tool_call_id=call.id) for call in pending]
    try:
        validate(Request(messages=[*messages, *waiting, Message(role="user", content="next")], model="m"))
    except ValidationError as error:
        raise AssertionError(f"a provider would refuse this conversation: {error}") from error


# --- the laws -----------------------------------------------------------------------------------------------------


def _one_end(turn: Observed) -> None:
    if turn.events is None:
        return
    ends = [event for event in turn.events if isinstance(event, ChatCompleted)]
    assert len(ends) == 1, f"{len(ends)} ends"
    assert turn.events[-1] is ends[0], f"{type(turn.events[-1]).__name__} came after the end"
    assert ends[0].result == turn.result, "the last event differs from the result"


def _in_turns(turn: Observed) -> None:
    steps = turn.result.steps
    assert len(steps) <= turn.most, f"{len(steps)} steps, but at most {turn.most} are allowed"
    counted = [step for step in steps if not _rejected(step)]
    again = len(steps) - len(counted)
    assert again <= turn.retries, (
        f"{again} answers were requested again, but at most {turn.retries} are allowed"
    )
    if turn.result.halted_reason == "max_turns" and turn.passes == 1:
        assert len(counted) >= turn.limit, f"out of turns after {len(counted)} of {turn.limit}"
    for step in counted[: -turn.passes]:
        assert not step.done, "a step with done=True was not the last"
        assert not step.metadata.get("manual_tool_calls"), (
            "calls were left to the caller, but the loop went on"
        )
        assert step.metadata.get("mode") != "manual", "a manual step was not the last"
        assert step.response is not None
        assert step.response.tool_calls, "the loop went on after a step without calls"


def _one_call_a_step(turn: Observed) -> None:
    steps = turn.result.steps
    if turn.asked is None:
        return
    assert turn.asked <= turn.most, f"{turn.asked} model calls, but at most {turn.most} are allowed"
    if turn.whole:
        refused = turn.result.halted_reason == "error" or "pass_2_error" in _passes(turn)
        assert turn.asked in (len(steps), len(steps) + refused), (
            f"{turn.asked} model calls, {len(steps)} steps"
        )


def _asks_again(turn: Observed) -> None:
    steps = turn.result.steps
    for step in filter(_rejected, steps):
        last = step.thread.messages[-1]
        assert (last.role, "response_retry" in last.metadata) == ("user", True), (
            f"it was told {last.content!r}"
        )
    if turn.whole and steps and _rejected(steps[-1]):
        assert turn.result.halted_reason in ("error", "halt_when"), (
            "the turn ended with an answer that did not fit, but without an error"
        )


def _all_answered(turn: Observed) -> None:
    thread = turn.result.thread
    assert thread is not None
    left = _left(turn.result)
    if not turn.undisturbed and not left and thread.last is not None:
        # Stored or not: the session knows who waits.
        left = list(thread.last.tool_calls)
    answered(thread.messages, left)


def _in_order(turn: Observed) -> None:
    for step in turn.result.steps:
        calls = [call.id for call in step.response.tool_calls] if step.response is not None else []
        said = step.thread.messages
        start = max((at for at, message in enumerate(said) if message.role == "assistant"), default=0)
        answers = [message.tool_call_id for message in said[start:] if message.role == "tool"]
        assert answers == [id for id in calls if id in answers], f"calls {calls} were answered as {answers}"
        assert [m.tool_call_id for m in step.tool_results] == answers, "tool_results are not the thread's"


def _nothing_lost(turn: Observed) -> None:
    result = turn.result
    assert result.thread is not None
    messages = result.thread.messages
    if turn.said is not None and (turn.whole or (turn.asked and not turn.failed)):
        heard = [m for m in messages if m.role == "user" and m.content == turn.said]
        assert len(heard) == 1, f"the user's message is there {len(heard)} times"
    if not turn.whole:
        return
    kept = turn.before.messages
    assert messages[: len(kept)] == kept, "the earlier messages have changed"
    for step in result.steps:
        said = step.thread.messages
        assert messages[: len(said)] == said, "a step's messages are not in the result"
        assert step.response is not None
        if step.response.finish_reason == "tool_calls" and step.metadata.get("mode") != "manual":
            left = [call.id for call in step.metadata.get("manual_tool_calls", ())]
            told = [message.tool_call_id for message in step.tool_results]
            calls = [call.id for call in step.response.tool_calls]
            assert sorted(told + left) == sorted(calls), f"calls {calls}: answered {told}, left {left}"
    if result.halted_reason == "ask_user":
        assert result.pending_question is not None, "the turn halted for a question, but there is no question"


def _says_its_errors(turn: Observed) -> None:
    result = turn.result
    if result.halted_reason == "error":
        assert result.metadata.get("error") is not None, "the turn halted with 'error', but has no error"
    if turn.failed and turn.whole and "pass_2_error" not in _passes(turn):
        assert result.halted_reason == "error", "a model call failed, but the turn does not report it"


def _tools_bracketed(turn: Observed) -> None:
    started: set[str] = set()
    told: list[str] = []
    halts: list[str] = []
    for event in turn.events or ():
        match event:
            case ToolExecutionStarted(id=id):
                assert id not in started, f"{id} was started twice"
                started.add(id)
                at_once = len(started - set(told))
                assert at_once <= (turn.concurrency or at_once), f"{at_once} tools ran at once"
            case ToolExecutionCompleted(id=id):
                assert id in started, f"{id} was completed and never started"
            case ToolResultEncoded(id=id) | ToolHalt(tool_call_id=id) | AskUserRequested(tool_call_id=id):
                assert id not in told, f"{id} was answered twice"
                told.append(id)
                if not isinstance(event, ToolResultEncoded):
                    halts.append(id)
            case StepCompleted(response=response):
                assert started <= set(told), f"{started - set(told)} ran and was never answered"
                if turn.whole and halts:
                    first = next(call.id for call in response.tool_calls if call.id in halts)
                    halted = turn.result.metadata
                    by = halted.get("halt_tool_call_id", halted.get("pending_tool_call_id"))
                    assert by == first, f"{first} halted first, in the order of calls, and {by} counts"
                started, told, halts = set(), [], []
            case _:
                pass


def _run_once(turn: Observed) -> None:
    if turn.events is None or turn.ran is None or not turn.undisturbed:
        return
    started = Counter(event.id for event in turn.events if isinstance(event, ToolExecutionStarted))
    for id, runs in turn.ran.items():
        assert runs <= started[id], f"{id} ran {runs} times, and was started {started[id]} times"


def _one_value(turn: Observed) -> None:
    if turn.events is None or not turn.whole:
        return
    folded = fold(turn.events[:-1], turn.before).chat_result()
    assert [_plain(step) for step in folded.steps] == [_plain(step) for step in turn.result.steps], (
        "the events fold to other steps than the result's"
    )


LAWS: dict[str, Callable[[Observed], None]] = {
    "one end": _one_end,
    "in turns": _in_turns,
    "one call a step": _one_call_a_step,
    "asks again": _asks_again,
    "all answered": _all_answered,
    "in order": _in_order,
    "nothing lost": _nothing_lost,
    "says its errors": _says_its_errors,
    "tools bracketed": _tools_bracketed,
    "run once": _run_once,
    "one value": _one_value,
}


def _left(result: ChatResult) -> list[ToolCall]:
    """The calls that the result leaves to the caller."""
    left = result.metadata.get("manual_tool_calls")
    if left is None and result.halted_reason == "manual_tool_calls" and result.final_response is not None:
        left = result.final_response.tool_calls
    return list(left or ())


def _rejected(step: StepResult) -> bool:
    """Whether its answer did not fit, and was asked for again."""
    return step.response is not None and REJECTED in step.response.metadata


def _passes(turn: Observed) -> dict[str, Any]:
    passes: dict[str, Any] = turn.result.metadata.get("structured_finalize") or {}
    return passes


def _plain(step: StepResult) -> tuple[Any, ...]:
    return step.thread.messages, step.tool_results, step.done, sorted(step.metadata)
