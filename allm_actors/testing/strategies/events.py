"""What happens in a stream: the sixteen events, and the scripts that the fake provider plays.

Rule of this file: events are drawn one by one; what order they come in is for a script and its player.
"""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import (
    AskUser,
    AskUserRequested,
    ChatCompleted,
    Err,
    ErrorEvent,
    Event,
    FinishReason,
    Halt,
    HandlerResult,
    MessageCompleted,
    MessageStarted,
    Ok,
    RawChunk,
    StepCompleted,
    TextCompleted,
    TextDelta,
    ToolCall,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
)
from allm_actors.testing import script
from allm_actors.testing.script import Entry

from .conversations import calls_of_one_message, replies, threads, tool_calls, tool_names
from .errors import FINISH_REASONS, errors
from .plain import BROKEN, COUNTS, IDS, TEXTS, WORDS, arguments, json_objects, json_values, maybe, notes
from .results import chat_results, responses, usage

__all__ = ["events", "handler_results", "scripts"]

_OTHER_ENDS: SearchStrategy[FinishReason] = st.sampled_from(["stop", "length", "content_filter", "other"])


@cache
def events() -> SearchStrategy[Event]:
    """Any of the sixteen events."""
    fragments = st.text(min_size=1, max_size=10)
    completed = st.builds(
        MessageCompleted,
        message=replies(),
        finish_reason=maybe(FINISH_REASONS),
        metadata=notes() | st.fixed_dictionaries({"usage": usage()}),
    )
    return st.one_of(
        st.just(MessageStarted()),
        st.builds(TextDelta, delta=fragments, id=maybe(IDS)),
        st.builds(TextCompleted, text=TEXTS, id=maybe(IDS)),
        st.builds(ToolCallStarted, id=IDS, name=tool_names()),
        st.builds(ToolCallDelta, id=IDS, arguments_delta=fragments),
        tool_calls().map(_call_completed),
        completed,
        st.builds(
            RawChunk,
            json_values() | st.tuples(st.just("usage"), usage()),
        ),
        st.builds(ErrorEvent, errors()),
        st.builds(ToolExecutionStarted, id=IDS, name=tool_names(), arguments=arguments()),
        st.builds(ToolExecutionCompleted, id=IDS, name=tool_names(), result=handler_results()),
        st.builds(ToolResultEncoded, id=IDS, content=TEXTS),
        st.builds(
            AskUserRequested, tool_call_id=IDS, tool_name=tool_names(), question=TEXTS, opts=json_objects()
        ),
        st.builds(ToolHalt, tool_call_id=IDS, reason=WORDS, result=json_values(), content=maybe(TEXTS)),
        st.builds(
            StepCompleted,
            response=responses(),
            thread=threads(max_turns=1),
            mode=st.sampled_from(["auto", "manual"]),
            manual_tool_calls=st.just([]) | calls_of_one_message(),
        ),
        st.builds(ChatCompleted, chat_results()),
    )


@cache
def handler_results() -> SearchStrategy[HandlerResult]:
    """What a handler may answer."""
    return st.one_of(
        st.builds(Ok, json_values()),
        st.builds(Err, json_values() | errors()),
        st.builds(lambda question, options: AskUser(question, **options), TEXTS, json_objects()),
        st.builds(Halt, WORDS, json_values()),
    )


@st.composite
def scripts(
    draw: st.DrawFn,
    names: SearchStrategy[str] | None = None,
    failures: bool = True,
    delays: SearchStrategy[float] | None = None,
) -> list[Entry]:
    """One call's script for the fake provider, which ends in `finish` or, if `failures` may be, in an error.

    `names` are the tools it may call; `delays` are seconds between entries, and there are none by default.
    """
    entry = st.builds(script.text, TEXTS) | st.builds(script.raw_chunk, json_values())
    entry |= st.builds(script.usage, input_tokens=COUNTS, output_tokens=COUNTS)
    if delays is not None:
        entry |= st.builds(script.delay, delays)
    entries = draw(st.lists(entry, max_size=4))
    fragments = st.lists(st.text(min_size=1, max_size=5), max_size=2)
    calls = draw(st.lists(st.tuples(names or tool_names(), arguments() | BROKEN, fragments), max_size=3))
    for number, (name, given, written) in enumerate(calls):
        id, whole = f"c{number}", isinstance(given, dict)
        entries += [script.tool_call_delta(id, fragment) for fragment in written]
        entries.append(script.tool_call(name, id=id, **{"arguments" if whole else "raw_arguments": given}))
    if calls:
        entries += draw(st.lists(entry, max_size=1))
    if failures and draw(st.booleans()):
        failure = st.sampled_from(["rate_limited", "provider_unavailable", "timeout", "network_error"])
        build = draw(st.sampled_from([script.error, script.preflight_error]))
        broken = build(draw(failure))
        return [broken] if build is script.preflight_error else [*entries, broken]
    return [
        *entries,
        script.finish("tool_calls" if calls else draw(_OTHER_ENDS)),
    ]


def _call_completed(call: ToolCall) -> ToolCallCompleted:
    return ToolCallCompleted(call.id, call.name, call.arguments, call.raw_arguments or "", call.metadata)
