"""Typed questions about a text, and answers with probabilities.

Rule of this file: a probability is what the provider said. The threshold for "yes" is the caller's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from allm_actors.data.responses import Usage

__all__ = [
    "ClassificationAnswer",
    "ClassificationQuestion",
    "ClassificationRequest",
    "ClassificationResponse",
    "QuestionType",
]

QuestionType = Literal["choice", "score", "yes_no"]


class ClassificationQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question with its `criteria`, made by `choice`, `score` or `yes_no`. `instructions`: text, or other data."""

    type: QuestionType
    instructions: Any
    criteria: Any = None

    @classmethod
    def choice(cls, instructions: Any, options: Iterable[str] | Mapping[str, Any]) -> ClassificationQuestion:
        """One of these options, or of a dict's keys, described by its values. Raises TypeError for no collection."""
        if isinstance(options, Mapping):
            described: dict[str, Any] = dict(options)
        else:
            described = dict.fromkeys(_several("choice", "options", options))
        return cls(type="choice", instructions=instructions, criteria=described)

    @classmethod
    def score(cls, instructions: Any, levels: Iterable[Any]) -> ClassificationQuestion:
        """A place on a scale of levels, from low to high. Raises TypeError for what is not a collection."""
        return cls(type="score", instructions=instructions, criteria=_several("score", "levels", levels))

    @classmethod
    def yes_no(cls, instructions: Any, *, true: Any = None, false: Any = None) -> ClassificationQuestion:
        """Yes or no; `true` and `false` explain what either means."""
        given = {name: said for name, said in (("true", true), ("false", false)) if said is not None}
        return cls(type="yes_no", instructions=instructions, criteria=given or None)


def _several(builder: str, what: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        got = type(given).__name__
        raise TypeError(
            f"ClassificationQuestion.{builder} takes {what} as a list, such as ['a', 'b'], got {got}"
        )
    return list(given)


class ClassificationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question of the same type.

    `choice`: the option, its `confidence`, and `probabilities` by option. `score`: a number from 0 to the last level,
    its `confidence`, and `probabilities` and `legend` by level. `yes_no`: `yes_probability`.
    """

    type: QuestionType
    choice: str | None = None
    score: float | None = None
    yes_probability: float | None = None
    probabilities: Any = None
    legend: Any = None
    confidence: float | None = None
    metadata: dict[str, Any] = {}

    def value(self) -> Any:
        """The answer itself: an option, a place on the scale, or the probability of yes."""
        match self.type:
            case "choice":
                return self.choice
            case "score":
                return self.score
            case _:
                return self.yes_probability


class ClassificationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Questions by id about a `state`: a text, or structured data."""

    state: Any
    questions: dict[str, ClassificationQuestion]
    model: str | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class ClassificationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer for each question, by its id."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    answers: dict[str, ClassificationAnswer] = {}
    usage: Usage = msgspec.field(default_factory=Usage)
    raw: Any = None
    metadata: dict[str, Any] = {}
