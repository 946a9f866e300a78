"""OpenAI's speech: a text to its JSON; the answer is the clip.

Rule of this file: pure. Raw PCM comes at 24 000 Hz only; other formats contain their own rate. Our fields
override `options`, and these override the default voice. `stream_format` is not sent, because an answer in events
is not read here.

Source: https://platform.openai.com/docs/api-reference/audio/createSpeech.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import SpeechCompleted, SpeechRequest, SpeechResponse, SpeechStarted
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.refusals import json_request, refusal
from allm_actors.engine.dialects.spoken import speech_completed, speech_started, spoken
from allm_actors.engine.services import Service, SpeechDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_VOICE = "alloy"
_MOST_CHARACTERS = 4096
_RATE = 24_000
_RAW = ("pcm", "wav")


def encode(
    request: SpeechRequest,
    row: Service,
    base_url: str,
    *,
    streamed: bool = False,  # noqa: ARG001 - one path
) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    count = len(request.input)
    if count > _MOST_CHARACTERS:
        message = f"{row.provider.label} speaks at most {_MOST_CHARACTERS} characters at once, got {count}"
        sizes = {"count": count, "max": _MOST_CHARACTERS}
        raise row.error("context_length_exceeded", f"{message}; send it in parts", metadata=sizes)
    _check_rate(request, row)
    fields = {
        "model": request.model or row.model,
        "input": request.input,
        "voice": request.voice or None,
        "response_format": request.format,
        "instructions": request.instructions,
        "speed": request.speed,
    }
    options = {name: value for name, value in request.options.items() if name != "stream_format"}
    body: dict[str, Any] = {"voice": _VOICE, **options}
    body |= {name: value for name, value in fields.items() if value is not None}
    return json_request(f"{base_url}/audio/speech", body, row)


def decode(answer: HttpAnswer, request: SpeechRequest, row: Service) -> SpeechResponse:
    """See `ServiceDialect.decode`."""
    return spoken(answer, request, row, _rate(request), provider_request_id(answer.headers), None)


def started(answer: HttpAnswer, request: SpeechRequest, row: Service) -> SpeechStarted:
    """The first event, from the head of an answer; `answer` has no body. Raises `malformed_response`."""
    return speech_started(answer, request, row, _rate(request))


def completed(answer: HttpAnswer, request: SpeechRequest) -> SpeechCompleted:
    """The last event of a stream with this head."""
    return speech_completed(request, provider_request_id(answer.headers))


def _check_rate(request: SpeechRequest, row: Service) -> None:
    if request.sample_rate is None or (request.format in _RAW and request.sample_rate == _RATE):
        return
    message = (
        f"{row.provider.label} has no sample rate of {request.sample_rate} Hz in "
        f"{request.format or 'mp3'}; pcm and wav have {_RATE}; for other formats leave sample_rate out"
    )
    raise row.error("unsupported_feature", message, metadata={"field": "sample_rate"})


def _rate(request: SpeechRequest) -> int | None:
    return _RATE if request.format in _RAW else None


DIALECT: Final = SpeechDialect(
    encode=encode, decode=decode, decode_error=refusal, started=started, completed=completed
)
