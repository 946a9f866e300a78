"""What every format for speech has in common: its answer is the clip, and what else there is to say is in the headers.

Rule of this file: pure. What comes first and last in a stream says the same as a whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allm_actors.data import Audio, SpeechCompleted, SpeechRequest, SpeechResponse, SpeechStarted
from allm_actors.engine.dialects.clips import audio_type, format_of, rate_of
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpFailure

__all__ = ["speech_completed", "speech_started", "spoken"]


def spoken(
    answer: HttpFailure, request: SpeechRequest, row: Service, rate: int | None, id: str | None, raw: Any
) -> SpeechResponse:
    """The response that a whole answer is. Raises `malformed_response` for one that is no sound, or silence."""
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
    answer: HttpFailure, request: SpeechRequest, row: Service, rate: int | None
) -> SpeechStarted:
    """What the head of an answer says. Raises `malformed_response` for one that is no sound."""
    kind = audio_type(answer, row, request.format or "mp3")  # which all of them take for None
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
    """The end of a stream."""
    return SpeechCompleted(id=id, metadata={**request.metadata, **(more or {})})
