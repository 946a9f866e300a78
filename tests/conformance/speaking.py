"""How a provider says the simplest things, in each dialect: some text, piece by piece, calls, what it took, and that it
will not or cannot.

The rule of this file: a row for each dialect, and nothing here knows our encoders or decoders.
"""

import json
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from msgspec.structs import replace

from allm_actors.data import Usage
from tests.conformance import aws_frames


@dataclass(frozen=True)
class Speech:
    """What comes before the text, each of its pieces, each call, and the end; and, if there is one, a failure between.

    `end` is told why the answer ends and what it took, and `ends` has the provider's words for why. `words` are bodies
    of refusals, by reason; what a provider never says is not there. `garbage` has the frame of a piece, and no sense.
    One that `reads_arguments` sends them as a part of its own JSON, and never a text that is none.
    """

    before: list[bytes]
    piece: object
    call: object
    end: object
    ends: dict[str, str]
    failure: bytes | None = None
    words: dict[str, object] = field(default_factory=dict)
    garbage: bytes = b'data: {"oops\n\n'
    reads_arguments: bool = False

    def answer(self, scene):
        return [*self.before, *map(self.piece, scene.text), *self.rest(scene)]

    def rest(self, scene):
        calls = self.calls(scene)
        end = self.end(self.ends[scene.finish_reason], scene.usage or Usage(input_tokens=1, output_tokens=1))
        return [*calls, *end]

    def calls(self, scene):
        made = [replace(call, raw_arguments=scene.raw_arguments) for call in scene.tool_calls]
        chunks = [self.call(at, call) for at, call in enumerate(made)]
        if scene.interleaved:
            return [chunk for turn in zip_longest(*chunks) for chunk in turn if chunk is not None]
        return [*chain(*chunks)]

    def begun(self, text):
        return [*self.before, self.piece(text[0])]

    def garbled(self, scene):
        return [*self.begun(scene.text), self.garbage, *map(self.piece, scene.text[1:]), *self.rest(scene)]


def cut(chunks):
    """The same bytes in pieces that end anywhere, as a network cuts them, also within a letter."""
    sent = b"".join(chunks)
    return [sent[at : at + 7] for at in range(0, len(sent), 7)]


def raw(value):
    """JSON whose letters are as they are, and not escaped, as providers write it."""
    return json.dumps(value, ensure_ascii=False).encode()


def sse(value, name=None):
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + raw(value) + b"\n\n"


def named(value):
    return sse(value, value["type"])


def line(value):
    return raw(value) + b"\n"


def aws(kind, value):
    return aws_frames.event(kind, raw(value))


