"""What providers of everything but chat answer and refuse, of our own: for a loopback server, and for dialects alone.

The rule of this file: an answer is that of `tests/exchanges/services`; a refusal has the shape that the provider's
documentation gives it, and nothing is said here of what is made of it.
"""

import base64
import functools
import json
from pathlib import Path

from allm_actors.data import (
    Audio,
    EmbeddingRequest,
    ImageRequest,
    ModerationRequest,
    SpeechRequest,
    TranscriptionRequest,
)
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from allm_actors.testing.loopback import Reply

ANSWERS = Path(__file__).parents[1] / "exchanges" / "services"
CLIP = Audio.from_bytes(b"Good morning.", "audio/mpeg")
REQUESTS = {
    "image": ImageRequest(prompt="a grey cat"),
    "embed": EmbeddingRequest(input=["a grey cat", "a dog", "income tax"], model="m"),
    "moderate": ModerationRequest(input=["Hello!", "Goodbye!"]),
    "speech": SpeechRequest(input="Good morning."),
    "transcribe": TranscriptionRequest(audio=CLIP),
}
SECRET = "sk-nobodys-key-1234567890abcdef"
_STATUSES = {
    "authentication_failed": 401,
    "rate_limited": 429,
    "invalid_request": 400,
    "provider_unavailable": 503,
    "context_length_exceeded": 400,
}
_TOO_LONG = {
    "openai": "This model's maximum context length is 8192 tokens, you asked for 9000 (rk-leaked-0123456789).",
    "mistral": "Input too long: exceeds the maximum context length.",
    "voyage": "The request has too many tokens: 130000 of 120000.",
    "gemini": "The input token count exceeds the maximum number of tokens allowed.",
    "cohere": "too many tokens: the size of text 0 is more than 512 tokens",
    "ollama": "the input length exceeds the context length",
}


@functools.cache
def answer(dialect: str) -> HttpAnswer:
    """The answer of that format."""
    said = json.loads((ANSWERS / f"{dialect}.json").read_text())
    body = base64.b64decode(said["base64"]) if "base64" in said else json.dumps(said["json"]).encode()
    return HttpAnswer(status=said["status"], headers=said["headers"], body=body)


def answered(row, **changes) -> Reply:
    """The answer as a reply."""
    said = answer(row.dialect)
    return Reply(**{"status": said.status, "headers": said.headers, "body": said.body, **changes})


def pictures(row, made) -> Reply:
    """The answer, with these pictures."""
    wire = json.loads(answer(row.dialect).body)
    coded = [base64.b64encode(picture).decode() for picture in made]
    if row.provider.name == "gemini":
        parts = [{"inlineData": {"mimeType": "image/png", "data": each}} for each in coded]
        wire["candidates"][0]["content"]["parts"] = parts
    else:
        wire["data"] = [{"b64_json": each} for each in coded]
    return answered(row, body=json.dumps(wire).encode())


def verdicts(row, made) -> Reply:
    """The answer, with these verdicts in their order."""
    wire = json.loads(answer(row.dialect).body)
    wire["results"] = [
        {
            "flagged": each.flagged,
            "categories": each.categories,
            "category_scores": each.category_scores,
        }
        for each in made
    ]
    return answered(row, body=json.dumps(wire).encode())


def transcript(row, text) -> Reply:
    """The answer, with that text."""
    wire = json.loads(answer(row.dialect).body)
    if row.provider.name == "gemini":
        wire["candidates"][0]["content"]["parts"] = [{"text": text}]
    else:
        wire["text"] = text
    return answered(row, body=json.dumps(wire).encode())


def vectors(row, made) -> Reply:
    """The answer, with these vectors in their order."""
    left = iter(made)

    def filled(value):
        if isinstance(value, dict) and "index" in value:
            return value | {"embedding": list(made[value["index"]])}
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        if not isinstance(value, list):
            return value
        if value and all(isinstance(each, int | float) for each in value):
            return list(next(left))
        return [filled(each) for each in value]

    return answered(row, body=json.dumps(filled(json.loads(answer(row.dialect).body))).encode())


def refused(row, reason: str, retry_after_ms: int | None = None) -> Reply:
    """How the provider refuses for that reason. Its words quote a key, as some do."""
    name = row.provider.name
    status = _STATUSES[reason]
    words = f"no: {SECRET}" if reason != "context_length_exceeded" else _TOO_LONG[name]
    headers = {} if retry_after_ms is None else {"retry-after-ms": str(retry_after_ms)}
    return Reply(status=status, headers=headers, body=json.dumps(_error(name, status, words)).encode())


def _error(name: str, status: int, words: str):
    match name:
        case "openai":
            return {"error": {"message": words, "type": "some_error", "param": None, "code": None}}
        case "gemini":
            return {"error": {"code": status, "message": words, "status": "SOMETHING", "details": []}}
        case "voyage":
            return {"detail": words}
        case "ollama":
            return {"error": words}
        case "elevenlabs":
            return {"detail": {"status": "some_error", "message": words}}
        case _:
            return {"id": "e1", "object": "error", "message": words, "type": "some_error"}


ROWS = list(SERVICES.values())


def title(row) -> str:
    """Which row a test is about."""
    return f"{row.span}-{row.provider.name}"
