"""The scripted judges: of harm, and of typed questions.

Rule of this file: by themselves they say the plainest thing there is.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from allm_actors.data import (
    AllmError,
    ClassificationAdapterError,
    ClassificationAnswer,
    ClassificationQuestion,
    ClassificationRequest,
    ClassificationResponse,
    ModerationAdapterError,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
)
from allm_actors.data.predicates import is_number, one_of
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake, numbered

__all__ = ["FakeClassification", "FakeModeration"]


class FakeModeration(ScriptedFake[ModerationResponse]):
    """`moderation_script`; `ok` takes a list of `ModerationResult`. By itself: everything is clean."""

    script = "moderation_script"
    what = "moderation"
    takes = "a list of ModerationResult"
    error = ModerationAdapterError
    response = ModerationResponse

    def moderate(self, request: ModerationRequest, call: Call) -> ModerationResponse:
        """A verdict for each text, or one for texts and pictures together."""
        self.capture(request, call)
        return self.answer(request, call)

    def build(self, request: ModerationRequest, value: Any, fields: Mapping[str, Any]) -> ModerationResponse:
        """The scripted verdicts, or clean ones."""
        if value is None:
            count = len(request.input) if all(isinstance(item, str) for item in request.input) else 1
            value = [ModerationResult(flagged=False)] * count
        results = numbered(self.items(value, ModerationResult))
        return ModerationResponse(**{**fields, "results": results})


class FakeClassification(ScriptedFake[ClassificationResponse]):
    """`classification_script`; `ok` takes answers by id: a `ClassificationAnswer`, or its value. By itself: the first
    option, the lowest level, and a probability of 0.5.
    """

    script = "classification_script"
    what = "classification"
    takes = "answers by the ids of the questions"
    error = ClassificationAdapterError
    response = ClassificationResponse

    def classify(self, request: ClassificationRequest, call: Call) -> ClassificationResponse:
        """An answer for each question. Raises `malformed_response` where the script has others, or none."""
        self.capture(request, call)
        response = self.answer(request, call)
        self._compare(request, response.answers)
        for id, answer in response.answers.items():
            belongs = _belongs(request.questions[id], answer)
            if belongs is not None:
                raise self._malformed(f"the answer to {id!r} must be {belongs}, got: {_shown(answer)}")
        return response

    def build(
        self, request: ClassificationRequest, value: Any, fields: Mapping[str, Any]
    ) -> ClassificationResponse:
        """The scripted answers, or the plainest ones."""
        said = dict.fromkeys(request.questions) if value is None else value
        if not isinstance(said, Mapping):
            raise self.misfit(value)
        self._compare(request, said)
        answers = {id: _answer(question, said[id]) for id, question in request.questions.items()}
        return ClassificationResponse(**{**fields, "answers": answers})

    def _compare(self, request: ClassificationRequest, answers: Mapping[str, Any]) -> None:
        missing = [id for id in request.questions if id not in answers]
        unasked = [id for id in answers if id not in request.questions]
        if missing or unasked:
            raise self._malformed(
                f"script and questions differ: it has no answer to {missing}, and nobody asked {unasked}"
            )

    def _malformed(self, message: str) -> AllmError:
        return self.error("malformed_response", provider=self.name, message=f"{self.script}: {message}")


def _answer(question: ClassificationQuestion, value: Any) -> ClassificationAnswer:
    if isinstance(value, ClassificationAnswer):
        return value
    match question.type:
        case "choice":
            chosen = next(iter(question.criteria)) if value is None else value
            odds = {option: float(option == chosen) for option in question.criteria}
            return ClassificationAnswer(type="choice", choice=chosen, probabilities=odds, confidence=1.0)
        case "score":
            legend, score = list(question.criteria), 0.0 if value is None else _number(value)
            return ClassificationAnswer(type="score", score=score, legend=legend, confidence=1.0)
        case _:
            probability = 0.5 if value is None else _number(value)
            return ClassificationAnswer(type="yes_no", yes_probability=probability)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value


def _belongs(question: ClassificationQuestion, answer: Any) -> str | None:
    """What the answer to a question must be, when this is none."""
    if not isinstance(answer, ClassificationAnswer) or answer.type != question.type:
        return f"a ClassificationAnswer of type {question.type!r}, or its value"
    value = answer.value()
    if question.type == "choice":
        return None if one_of(value, question.criteria) else f"one of {', '.join(question.criteria)}"
    most = len(question.criteria) - 1 if question.type == "score" else 1
    return None if is_number(value) and 0 <= value <= most else f"a number from 0 to {most}"


def _shown(answer: Any) -> str:
    return reprlib.repr(answer.value() if isinstance(answer, ClassificationAnswer) else answer)
