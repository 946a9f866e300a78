"""Laws of what is said about texts: embeddings, verdicts, answers to questions.

Rule of this file: what holds for all of them is in `calls.py`; here is what an answer of each has to be.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from allm_actors import facade
from allm_actors.data import (
    AdapterError,
    ClassificationQuestion,
    Image,
    ImagePart,
    ModerationResult,
    ValidationError,
)
from allm_actors.engine.engine import Engine

from .calls import LETTERS, CallScene, TextSuite
from .made import VECTORS, answers_of, pictures_of, verdicts_of
from .scenes import require, skip

__all__ = ["ClassificationSuite", "EmbeddingSuite", "ModerationSuite"]

QUESTIONS = {
    "team": ClassificationQuestion.choice("Which team?", ["billing", "support"]),
    "mood": ClassificationQuestion.score("How upset?", ["calm", "angry"]),
    "spam": ClassificationQuestion.yes_no("Is it spam?"),
}


class EmbeddingSuite(TextSuite):
    """Vectors."""

    name = "embed"
    texts = words = ("a grey cat", f"a dog: {LETTERS}", "income tax")
    whole: ClassVar[dict[str, Any]] = {"truncate": False}

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Three texts."""
        return facade.embed(engine, list(self.texts), **options)

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """This text, and two others."""
        return facade.embed(engine, [text, *self.texts[1:]], **options)

    def test_there_is_a_vector_for_each_text_with_its_index(self) -> None:
        """All of one length, which is not zero."""
        response = self.answered()
        places = sorted(each.index for each in response.embeddings)
        assert places == list(range(len(self.texts))), (
            f"{len(self.texts)} texts became embeddings with index {places}: give each text an Embedding whose "
            "index is the position of the text"
        )
        lengths = {len(vector) for vector in response.vectors()}
        assert lengths == {response.dimensions()} != {0}, (
            f"the vectors of one model differ in length: {lengths}"
        )
        values = [value for vector in response.vectors() for value in vector]
        assert all(isinstance(value, float) and math.isfinite(value) for value in values), (
            f"not all of these are floats: {values[:9]}"
        )

    def test_each_text_has_the_vector_that_was_made_of_it(self) -> None:
        """Not that of another, nor one for all: what is near to what would be wrong, and nobody would see it."""
        scene = CallScene()
        with self.ready(scene) as stage:
            got = self.ask(stage.engine).vectors()
        wanted = [list(vector) for vector in VECTORS]
        held = len(got) == len(wanted) and all(map(_is_near, got, wanted))
        message = (
            f"the provider made {wanted} of the texts, but {[each[:9] for each in got]} came back: return "
            "each vector as it is, and as index of its Embedding the position of its text"
        )
        require(held, scene, "vectors", message)

    def test_the_dimensions_are_sent_or_refused(self) -> None:
        """Vectors of another length fit into no index; an adapter may shorten them itself."""
        if not self.shortens():
            self.sends("dimensions", 1021, "1021")

    def test_the_task_type_is_sent_or_refused(self) -> None:
        """A provider makes other vectors of a question than of a text that may answer it."""
        self.skip_if_without("task_type")
        self.sends("task_type", "search_query", "query")

    def test_that_nothing_may_be_truncated_is_sent_or_refused(self) -> None:
        """The vector of half a text looks like that of a whole one."""
        self.skip_if_without("truncate")
        cut, whole = (self.sent_for("truncate", value) for value in (True, False))
        assert cut != whole, (
            f"truncate=False was requested, but the same was sent as for truncate=True: {self.send_or_refuse}; "
            "or set without = ('truncate',) in your suite, if your provider never cuts a text"
        )

    def shortens(self) -> bool:
        """Whether vectors come as short as they are asked for, however long the provider makes them."""
        with self.ready(CallScene()) as stage:
            try:
                response = self.ask(stage.engine, dimensions=1)
            except (AdapterError, ValidationError, TypeError, ValueError):
                return False
        return {len(vector) for vector in response.vectors()} == {1}

    def test_context_length_exceeded(self) -> None:
        """A text that is too long."""
        self.fails("context_length_exceeded")


