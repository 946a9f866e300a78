"""What comes back: usage, responses, results of steps and chats, pictures.

Rule of this file: what failed carries its error.
"""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import (
    ChatResult,
    ImageRequest,
    ImageResponse,
    ImageUsage,
    Message,
    Response,
    StepResult,
    Usage,
)

from .conversations import calls_of_one_message, images, message_calling, threads
from .errors import FINISH_REASONS, errors
from .plain import COSTS, COUNTS, IDS, TEXTS, WORDS, json_objects, json_values, maybe, notes

__all__ = [
    "chat_results",
    "image_requests",
    "image_responses",
    "responses",
    "step_results",
    "usage",
]

HALTED_REASONS = (
    "completed",
    "ask_user",
    "manual_tool_calls",
    "error",
    "max_turns",
    "halt_when",
    "tool_error",
    "cancelled",
    "plan_submitted",
)


@cache
def usage() -> SearchStrategy[Usage]:
    """What a call consumed, in any state of knowledge."""
    names = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")]
    return st.builds(
        Usage,
        **{name: maybe(COUNTS) for name in names},
        input_cost=maybe(COSTS),
        output_cost=maybe(COSTS),
        total_cost=maybe(COSTS),
        tool_usage=json_objects(),
        extra=json_objects(),
    )


@cache
@st.composite
def responses(draw: st.DrawFn) -> Response:
    """A finished model call; one that failed carries its error."""
    reason = draw(maybe(FINISH_REASONS))
    calls = draw(calls_of_one_message()) if reason == "tool_calls" else []
    text = draw(TEXTS)
    metadata = draw(notes()) | ({"error": draw(errors())} if reason == "error" else {})
    return Response(
        id=draw(maybe(IDS)),
        request_id=draw(maybe(IDS)),
        model=draw(maybe(WORDS)),
        message=draw(
            maybe(st.just(message_calling(text, calls) if calls else Message(role="assistant", content=text)))
        ),
        output_text=draw(maybe(st.just(text))),
        tool_calls=calls,
        finish_reason=reason,
        raw_finish_reason=draw(maybe(WORDS)),
        usage=draw(usage()),
        raw=draw(json_values()),
        parsed=draw(maybe(json_values())),
        metadata=metadata,
    )


@cache
def step_results() -> SearchStrategy[StepResult]:
    """One model call and its answers."""
    return st.builds(
        StepResult,
        thread=threads(open_calls=True, max_turns=1),
        response=maybe(responses()),
        tool_results=st.lists(
            st.builds(Message, role=st.just("tool"), content=TEXTS, tool_call_id=IDS), max_size=2
        ),
        done=st.booleans(),
        metadata=notes() | st.fixed_dictionaries({"manual_tool_calls": calls_of_one_message()}),
    )


@cache
def chat_results() -> SearchStrategy[ChatResult]:
    """A finished chat."""
    return st.builds(
        ChatResult,
        thread=maybe(threads(max_turns=1)),
        final_response=maybe(responses()),
        halted_reason=maybe(st.sampled_from(HALTED_REASONS)),
        pending_question=maybe(TEXTS),
        pending_tool_call_id=maybe(IDS),
        steps=st.lists(step_results(), max_size=1),
        metadata=notes() | st.fixed_dictionaries({"error": errors()}),
    )


@cache
def image_requests() -> SearchStrategy[ImageRequest]:
    """A request for pictures that can be sent."""
    sizes = st.sampled_from([None, "auto", "1024x1024"]) | st.tuples(
        st.integers(1, 4096), st.integers(1, 4096)
    )
    looks = {name: maybe(WORDS) for name in ("model", "quality", "style", "background")}
    common = {**looks, "size": sizes, "n": st.integers(1, 4), "options": json_objects(), "metadata": notes()}
    prompts = st.text(min_size=1, max_size=10)
    return st.one_of(
        st.builds(
            ImageRequest,
            prompt=prompts,
            response_format=st.sampled_from(["binary", "base64", "url"]),
            **common,
        ),
        st.builds(
            ImageRequest,
            operation=st.just("edit"),
            prompt=prompts,
            input_images=st.lists(images(), min_size=1, max_size=2),
            mask=maybe(images()),
            **common,
        ),
        st.builds(
            ImageRequest,
            operation=st.just("variation"),
            input_images=st.lists(images(), min_size=1, max_size=1),
            **common,
        ),
    )


@cache
def image_responses() -> SearchStrategy[ImageResponse]:
    """The pictures a provider returned."""
    said = {name: maybe(WORDS) for name in ("size", "quality")}
    counts = {name: maybe(COUNTS) for name in ("input_tokens", "output_tokens")}
    costs = {name: maybe(COSTS) for name in ("input_cost", "output_cost", "total_cost")}
    return st.builds(
        ImageResponse,
        id=maybe(IDS),
        request_id=maybe(IDS),
        model=maybe(WORDS),
        images=st.lists(images(), max_size=2),
        usage=st.builds(ImageUsage, images=COUNTS, **said, **counts, **costs),
        raw=json_values(),
        metadata=notes(),
    )
