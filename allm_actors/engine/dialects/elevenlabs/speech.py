"""ElevenLabs' speech: a text to its JSON; the answer is the clip.

Rule of this file: pure. Format and sample rate are one word in the query, and not every pair of them has one.
Our fields override `options`; in `voice_settings` only the speed is ours, and `query` goes into the URL.

    ours    sample rates                       on the wire
    mp3     22050, 24000, 44100 (default)      mp3_22050_32, mp3_24000_48, mp3_44100_128
    opus    48000                              opus_48000_64
    pcm     8000 … 48000 (default 24000)       pcm_24000
    wav     8000 … 48000 (default 24000)       wav_24000, but not in a stream

Source: https://elevenlabs.io/docs/api-reference/text-to-speech/convert, …/stream.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

from allm_actors.data import SpeechCompleted, SpeechRequest, SpeechResponse, SpeechStarted
from allm_actors.engine.dialects.elevenlabs.errors import elevenlabs_refusal
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.lenient import dict_of
from allm_actors.engine.dialects.refusals import json_request
from allm_actors.engine.dialects.spoken import speech_completed, speech_started, spoken
from allm_actors.engine.services import Service, SpeechDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_VOICE = "JBFqnCBsd6RMkjVDRZzb"
_RESERVED: Final = frozenset({"output_format", "model_id", "text", "query"})
_MP3: Final = {44_100: "mp3_44100_128", 22_050: "mp3_22050_32", 24_000: "mp3_24000_48"}
_RATES: Final = (24_000, 8_000, 16_000, 22_050, 32_000, 44_100, 48_000)
# The first rate of each format is its default.
_WORDS: Final[dict[str, dict[int, str]]] = {
    "mp3": _MP3,
    "opus": {48_000: "opus_48000_64"},
    "pcm": {rate: f"pcm_{rate}" for rate in _RATES},
    "wav": {rate: f"wav_{rate}" for rate in _RATES},
}

_STREAMED: Final = ("mp3", "opus", "pcm")


def encode(request: SpeechRequest, row: Service, base_url: str, *, streamed: bool = False) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    if request.instructions is not None:
        message = f"{row.provider.label} takes no instructions; choose a voice, or write it into the text"
        raise row.error("unsupported_feature", message, metadata={"field": "instructions"})
    rate = _rate(request, row)
    if streamed and request.format not in (None, *_STREAMED):
        message = f"{row.provider.label} streams no {request.format}; it streams: {', '.join(_STREAMED)}"
        raise row.error("unsupported_feature", message, metadata={"field": "format"})
    body: dict[str, Any] = {k: v for k, v in request.options.items() if k not in _RESERVED}
    body |= {"text": request.input, "model_id": request.model or row.model}
    if request.speed is not None:
        body["voice_settings"] = {**dict_of(body.get("voice_settings")), "speed": request.speed}
    query = {**dict_of(request.options.get("query")), "output_format": _words(request)[rate]}
    path = f"v1/text-to-speech/{quote(request.voice or _VOICE, safe='')}{'/stream' if streamed else ''}"
    words = urlencode({name: _word(value) for name, value in query.items()})
    return json_request(f"{base_url}/{path}?{words}", body, row)


def decode(answer: HttpAnswer, request: SpeechRequest, row: Service) -> SpeechResponse:
    """See `ServiceDialect.decode`."""
    cost = _cost(answer)
    raw = {"character_cost": cost} if cost is not None else None
    return spoken(answer, request, row, _rate(request, row), provider_request_id(answer.headers), raw)


def started(answer: HttpAnswer, request: SpeechRequest, row: Service) -> SpeechStarted:
    """The first event, from the head of an answer; `answer` has no body. Raises `malformed_response`."""
    return speech_started(answer, request, row, _rate(request, row))


def completed(answer: HttpAnswer, request: SpeechRequest) -> SpeechCompleted:
    """The last event of a stream with this head."""
    cost = _cost(answer)
    more = {"character_cost": cost} if cost is not None else None
    return speech_completed(request, provider_request_id(answer.headers), more)


def _words(request: SpeechRequest) -> dict[int, str]:
    return _WORDS.get(request.format or "mp3", {})


def _rate(request: SpeechRequest, row: Service) -> int:
    words = _words(request)
    if not words:
        message = f"{row.provider.label} has no format {request.format!r}; it has: {', '.join(_WORDS)}"
        raise row.error("unsupported_feature", message, metadata={"field": "format"})
    rate = next(iter(words)) if request.sample_rate is None else request.sample_rate
    if rate not in words:
        there = ", ".join(map(str, sorted(words)))
        message = f"{row.provider.label} has no {request.format or 'mp3'} at {rate} Hz; it has: {there}"
        raise row.error("unsupported_feature", message, metadata={"field": "sample_rate"})
    return rate


def _cost(answer: HttpAnswer) -> int | None:
    said = answer.headers.get("character-cost", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else None


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


DIALECT: Final = SpeechDialect(
    encode=encode, decode=decode, decode_error=elevenlabs_refusal, started=started, completed=completed
)
