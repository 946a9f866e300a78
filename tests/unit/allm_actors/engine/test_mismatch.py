"""An answer is one only if it has a piece for each thing that was asked, where it belongs."""

import pytest

from allm_actors.data import (
    ClassificationAnswer,
    ClassificationQuestion,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
)
from allm_actors.engine.mismatch import mismatch, misplaced

ASKED = ModerationRequest(input=["a", "b", "c"])


def verdicts(*indices, flagged=False):
    return ModerationResponse(results=[ModerationResult(flagged=flagged, index=at) for at in indices])


@pytest.mark.parametrize("indices", [(0, 1, 2), (2, 0, 1), (0, 0, 0)], ids=str)
def test_verdicts_are_at_their_places_or_in_order(indices):
    assert mismatch(ASKED, verdicts(*indices)) is None


@pytest.mark.parametrize("indices", [(0, 1, 1), (0, 0, 7), (1, 2, 3), (0, "1", 2), (0, True, 2)], ids=str)
def test_verdicts_at_other_places_are_none(indices):
    assert "each item has one, at its index, from 0" in mismatch(ASKED, verdicts(*indices))


def test_each_verdict_has_to_say_something():
    silent = ModerationResult(flagged=None, index=1)
    results = [ModerationResult(flagged=True), silent, ModerationResult(flagged=False, index=2)]
    assert "True or False" in mismatch(ASKED, ModerationResponse(results=results))


@pytest.mark.parametrize("hole", [0, 1])
def test_a_vector_without_a_number_is_named_by_its_place(hole):
    vectors = [Embedding(vector=[] if at == hole else [1.0], index=at) for at in range(2)]
    said = mismatch(EmbeddingRequest(input=["a", "b"]), EmbeddingResponse(embeddings=vectors))
    assert said == f"its vector at {hole} is empty"


def test_numbers_are_between_their_ends_but_for_what_rounding_adds():
    score = ClassificationQuestion.score("?", ["low", "middle", "high"])
    yes = ClassificationQuestion.yes_no("?")

    def scored(value):
        return misplaced(score, ClassificationAnswer(type="score", score=value))

    def certain(value):
        return misplaced(yes, ClassificationAnswer(type="yes_no", yes_probability=value))

    assert [scored(value) for value in (0, 2, 2 + 1e-7, -1e-7)] == [None] * 4
    assert [certain(value) for value in (0, 1, 1 + 1e-7, -1e-7)] == [None] * 4
    assert all("a number from 0 to 2" in scored(value) for value in (2 + 1e-5, -1e-5, 3, "2", None))
    assert all("a number from 0 to 1" in certain(value) for value in (1 + 1e-5, -1e-5, 2, True))
