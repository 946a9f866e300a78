"""Whether the response of a call that is not chat matches its request.

Rule of this file: pure, and applied to every adapter's response, bundled or not. An unjudged item must not
count as clean, nor a vector as that of another text; so a response with a missing, surplus or unassignable
piece is invalid.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from allm_actors.data import (
    ClassificationAnswer,
    ClassificationQuestion,
    ClassificationRequest,
    ClassificationResponse,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    ImagePart,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
)
from allm_actors.data.predicates import all_of, as_number

__all__ = ["items_of", "mismatch", "misplaced", "unmatched"]

_ROUNDING = 1e-6  # how far a probability may be outside of 0 to 1


def mismatch(request: Any, response: Any) -> str | None:
    """What is wrong with the response to this request; None when nothing is."""
    match request, response:
        case EmbeddingRequest(), EmbeddingResponse():
            return _of_vectors(len(request.input), response.embeddings)
        case ModerationRequest(), ModerationResponse():
            return _of_verdicts(items_of(request), response.results)
        case ClassificationRequest(), ClassificationResponse():
            return _of_answers(request.questions, response.answers)
        case _:
            return None


def items_of(request: ModerationRequest) -> int:
    """How many items are judged: each text, or, if there is an image among them, the whole input as one."""
    return 1 if any(isinstance(item, ImagePart) for item in request.input) else len(request.input)


def unmatched(questions: Mapping[str, Any], answers: Mapping[str, Any]) -> str | None:
    """Says which questions have no answer, and which answers no question; None if there are none."""
    missing = [id for id in questions if id not in answers]
    unasked = [id for id in answers if id not in questions]
    return (
        f"questions without an answer: {missing}; answers to questions that were not asked: {unasked}"
        if missing or unasked
        else None
    )


def misplaced(question: ClassificationQuestion, answer: Any) -> str | None:
    """Says what the answer to a question must be, if it is not that; else None."""
    belongs = _belonging(question, answer)
    shown = reprlib.repr(answer.value() if isinstance(answer, ClassificationAnswer) else answer)
    return None if belongs is None else f"must be {belongs}, got: {shown}"


def _of_vectors(count: int, embeddings: Any) -> str | None:
    if not all_of(embeddings, Embedding):
        return "its embeddings are not a list of Embedding"
    places = [each.index for each in embeddings]
    if len(places) != count or not _are_places(places):
        where = f" at {reprlib.repr(places)}" if len(places) == count else ""
        return f"it has {len(places)} vectors{where} for {count} inputs; each input has one, at its index, from 0"
    empty = next((each.index for each in embeddings if len(each.vector) == 0), None)
    return None if empty is None else f"its vector at {empty} is empty"


def _of_verdicts(count: int, results: Any) -> str | None:
    if not all_of(results, ModerationResult):
        return "its results are not a list of ModerationResult"
    if len(results) != count:
        return f"it has {len(results)} verdicts for {count} items"
    places = [each.index for each in results]
    if any(places) and not _are_places(places):  # all zero: the adapter has left the indices to their order
        return f"its verdicts are at {reprlib.repr(places)}; each item has one, at its index, from 0"
    if not all(_says(each.flagged) for each in results):
        return "a verdict does not say whether it is flagged, with True or False"
    return None


def _of_answers(questions: Mapping[str, ClassificationQuestion], answers: Any) -> str | None:
    if not isinstance(answers, Mapping):
        return "its answers are not a dict, by the ids of the questions"
    problems = ((id, misplaced(questions[id], answer)) for id, answer in answers.items() if id in questions)
    wrong = [f"its answer to {id!r} {problem}" for id, problem in problems if problem]
    return unmatched(questions, answers) or next(iter(wrong), None)


def _belonging(question: ClassificationQuestion, answer: Any) -> str | None:
    if not isinstance(answer, ClassificationAnswer) or answer.type != question.type:
        return f"a ClassificationAnswer of type {question.type!r}, or its value"
    value = answer.value()
    if question.type == "choice":
        return (
            None
            if _is_among(value, question.criteria)
            else f"one of {', '.join(map(str, question.criteria))}"
        )
    most = len(question.criteria) - 1 if question.type == "score" else 1
    number = as_number(value)
    if number is not None and -_ROUNDING <= number <= most + _ROUNDING:
        return None
    return f"a number from 0 to {most}"


def _are_places(places: list[Any]) -> bool:
    """Whether these are 0, 1, 2 and so on, in whatever order."""
    return all(type(place) is int for place in places) and sorted(places) == list(range(len(places)))


def _says(flagged: Any) -> bool:
    """Whether it is True or False, including NumPy's."""
    try:
        return bool(flagged == bool(flagged))
    except Exception:  # noqa: BLE001 - an `==`, or a truth, of somebody's own
        return False


def _is_among(value: Any, options: Any) -> bool:
    try:
        return value in options
    except TypeError:  # it has no hash
        return False
