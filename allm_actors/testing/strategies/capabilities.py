"""Everything that is not chat: embeddings, verdicts, clips, transcripts, answers.

Rule of this file: requests can be sent, and a response fits some request.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import (
    Audio,
    AudioDelta,
    ClassificationAnswer,
    ClassificationQuestion,
    ClassificationRequest,
    ClassificationResponse,
    CommittedTranscript,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    ErrorEvent,
    ImagePart,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    PartialTranscript,
    SpeechAdapterError,
    SpeechCompleted,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    SpeechStarted,
    TranscriptionAdapterError,
    TranscriptionCompleted,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptionResponse,
    TranscriptionStarted,
)
from allm_actors.data.media.audio import FORMATS
from allm_actors.data.services.embeddings import TaskType

from .conversations import images
from .plain import COUNTS, IDS, TEXTS, WORDS, json_objects, json_values, maybe, notes, with_details
from .results import usage

__all__ = [
    "audios",
    "classification_requests",
    "classification_responses",
    "embedding_requests",
    "embedding_responses",
    "moderation_requests",
    "moderation_responses",
    "questions",
    "speech_events",
    "speech_requests",
    "speech_responses",
    "transcription_events",
    "transcription_requests",
    "transcription_responses",
]

SAID = st.text(min_size=1, max_size=10)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PROBABILITIES = st.floats(0, 1)
SECONDS = st.floats(0, 1e6)
FORMAT = maybe(st.sampled_from(sorted(FORMATS)))
MIME = maybe(st.sampled_from(sorted(FORMATS.values())))
BEGUN = {"request_id": maybe(IDS), "model": maybe(WORDS), "provider": maybe(WORDS)}
OWN: dict[str, SearchStrategy[Any]] = {
    "model": maybe(WORDS),
    "options": json_objects(),
    "metadata": notes(),
}
COMMON: dict[str, SearchStrategy[Any]] = {
    "id": maybe(IDS),
    "request_id": maybe(IDS),
    "model": maybe(WORDS),
    "raw": json_values(),
    "metadata": notes(),
}


def embedding_requests(max_size: int = 4) -> SearchStrategy[EmbeddingRequest]:
    """Texts to embed."""
    return st.builds(
        EmbeddingRequest,
        input=st.lists(SAID, min_size=1, max_size=max_size),
        dimensions=maybe(st.integers(1, 4096)),
        task_type=maybe(st.sampled_from(get_args(TaskType))),
        truncate=st.booleans(),
        **OWN,
    )


@cache
@st.composite
def embedding_responses(draw: st.DrawFn) -> EmbeddingResponse:
    """Vectors of one length, in any order."""
    size = draw(st.integers(1, 3))
    vectors = draw(st.lists(st.lists(FLOATS, min_size=size, max_size=size), max_size=3))
    embeddings = [Embedding(vector=vector, index=at) for at, vector in enumerate(vectors)]
    return draw(st.builds(EmbeddingResponse, embeddings=st.permutations(embeddings), usage=usage(), **COMMON))


@cache
def moderation_requests() -> SearchStrategy[ModerationRequest]:
    """Content to judge."""
    pictures = st.builds(ImagePart, image=images())
    return st.builds(ModerationRequest, input=st.lists(SAID | pictures, min_size=1, max_size=3), **OWN)


@cache
@st.composite
def moderation_responses(draw: st.DrawFn) -> ModerationResponse:
    """A verdict for each item."""
    result = st.builds(
        ModerationResult,
        flagged=st.booleans(),
        categories=st.dictionaries(WORDS, st.booleans(), max_size=3),
        category_scores=st.dictionaries(WORDS, PROBABILITIES, max_size=3),
        applied_input_types=st.dictionaries(WORDS, st.lists(st.sampled_from(["text", "image"]), max_size=2)),
        index=st.integers(0, 3),
    )
    return draw(st.builds(ModerationResponse, results=st.lists(result, max_size=3), **COMMON))


@cache
def audios() -> SearchStrategy[Audio]:
    """A clip from each kind of source."""
    mime, data = st.sampled_from(sorted(FORMATS.values())), st.binary(max_size=20)
    made = st.one_of(
        st.builds(Audio.from_file, WORDS.map("{}.mp3".format)),
        st.builds(Audio.from_bytes, data, mime),
        st.builds(Audio.from_base64, data.map(lambda drawn: base64.b64encode(drawn).decode()), mime),
    )
    return with_details(made, metadata=notes())


@cache
def speech_requests() -> SearchStrategy[SpeechRequest]:
    """A text to speak."""
    return st.builds(
        SpeechRequest,
        input=SAID,
        voice=maybe(WORDS),
        format=FORMAT,
        instructions=maybe(TEXTS),
        speed=maybe(st.floats(0.25, 4)),
        sample_rate=maybe(st.sampled_from([8000, 24000, 48000])),
        **OWN,
    )


@cache
def speech_responses() -> SearchStrategy[SpeechResponse]:
    """A clip that came."""
    return st.builds(
        SpeechResponse,
        provider=maybe(WORDS),
        audio=maybe(audios()),
        format=FORMAT,
        sample_rate=maybe(COUNTS),
        usage=usage(),
        **COMMON,
    )


@cache
def speech_events() -> SearchStrategy[SpeechEvent]:
    """What a stream of speech tells, one by one."""
    return st.one_of(
        st.builds(SpeechStarted, **BEGUN, format=FORMAT, mime_type=MIME, sample_rate=maybe(COUNTS)),
        st.builds(AudioDelta, st.binary(min_size=1, max_size=10)),
        st.builds(SpeechCompleted, id=maybe(IDS), request_id=maybe(IDS), usage=usage(), metadata=notes()),
        st.builds(
            ErrorEvent, st.builds(SpeechAdapterError, st.sampled_from(sorted(SpeechAdapterError.reasons)))
        ),
    )


@cache
def transcription_requests() -> SearchStrategy[TranscriptionRequest]:
    """A clip to write down."""
    return st.builds(TranscriptionRequest, audio=audios(), language=maybe(WORDS), prompt=maybe(TEXTS), **OWN)


@cache
def transcription_responses() -> SearchStrategy[TranscriptionResponse]:
    """What was said."""
    return st.builds(
        TranscriptionResponse,
        provider=maybe(WORDS),
        text=TEXTS,
        language=maybe(WORDS),
        duration_seconds=maybe(SECONDS),
        usage=usage(),
        **COMMON,
    )


@cache
def transcription_events() -> SearchStrategy[TranscriptionEvent]:
    """What a stream of a transcription tells, one by one."""
    reasons = st.sampled_from(sorted(TranscriptionAdapterError.reasons))
    return st.one_of(
        st.builds(TranscriptionStarted, **BEGUN, session_id=maybe(IDS)),
        st.builds(PartialTranscript, TEXTS),
        st.builds(CommittedTranscript, TEXTS, maybe(WORDS)),
        st.builds(
            TranscriptionCompleted,
            text=TEXTS,
            language=maybe(WORDS),
            duration_seconds=maybe(SECONDS),
            request_id=maybe(IDS),
            usage=usage(),
            metadata=notes(),
        ),
        st.builds(ErrorEvent, st.builds(TranscriptionAdapterError, reasons)),
    )


@cache
def questions() -> SearchStrategy[ClassificationQuestion]:
    """A question of each type."""
    described = st.dictionaries(WORDS, maybe(TEXTS), min_size=1, max_size=3)
    return st.one_of(
        st.builds(ClassificationQuestion.yes_no, SAID, true=maybe(SAID), false=maybe(SAID)),
        st.builds(ClassificationQuestion.choice, SAID, described),
        st.builds(ClassificationQuestion.score, SAID, st.lists(SAID, min_size=2, max_size=4)),
    )


@cache
def classification_requests() -> SearchStrategy[ClassificationRequest]:
    """Questions about a text or about data."""
    asked = st.dictionaries(WORDS, questions(), min_size=1, max_size=3)
    states = SAID | st.dictionaries(WORDS, json_values(), min_size=1, max_size=2)
    return st.builds(ClassificationRequest, state=states, questions=asked, **OWN)


@cache
def classification_responses() -> SearchStrategy[ClassificationResponse]:
    """Answers, by the ids of their questions."""
    more = {"confidence": maybe(PROBABILITIES), "metadata": notes()}
    answer = st.one_of(
        st.builds(ClassificationAnswer, type=st.just("yes_no"), yes_probability=PROBABILITIES, **more),
        st.builds(
            ClassificationAnswer,
            type=st.just("choice"),
            choice=WORDS,
            probabilities=st.dictionaries(WORDS, PROBABILITIES, max_size=3),
            **more,
        ),
        st.builds(
            ClassificationAnswer,
            type=st.just("score"),
            score=st.floats(0, 3),
            probabilities=st.lists(PROBABILITIES, max_size=3),
            legend=st.lists(SAID, max_size=3),
            **more,
        ),
    )
    answers = st.dictionaries(WORDS, answer, max_size=3)
    return st.builds(ClassificationResponse, answers=answers, usage=usage(), **COMMON)
