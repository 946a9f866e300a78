"""How a provider says the simplest things, in each dialect: some text, piece by piece, and that it will not or cannot.

The rule of this file: a row for each dialect, and nothing here knows our encoders or decoders.
"""

import json
from dataclasses import dataclass, field

from tests.conformance import aws_frames


@dataclass(frozen=True)
class Speech:
    """What comes before the text, each of its pieces, and what comes after; and a failure in between, if there is one.

    `words` are bodies of refusals, by reason; what a provider never says is not there.
    """

    before: list[bytes]
    piece: object
    after: list[bytes]
    failure: bytes | None = None
    words: dict[str, object] = field(default_factory=dict)

    def chunks(self, text):
        return [*self.before, *map(self.piece, text), *self.after]

    def broken(self, text):
        return [*self.before, self.piece(text[0]), self.failure]


def sse(value, name=None):
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + json.dumps(value).encode() + b"\n\n"


def named(value):
    return sse(value, value["type"])


def line(value):
    return json.dumps(value).encode() + b"\n"


def aws(kind, value):
    return aws_frames.event(kind, json.dumps(value).encode())


def openai_chunk(delta=None, finish=None):
    return sse(
        {"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}
    )


def gemini_part(text, finish=None):
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return sse(
        {"candidates": [candidate | ({"finishReason": finish} if finish else {})], "modelVersion": "m"}
    )


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
        after=[openai_chunk(finish="stop"), b"data: [DONE]\n\n"],
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
        after=[
            named(
                {"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed"}}
            )
        ],
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
        after=[
            named({"type": "content_block_stop", "index": 0}),
            named(
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
            ),
            named({"type": "message_stop"}),
        ],
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
        piece=gemini_part,
        after=[gemini_part("", "STOP")],
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
        after=[line({"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"})],
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
        after=[
            named({"type": "content-end", "index": 0}),
            named({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
        ],
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
        after=[
            aws("contentBlockStop", {"contentBlockIndex": 0}),
            aws("messageStop", {"stopReason": "end_turn"}),
            aws("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}),
        ],
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
