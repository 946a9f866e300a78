"""The scripted moderation and classification.

Rule of this file: default answers are the simplest there are.
"""

from __future__ import annotations

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
from allm_actors.engine.adapter import Call
from allm_actors.engine.mismatch import items_of, misplaced, unmatched

from .scripted import ScriptedFake, numbered

__all__ = ["FakeClassification", "FakeModeration"]


class FakeModeration(ScriptedFake[ModerationResponse]):
    """`moderation_script`; `ok` takes a list of `ModerationResult`. Default answer: nothing is flagged."""

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
            value = [ModerationResult(flagged=False)] * items_of(request)
        results = numbered(self.items(value, ModerationResult))
        return ModerationResponse(**{**fields, "results": results})


class FakeClassification(ScriptedFake[ClassificationResponse]):
    """`classification_script`; `ok` takes answers by id: a `ClassificationAnswer`, or its value. Default
    answer: the first option, the lowest level, and a probability of 0.5.
    """

    script = "classification_script"
    what = "classification"
    takes = "answers by the ids of the questions"
    error = ClassificationAdapterError
    response = ClassificationResponse

    def classify(self, request: ClassificationRequest, call: Call) -> ClassificationResponse:
        """An answer for each question. Raises `malformed_response` if the script has answers to other
        questions, or lacks some.
        """
        self.capture(request, call)
        response = self.answer(request, call)
        self._compare(request, response.answers)
        for id, answer in response.answers.items():
            problem = misplaced(request.questions[id], answer)
            if problem is not None:
                raise self._malformed(f"the answer to {id!r} {problem}")
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
        problem = unmatched(request.questions, answers)
        if problem is not None:
            raise self._malformed(f"script and questions differ: {problem}")

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
