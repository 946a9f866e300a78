"""The rules for requests other than chat; the docstring of `validate` lists the codes.

Rule of this file: as in `validate`: total, every failure in order, and nothing that only one provider refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from allm_actors.data.media.audio import FORMATS, Audio
from allm_actors.data.media.documents import Document
from allm_actors.data.media.images import Image, ImageRequest
from allm_actors.data.media.sources import is_source
from allm_actors.data.messages import DocumentPart, ImagePart
from allm_actors.data.predicates import is_number, is_positive, one_of
from allm_actors.data.services.classification import (
    ClassificationQuestion,
    ClassificationRequest,
    QuestionType,
)
from allm_actors.data.services.embeddings import EmbeddingRequest, TaskType
from allm_actors.data.services.moderation import ModerationRequest
from allm_actors.data.services.speech import SpeechRequest
from allm_actors.data.services.transcription import TranscriptionRequest

__all__ = ["RULES", "has_source", "is_whole"]

Failure = tuple[Any, str]
_TASKS = frozenset(get_args(TaskType))
_TYPES = frozenset(get_args(QuestionType))


def is_whole(part: Any) -> bool:
    """Whether a part of a message has a valid source for its image or document; a text part needs none."""
    if isinstance(part, ImagePart):
        return has_source(part.image, Image)
    return not isinstance(part, DocumentPart) or has_source(part.document, Document)


def has_source(value: Any, cls: type[Any]) -> bool:
    """Whether it is an image, a document or a clip with a valid source."""
    return isinstance(value, cls) and is_source(value.source)


def _image(request: Any) -> Iterator[Failure]:
    if not one_of(request.operation, ("generate", "edit", "variation")):
        yield "operation", "unknown"
    if not is_positive(request.n):
        yield "n", "must_be_positive"
    if not one_of(request.response_format, ("binary", "base64", "url")):
        yield "response_format", "unknown"
    if not _is_size(request.size):
        yield "size", "invalid_shape"
    if isinstance(request.input_images, list):
        for index, image in enumerate(request.input_images):
            if not has_source(image, Image):
                yield ["input_images", index], "invalid_image"
    else:
        yield "input_images", "not_a_list"
    if request.mask is not None and not has_source(request.mask, Image):
        yield "mask", "invalid_image"
    yield from _for_operation(request)


def _for_operation(request: Any) -> Iterator[Failure]:
    operation, images = request.operation, request.input_images
    count = len(images) if isinstance(images, list) else None
    if operation in ("generate", "edit") and not _is_text(request.prompt):
        yield "prompt", "required_for_operation"
    if operation == "variation" and request.prompt not in (None, ""):
        yield "prompt", "not_allowed_for_operation"
    if operation == "generate" and count:
        yield "input_images", "must_be_empty"
    if (operation == "edit" and count not in (1, 2, None)) or (
        operation == "variation" and count not in (1, None)
    ):
        yield "input_images", "invalid_count"


def _embedding(request: Any) -> Iterator[Failure]:
    yield from _inputs(request.input, str, "not_a_string")
    if request.dimensions is not None and not is_positive(request.dimensions):
        yield "dimensions", "must_be_positive"
    if request.task_type is not None and not one_of(request.task_type, _TASKS):
        yield "task_type", "unknown"
    if not isinstance(request.truncate, bool):
        yield "truncate", "not_a_boolean"


def _moderation(request: Any) -> Iterator[Failure]:
    yield from _inputs(request.input, str | ImagePart, "invalid_part_type")


def _speech(request: Any) -> Iterator[Failure]:
    if not isinstance(request.input, str):
        yield "input", "not_a_string"
    elif not request.input:
        yield "input", "empty"
    if request.format is not None and not one_of(request.format, FORMATS):
        yield "format", "unknown"
    if request.speed is not None and not (is_number(request.speed) and request.speed > 0):
        yield "speed", "must_be_positive"
    if request.sample_rate is not None and not is_positive(request.sample_rate):
        yield "sample_rate", "must_be_positive"
    yield from _texts(request, "voice", "instructions")


def _transcription(request: Any) -> Iterator[Failure]:
    if not has_source(request.audio, Audio):
        yield "audio", "invalid_audio"
    yield from _texts(request, "language", "prompt")


def _classification(request: Any) -> Iterator[Failure]:
    questions = request.questions
    if not isinstance(questions, dict):
        yield "questions", "not_a_map"
    elif not questions:
        yield "questions", "empty"
    else:
        for id, question in questions.items():
            if isinstance(question, ClassificationQuestion):
                yield from ((["questions", id, field], code) for field, code in _question(question))
            else:
                yield ["questions", id], "invalid_type"
    if request.state in (None, "", [], {}):
        yield "state", "empty"


def _question(question: Any) -> Iterator[Failure]:
    criteria = question.criteria
    if question.instructions in (None, "", [], {}):
        yield "instructions", "empty"
    match question.type:
        case "choice" if not isinstance(criteria, dict):
            yield "criteria", "not_a_map"
        case "choice" if not criteria:
            yield "criteria", "empty"
        case "score" if not isinstance(criteria, list):
            yield "criteria", "not_a_list"
        case "score" if len(criteria) < 2:
            yield "criteria", "too_few_levels"
        case "yes_no" if criteria is not None and not (
            isinstance(criteria, dict) and criteria.keys() <= {"true", "false"}
        ):
            yield "criteria", "invalid_shape"
        case kind if not one_of(kind, _TYPES):
            yield "type", "unknown"
        case _:
            pass


def _inputs(values: Any, kind: Any, code: str) -> Iterator[Failure]:
    if not isinstance(values, list):
        yield "input", "not_a_list"
    elif not values:
        yield "input", "empty"
    else:
        for index, value in enumerate(values):
            if not (isinstance(value, kind) and is_whole(value)):
                yield ["input", index], code
            elif value == "":
                yield ["input", index], "empty"


def _texts(request: Any, *fields: str) -> Iterator[Failure]:
    for field in fields:
        if not isinstance(getattr(request, field), str | None):
            yield field, "not_a_string"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_size(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and all(map(is_positive, value))
    return value is None or isinstance(value, str)


RULES: dict[type[Any], tuple[str, Callable[[Any], Iterable[Failure]]]] = {
    ImageRequest: ("invalid_image_request", _image),
    EmbeddingRequest: ("invalid_embedding_request", _embedding),
    ModerationRequest: ("invalid_moderation_request", _moderation),
    SpeechRequest: ("invalid_speech_request", _speech),
    TranscriptionRequest: ("invalid_transcription_request", _transcription),
    ClassificationRequest: ("invalid_classification_request", _classification),
}
