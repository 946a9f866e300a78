"""What every format for speech has in common: the body of an answer is the clip; everything else is in its headers.

Rule of this file: pure. The first and last event of a stream have the same information as a whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allm_actors.data import Audio, SpeechCompleted, SpeechRequest, SpeechResponse, SpeechStarted
from allm_actors.engine.dialects.clips import audio_type, format_of, rate_of
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpAnswer

__all__ = ["speech_completed", "speech_started", "spoken"]


def spoken(
    answer: HttpAnswer, request: SpeechRequest, row: Service, rate: int | None, id: str | None, raw: Any
) -> SpeechResponse:
    """The response for a whole answer. Raises `malformed_response` for one that is no audio, or empty."""
    started = speech_started(answer, request, row, rate)
    if not answer.body:
        raise row.malformed("the clip is empty")
    return SpeechResponse(
        id=id,
        model=started.model,
        provider=started.provider,
        audio=Audio(source=("binary", answer.body), mime_type=started.mime_type),
        format=started.format,
        sample_rate=started.sample_rate,
        raw=raw,
        metadata=dict(request.metadata),
    )


def speech_started(
    answer: HttpAnswer, request: SpeechRequest, row: Service, rate: int | None
) -> SpeechStarted:
    """The first event, from the head of an answer. Raises `malformed_response` for one that is no audio."""
    kind = audio_type(answer, row, request.format or "mp3")  # the default of all of them
    return SpeechStarted(
        model=request.model or row.model,
        provider=row.provider.name,
        format=format_of(kind),
        mime_type=kind,
        sample_rate=rate_of(answer) or rate,
    )


def speech_completed(
    request: SpeechRequest, id: str | None, more: Mapping[str, Any] | None = None
) -> SpeechCompleted:
    """The last event of a stream."""
    return SpeechCompleted(id=id, metadata={**request.metadata, **(more or {})})