def openai_chunk(delta=None, finish=None):
    return sse(
        {"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}
    )


def gemini_part(part):
    candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
    return sse({"candidates": [candidate], "modelVersion": "m"})


def written_of(call):
    """The arguments of a call, as the model wrote them."""
    return json.dumps(call.arguments) if call.raw_arguments is None else call.raw_arguments


def written_or_nothing(call):
    """The same, by a provider that writes nothing where there are none."""
    return written_of(call) if call.arguments or call.raw_arguments else ""


def value_of(call):
    """The same, by a provider that reads them itself."""
    return json.loads(written_of(call))


def openai_call(at, call):
    """The id and the name, and the arguments in two pieces."""
    written = written_of(call)
    begun = {"index": at, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    more = [{"index": at, "function": {"arguments": piece}} for piece in (written[:5], written[5:])]
    return [openai_chunk({"tool_calls": [each]}) for each in (begun, *more)]


def responses_call(at, call):
    """An item of its own, after that of the text."""
    written = written_of(call)
    item = {"type": "function_call", "id": f"fc{at}", "call_id": call.id, "name": call.name}
    place = {"output_index": at + 1}
    return [
        named({"type": "response.output_item.added", **place, "item": item | {"arguments": ""}}),
        *(
            named(
                {
                    "type": "response.function_call_arguments.delta",
                    "item_id": f"fc{at}",
                    **place,
                    "delta": piece,
                }
            )
            for piece in (written[:5], written[5:])
        ),
        named({"type": "response.output_item.done", **place, "item": item | {"arguments": written}}),
    ]


def responses_end(status, usage):
    """`incomplete` says why, and is an event of its own."""
    status, _, why = status.partition(": ")
    response = {"id": "r", "model": "m", "status": status}
    response["usage"] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if why:
        response["incomplete_details"] = {"reason": why}
    return [named({"type": f"response.{status}", "response": response})]


def anthropic_call(at, call):
    """A block of its own, after that of the text."""
    block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    written = written_or_nothing(call)
    return [
        named({"type": "content_block_start", "index": at + 1, "content_block": block}),
        *(
            named(
                {
                    "type": "content_block_delta",
                    "index": at + 1,
                    "delta": {"type": "input_json_delta", "partial_json": piece},
                }
            )
            for piece in (written[:5], written[5:])
        ),
        named({"type": "content_block_stop", "index": at + 1}),
    ]


def anthropic_end(stop, usage):
    """All of the usage: the last that is said counts."""
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return [
        named({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": counts}),
        named({"type": "message_stop"}),
    ]


def gemini_end(finish, usage):
    """An empty part, and why."""
    counts = {"promptTokenCount": usage.input_tokens, "candidatesTokenCount": usage.output_tokens}
    candidate = {"content": {"role": "model", "parts": [{"text": ""}]}, "index": 0, "finishReason": finish}
    return [sse({"candidates": [candidate], "usageMetadata": counts, "modelVersion": "m"})]


def ollama_call(at, call):
    """Whole, and without an id."""
    function = {"index": at, "name": call.name, "arguments": value_of(call)}
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    return [line({"model": "m", "message": message, "done": False})]


def ollama_end(reason, usage):
    """The last line."""
    counts = {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}
    return [line({"model": "m", "message": {"content": ""}, "done": True, "done_reason": reason, **counts})]


def cohere_call(at, call):
    """The id and the name, and the arguments in two pieces."""
    written = written_of(call)

    def event(kind, calls):
        return named({"type": kind, "index": at, "delta": {"message": {"tool_calls": calls}}})

    begun = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    return [
        event("tool-call-start", begun),
        *(event("tool-call-delta", {"function": {"arguments": each}}) for each in (written[:5], written[5:])),
        named({"type": "tool-call-end", "index": at}),
    ]


def cohere_end(finish, usage):
    """The last event."""
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return [
        named({"type": "content-end", "index": 0}),
        named({"type": "message-end", "delta": {"finish_reason": finish, "usage": {"tokens": tokens}}}),
    ]


def bedrock_call(at, call):
    """A block of its own, after that of the text."""
    place, written = {"contentBlockIndex": at + 1}, written_or_nothing(call)
    begun = {"toolUse": {"toolUseId": call.id, "name": call.name}}
    return [
        aws("contentBlockStart", {**place, "start": begun}),
        *(
            aws("contentBlockDelta", {**place, "delta": {"toolUse": {"input": piece}}})
            for piece in (written[:5], written[5:])
        ),
        aws("contentBlockStop", place),
    ]


def bedrock_end(stop, usage):
    """Why, and then how much."""
    counts = {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens}
    return [
        aws("messageStop", {"stopReason": stop}),
        aws("metadata", {"usage": counts | {"totalTokens": sum(counts.values())}}),
    ]


def openai_words(code, kind=None):
    return {"error": {"message": "No.", "code": code, "type": kind}}


def anthropic_words(kind, message="No."):
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini_words(status, message="No."):
    return {"error": {"code": 0, "status": status, "message": message}}


_TEXT_ITEM = {"type": "message", "id": "m1", "role": "assistant", "content": []}
_OPENAI_WORDS = {
    "authentication_failed": openai_words("invalid_api_key"),
    "rate_limited": openai_words("rate_limit_exceeded"),
    "invalid_request": openai_words(None, "invalid_request_error"),
    "context_length_exceeded": openai_words("context_length_exceeded"),
    "content_filter": openai_words("content_policy_violation"),
    "provider_unavailable": openai_words("server_error"),
    "unknown": {},
}

SPEECHES = {
    "openai_chat": Speech(
        before=[openai_chunk({"role": "assistant", "content": ""})],
        piece=lambda text: openai_chunk({"content": text}),
        call=openai_call,
        end=lambda finish, usage: [
            openai_chunk(finish=finish),
            sse(
                {
                    "id": "r",
                    "model": "m",
                    "choices": [],
                    "usage": {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens},
                }
            ),
            b"data: [DONE]\n\n",
        ],
        ends={
            "stop": "stop",
            "length": "length",
            "tool_calls": "tool_calls",
            "content_filter": "content_filter",
        },
        failure=sse(openai_words("rate_limit_exceeded")),
        words=_OPENAI_WORDS,
    ),
    "openai_responses": Speech(
        before=[
            named(
                {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}}
            ),
            named({"type": "response.output_item.added", "output_index": 0, "item": _TEXT_ITEM}),
        ],
        piece=lambda text: named(
            {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "delta": text}
        ),
        call=responses_call,
        end=responses_end,
        ends={
            "stop": "completed",
            "length": "incomplete: max_output_tokens",
            "tool_calls": "completed",
            "content_filter": "incomplete: content_filter",
        },
        failure=named({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down."}),
        words=_OPENAI_WORDS,
    ),
    "anthropic": Speech(
        before=[
            named(
                {"type": "message_start", "message": {"id": "r", "model": "m", "usage": {"input_tokens": 1}}}
            ),
            named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ],
        piece=lambda text: named(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        ),
        call=anthropic_call,
        end=anthropic_end,
        ends={
            "stop": "end_turn",
            "length": "max_tokens",
            "tool_calls": "tool_use",
            "content_filter": "refusal",
        },
        failure=named(anthropic_words("rate_limit_error")),
        words={
            "authentication_failed": anthropic_words("authentication_error"),
            "rate_limited": anthropic_words("rate_limit_error"),
            "invalid_request": anthropic_words("invalid_request_error"),
            "context_length_exceeded": anthropic_words("invalid_request_error", "prompt is too long: 2 > 1"),
            "provider_unavailable": anthropic_words("overloaded_error"),
            "unknown": anthropic_words("something_new"),
        },
    ),
    "gemini": Speech(
        before=[],
        piece=lambda text: gemini_part({"text": text}),
        call=lambda _, call: [gemini_part({"functionCall": {"name": call.name, "args": value_of(call)}})],
        reads_arguments=True,
        end=gemini_end,
        ends={"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"},
        failure=sse(gemini_words("RESOURCE_EXHAUSTED")),
        words={
            "authentication_failed": gemini_words("UNAUTHENTICATED"),
            "rate_limited": gemini_words("RESOURCE_EXHAUSTED"),
            "invalid_request": gemini_words("INVALID_ARGUMENT"),
            "context_length_exceeded": gemini_words(
                "INVALID_ARGUMENT", "The input token count (2) exceeds 1"
            ),
            "provider_unavailable": gemini_words("UNAVAILABLE"),
            "unknown": gemini_words("SOMETHING_NEW"),
        },
    ),
    "ollama": Speech(
        before=[],
        piece=lambda text: line(
            {"model": "m", "message": {"role": "assistant", "content": text}, "done": False}
        ),
        call=ollama_call,
        reads_arguments=True,
        end=ollama_end,
        ends={"stop": "stop", "length": "length", "tool_calls": "stop"},
        garbage=b'{"oops\n',
        words={
            "authentication_failed": {"error": "unauthorized"},
            "rate_limited": {"error": "too many requests"},
            "invalid_request": {"error": "model 'm' not found"},
            "provider_unavailable": {"error": "it fell over"},
            "unknown": {"error": "I am a teapot"},
        },
    ),
    "cohere": Speech(
        before=[
            named({"type": "message-start", "id": "r", "delta": {"message": {"role": "assistant"}}}),
            named(
                {
                    "type": "content-start",
                    "index": 0,
                    "delta": {"message": {"content": {"type": "text", "text": ""}}},
                }
            ),
        ],
        piece=lambda text: named(
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}
        ),
        call=cohere_call,
        end=cohere_end,
        ends={"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"},
        words={
            "authentication_failed": {"message": "invalid api token"},
            "rate_limited": {"message": "slow down"},
            "invalid_request": {"message": "no such model"},
            "provider_unavailable": {"message": "internal server error"},
            "unknown": {"message": "I am a teapot"},
        },
    ),
    "bedrock": Speech(
        before=[aws("messageStart", {"role": "assistant"})],
        piece=lambda text: aws("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}),
        call=bedrock_call,
        end=bedrock_end,
        ends={
            "stop": "end_turn",
            "length": "max_tokens",
            "tool_calls": "tool_use",
            "content_filter": "guardrail_intervened",
        },
        garbage=aws_frames.event("contentBlockDelta", b'{"oops'),
        failure=aws_frames.frame(
            {":message-type": "exception", ":exception-type": "throttlingException"},
            b'{"message": "Slow down."}',
        ),
        words={
            "authentication_failed": {"message": "The security token included in the request is invalid."},
            "rate_limited": {"message": "Too many requests."},
            "invalid_request": {"message": "The provided model identifier is invalid."},
            "context_length_exceeded": {"message": "Input is too long for requested model."},
            "provider_unavailable": {"message": "The system encountered an unexpected error."},
            "unknown": {"message": "I am a teapot."},
        },
    ),
}
