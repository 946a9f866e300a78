"""What a model's answer adds to the conversation.

Rule of this file: a thread contains a tool call only if it contains, or will contain, its result, because a
provider refuses anything else. Calls that will not be run are kept in the message's metadata, under
`unexecuted_tool_calls`.

    the answer                                    the assistant message                    metadata
    --------------------------------------------  ---------------------------------------  ---------------------------
    ends with calls                               its text, which may be ""                finish_reason, tool_calls
    ends otherwise                                its text, which may be ""                finish_reason
    ends in no known way, or without its calls    the same; the response becomes an error  finish_reason `error`
    does not fit the `response_model`             its text; then a user message says why   finish_reason
    was cut off by a cancel                       its text so far; none without text       finish_reason, partial

An answer that was cut off, or ended in an error, is what people have read, so it stays in the conversation.
The model is sent it if the user goes on from there; if the model is asked for that answer again, it is left
out. Several providers refuse a conversation that ends with the assistant's message: Mistral all of them, and
Anthropic from Claude 4.6 on.
Source: the providers' refusals, as quoted in https://github.com/langchain-ai/deepagents/issues/1585 and
https://github.com/huggingface/smolagents/issues/757, read 2026-11.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from allm_actors.data import AdapterError, AllmError, Message, Response, StreamError, ToolCall

__all__ = [
    "INTERRUPTED",
    "REJECTED",
    "as_error",
    "calling",
    "correction",
    "is_unfinished",
    "partial",
    "question",
    "rejected",
    "spoken",
    "stopped",
    "to_send",
    "whole",
]

REJECTED = "rejected"
"""In a response's metadata: why the model was asked to answer again."""
INTERRUPTED = "interrupted"
"""In the metadata of the error of an answer that was cut off: it was not its caller who did it."""


def whole(response: Response, unfinished: frozenset[str], repeated: str | None = None) -> Response:
    """The response as a step uses it: an answer with an unusable ending becomes an error, which is never retried.

    Calls named in `unfinished` were cut off: they are marked, so that no handler gets their partial
    arguments. A call is answered by its id alone: if two calls have the same id (`repeated`), or one has
    none, no call is run.
    """
    match response.finish_reason:
        case "stop" | "length" | "content_filter":
            return response
        case "tool_calls" if repeated is not None or _named(response) is not response.tool_calls:
            response = msgspec.structs.replace(response, tool_calls=_named(response))
            return as_error(response, _nameless(repeated))
        case "tool_calls" if response.tool_calls:
            calls = [_marked(call) if call.id in unfinished else call for call in response.tool_calls]
            return msgspec.structs.replace(response, tool_calls=calls) if unfinished else response
        case "error" if response.metadata.get("error") is not None:
            return response
        case reason:
            return as_error(response, _malformed(reason, response.raw_finish_reason))


def as_error(response: Response, error: AllmError) -> Response:
    """The response, ended by this error."""
    metadata = {**response.metadata, "error": error}
    return msgspec.structs.replace(response, finish_reason="error", metadata=metadata)


def rejected(response: Response, problem: str) -> Response:
    """The response, marked as not fitting the `response_model`; the model is asked again."""
    return msgspec.structs.replace(response, metadata={**response.metadata, REJECTED: problem})


def correction(problem: str, retry: int) -> Message:
    """The user message that asks for a rejected answer again."""
    text = (
        f"Your answer does not have the form that was asked for: {problem}\n"
        "Answer again, with the corrected JSON and nothing else."
    )
    return Message(role="user", content=text, metadata={"response_retry": retry})


def calling(response: Response) -> Message:
    """The assistant message of an answer whose calls will be answered."""
    return _assistant(response, tool_calls=list(response.tool_calls))


def spoken(response: Response) -> Message:
    """The assistant message of an answer whose calls, if any, will not be run."""
    unexecuted = {"unexecuted_tool_calls": list(response.tool_calls)} if response.tool_calls else {}
    return _assistant(response, **unexecuted)


def partial(response: Response) -> tuple[Message, ...]:
    """The assistant message of an answer that was cut off; none when it had no text."""
    return (_assistant(response, partial=True),) if response.output_text else ()


def stopped(why: Literal["cancelled", "interrupted"], message: str) -> StreamError:
    """The error of an answer that was cut off: its caller cancelled it, or its host was stopped."""
    return StreamError(
        "cancelled", message=message, metadata={INTERRUPTED: True} if why == INTERRUPTED else {}
    )


def question(text: str, call_id: str) -> Message:
    """The assistant message that puts a tool's question to the user."""
    return Message(role="assistant", content=text, metadata={"ask_user": True, "tool_call_id": call_id})


def to_send(messages: list[Message]) -> list[Message]:
    """The messages that the model is sent: without the unfinished answers that it is asked for again.

    The same list object if there are none, or nothing else but system messages.
    """
    kept: list[Message] = []
    # The role of the next message, but for system messages, which some providers are sent apart from the others.
    follower = "assistant"
    for message in reversed(messages):
        if follower != "assistant" or not is_unfinished(message):
            kept.append(message)
            follower = message.role if message.role != "system" else follower
    if len(kept) == len(messages) or all(message.role == "system" for message in kept):
        return messages
    return kept[::-1]


def is_unfinished(message: Message) -> bool:
    """Whether this is an answer that was cut off, or ended in an error."""
    said: object = message.metadata
    if message.role != "assistant" or not isinstance(said, dict) or said.get("tool_calls"):
        return False
    return said.get("partial") is True or said.get("finish_reason") == "error"


def _assistant(response: Response, **metadata: Any) -> Message:
    said = response.message.metadata if response.message is not None else {}
    kept = {key: value for key, value in said.items() if key != "tool_calls"}
    return Message(
        role="assistant",
        content=response.output_text or "",
        metadata={**kept, "finish_reason": response.finish_reason, **metadata},
    )


def _marked(call: ToolCall) -> ToolCall:
    why = call.metadata.get("arguments_error", "the call was cut off before its arguments were complete")
    return msgspec.structs.replace(call, metadata={**call.metadata, "arguments_error": why})


def _named(response: Response) -> list[ToolCall]:
    """Its calls that have an id; the same list object if all have one."""
    calls = response.tool_calls
    named = [call for call in calls if call.id and type(call.id) is str]
    return calls if len(named) == len(calls) else named


def _nameless(repeated: str | None) -> AdapterError:
    what = "a call without an id" if not repeated else f"several calls with the id {repeated!r}"
    message = f"the adapter made {what}; each call of an answer must have its own id, a text"
    return AdapterError("malformed_response", message=message)


def _malformed(reason: str | None, raw: str | None) -> AdapterError:
    what = (
        "ended as if it called tools, but called none"
        if reason == "tool_calls"
        else "did not end in a known way"
    )
    said = f"finish reason {raw or reason!r}"
    if raw is None and reason != "tool_calls":
        said += "; an adapter must give 'stop', 'length', 'tool_calls' or 'content_filter'"
    if raw is None and reason is None:
        said += ", and a script ends with script.finish(…)"
    return AdapterError("malformed_response", message=f"the model's answer {what} ({said})")
