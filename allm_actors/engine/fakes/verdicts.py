"""The scripted judges: of harm, and of typed questions.

Rule of this file: by themselves they say the plainest thing there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allm_actors.data import (
    ClassificationAdapterError,
    ClassificationAnswer,
    ClassificationRequest,
    ClassificationResponse,
    ModerationAdapterError,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
)
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake

__all__ = ["FakeClassification", "FakeModeration"]


class FakeModeration(ScriptedFake[ModerationResponse]):
    """`moderation_script`; `ok` takes a list of `ModerationResult`. By itself: everything is clean."""

    script = "moderation_script"
    what = "moderation"
    error = ModerationAdapterError

    def moderate(self, request: ModerationRequest, call: Call) -> ModerationResponse:
        """A verdict for each text, or one for texts and pictures together."""
        self.capture(request, call)
        return self.answer(request, call)

    def build(self, request: ModerationRequest, value: Any, fields: Mapping[str, Any]) -> ModerationResponse:
        """The scripted verdicts, or clean ones."""
        if value is None:
            count = len(request.input) if all(isinstance(item, str) for item in request.input) else 1
            value = [ModerationResult(flagged=False, index=index) for index in range(count)]
        return ModerationResponse(**{**fields, "results": list(value)})


class FakeClassification(ScriptedFake[ClassificationResponse]):
    """`classification_script`; `ok` takes answers by id: a `ClassificationAnswer`, or its value. By itself: the first
    option, the lowest level, and a probability of 0.5.
    """

    script = "classification_script"
    what = "classification"
    error = ClassificationAdapterError

    def classify(self, request: ClassificationRequest, call: Call) -> ClassificationResponse:
        """An answer for each question."""
        self.capture(request, call)
        response = self.answer(request, call)
        if response.answers.keys() != request.questions.keys():
            raise self.error("malformed_response", provider=self.name, message="script and questions differ")
        return response

    def build(
        self, request: ClassificationRequest, value: Any, fields: Mapping[str, Any]
    ) -> ClassificationResponse:
        """The scripted answers, or the plainest ones."""
        said: Mapping[str, Any] = dict.fromkeys(request.questions) if value is None else value
        answers = {
            id: answer
            if isinstance(answer, ClassificationAnswer)
            else _answer(request.questions.get(id), answer)
            for id, answer in said.items()
        }
        return ClassificationResponse(**{**fields, "answers": answers})


def _answer(question: Any, value: Any) -> ClassificationAnswer:
    if question is None:
        raise ValueError("classification_script answers a question that was not asked")
    match question.type:
        case "choice":
            chosen = next(iter(question.criteria)) if value is None else value
            odds = {option: float(option == chosen) for option in question.criteria}
            return ClassificationAnswer(type="choice", choice=chosen, probabilities=odds, confidence=1.0)
        case "score":
            legend = list(question.criteria)
            return ClassificationAnswer(type="score", score=float(value or 0), legend=legend, confidence=1.0)
        case _:
            return ClassificationAnswer(type="yes_no", yes_probability=0.5 if value is None else float(value))