class ModerationSuite(TextSuite):
    """Verdicts."""

    name = "moderate"
    words = ("Hello!", f"Goodbye! {LETTERS}")

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Two texts."""
        return facade.moderate(engine, list(self.words), **options)

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """This text, and another."""
        return facade.moderate(engine, [text, self.words[1]], **options)

    def test_there_is_a_verdict_for_each_text_with_its_index(self) -> None:
        """And each is a verdict, not a guess."""
        results = self.answered().results
        assert all(isinstance(result, ModerationResult) for result in results), (
            f"not all of these are ModerationResults: {results}"
        )
        places = [result.index for result in results]
        assert places == [0, 1], (
            f"two texts became verdicts with index {places}: give each text a ModerationResult with the "
            "position of the text, in order"
        )
        flags = [result.flagged for result in results]
        assert all(type(flag) is bool for flag in flags), f"flagged must be True or False, but it is {flags}"

    def test_each_text_has_its_own_verdict(self) -> None:
        """What the provider flags is flagged, and nothing else: harm that is taken for clean is let through."""
        for flags in ((True, False), (False, True)):
            scene = CallScene(verdicts=verdicts_of(*flags))
            with self.ready(scene) as stage:
                results = self.ask(stage.engine).results
            got = tuple(result.flagged for result in results)
            message = (
                f"for two texts the provider answered flagged={flags}, but flagged={got} came back: give each "
                "text its own verdict"
            )
            require(got == flags, scene, "verdicts", message)

    def test_each_text_has_its_own_categories(self) -> None:
        """Of what it was flagged for, and how surely."""
        wanted = [(each.categories, each.category_scores) for each in verdicts_of(True, False)]
        got = [(each.categories, each.category_scores) for each in self.answered().results]
        assert got not in ([wanted[0]] * 2, [wanted[1]] * 2), (
            f"for two texts the provider answered {wanted}, but {got} came back: give each text its own categories and "
            "scores"
        )
        if got != wanted:
            skip(
                f"for two texts the scene's verdicts are {wanted}, but {got} came back, in words of your provider's, "
                "perhaps: let your stage play `categories` and `category_scores`, if an answer of your provider has any"
            )

    def test_a_picture_is_judged_or_refused(self) -> None:
        """With the texts beside it; what was not looked at is not clean."""
        (picture,) = pictures_of(1)
        content: list[str | ImagePart] = [
            self.words[0],
            ImagePart(image=Image.from_bytes(picture, "image/png")),
        ]
        with self.ready(CallScene(verdicts=verdicts_of(False))) as stage:
            try:
                self.tries(stage, "input", lambda: facade.moderate(stage.engine, content))
            except (TypeError, ValueError, AttributeError) as error:
                raise AssertionError(
                    f"an ImagePart was to be judged, and the adapter failed with {error!r}: {self.send_or_refuse}"
                ) from error
            held, sent = stage.holds(picture), stage.all_sent()
        assert held, (
            "an ImagePart was to be judged, but its bytes were not sent, neither raw nor in base64: "
            f"{self.send_or_refuse}"
        )
        assert self.words[0] in sent, "a text beside a picture was to be judged, but it was not sent"

    def test_scores_are_probabilities_of_categories(self) -> None:
        """Floats from 0 to 1, of categories that were judged; and a verdict is no text: "False" would count as true."""
        for result in self.answered().results:
            judged = list(result.categories.values())
            assert all(type(verdict) is bool for verdict in judged), (
                f"a category must be True or False: {result.categories}"
            )
            scores = result.category_scores
            unjudged = sorted(scores.keys() - result.categories.keys())
            assert not unjudged, f"category_scores has {unjudged}, but categories does not"
            assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores.values()), (
                f"a score must be a float from 0 to 1: {scores}"
            )


class ClassificationSuite(TextSuite):
    """Answers to typed questions."""

    name = "classify"
    words = (
        *(f"I was charged twice! {LETTERS}", "Which team?", "billing", "support"),
        *("How upset?", "calm", "angry", "Is it spam?"),
    )

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A question of each type."""
        return self.ask_about(engine, self.words[0], **options)

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """The same questions about this text."""
        return facade.classify(engine, text, QUESTIONS, **options)

    def test_each_question_has_an_answer_of_its_type(self) -> None:
        """And of no other."""
        types = {id: answer.type for id, answer in self.answered().answers.items()}
        wanted = {id: asked.type for id, asked in QUESTIONS.items()}
        assert types == wanted, f"the questions are of types {wanted}, but the answers are {types}"

    def test_answers_are_within_what_was_asked(self) -> None:
        """An option that there is, a place on the scale, a probability."""
        answers = self.answered().answers
        lost = sorted(QUESTIONS.keys() - answers.keys())
        assert not lost, f"there are no answers to {lost}"
        team, mood, spam = (answers[name].value() for name in ("team", "mood", "spam"))
        options, top = QUESTIONS["team"].criteria, len(QUESTIONS["mood"].criteria) - 1
        assert team in options, f"a choice among {options} is {team!r}"
        assert 0 <= mood <= top, f"a score from 0 to {top} is {mood!r}"
        assert 0 <= spam <= 1, f"a probability is {spam!r}"

    def test_each_question_has_the_answer_that_was_given(self) -> None:
        """That of the provider, whatever it is."""
        for given in (("support", 0.75, 0.125), ("billing", 0.25, 0.875)):
            wanted = answers_of(*given)
            scene = CallScene(answers=wanted)
            with self.ready(scene) as stage:
                answers = self.ask(stage.engine).answers
            got = [answers[id].value() if id in answers else None for id in wanted]
            held = got[0] == given[0] and all(
                isinstance(one, int | float) and math.isclose(one, other, abs_tol=0.001)
                for one, other in zip(got[1:], given[1:], strict=True)
            )
            message = (
                f"to the questions {[*wanted]} the provider answered {list(given)}, but {got} came back: give each "
                "question its own answer"
            )
            require(held, scene, "answers", message)


def _is_near(got: list[float], wanted: list[float]) -> bool:
    return len(got) == len(wanted) and all(
        math.isclose(one, other, abs_tol=0.001) for one, other in zip(got, wanted, strict=True)
    )
