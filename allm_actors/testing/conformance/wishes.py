"""Laws of options ("wishes") that have no word to search for: a request with one must differ from a request without.

Rule of this file: two requests, whose callers differ in one wish, are compared as they arrived. If they are
equal, the wish was left out. How it is encoded does not matter here.
"""

from __future__ import annotations

from typing import Any

from allm_actors.data import Tool
from allm_actors.data.schemas.schema import json_schema

from .requests import FORECAST, RequestLaws, question
from .scenes import skip

__all__ = ["WishLaws"]

_FORM = {"type": "object", "properties": {"feathers": {"type": "integer"}}}
_WARM = "0.625"
_NEEDS_ALL = Tool(
    name=FORECAST.name,
    description=FORECAST.description,
    schema={**FORECAST.schema, "required": ["city", "days"]},
)


class WishLaws(RequestLaws):
    """The laws of wishes; a part of `AdapterSuite`."""

    tells_strict = False
    """Whether your provider can be told to hold an answer to its schema, and not to. With `False` the law about
    `strict` is skipped where it makes no difference: many providers always do, or never."""

    def test_a_temperature_of_zero_is_sent_or_refused(self) -> None:
        """Zero is a temperature, the lowest one, and not the same as None."""
        cold, plain = self.compared("temperature", 0.0, None)
        warm = self.finds([question()], [_WARM], "request.temperature", temperature=float(_WARM))
        if cold in (warm.replace(_WARM, "0.0"), warm.replace(_WARM, "0")):
            return  # a request without a temperature may have one of the adapter's, which is zero
        _differ("temperature=0.0", cold, plain, how="check with `is not None`, because zero counts as false")

    def test_an_option_of_zero_is_sent_or_refused(self) -> None:
        """Zero is a `seed`, as it is a temperature."""
        sent = self.compared("seed", 0, None)
        _differ(
            "seed=0 of request.options", *sent, how="check with `is not None`, because zero counts as false"
        )

    def test_that_a_tool_must_be_called_is_sent_or_refused(self) -> None:
        """`tool_choice="required"`: a model that may choose answers with a text, and nobody reads it."""
        sent = self.compared("tool_choice", "required", "auto", None, tools=[FORECAST])
        _differ("tool_choice='required'", *sent)

    def test_that_no_tool_may_be_called_is_sent_or_refused(self) -> None:
        """`tool_choice="none"`: a call that nobody wanted is run. A request without its tools says it, too."""
        sent = self.compared("tool_choice", "none", "auto", None, tools=[FORECAST])
        _differ("tool_choice='none'", *sent)

    def test_json_of_any_form_is_sent_or_refused(self) -> None:
        """`response_format={"type": "json_object"}`: a program reads the answer, whatever its fields are."""
        wish = {"type": "json_object"}
        _differ(f"response_format={wish}", *self.compared("response_format", wish, None))

    def test_whether_a_form_is_strict_is_sent(self) -> None:
        """Where a provider can be told: an answer that may have other fields has them one day."""
        forms = [json_schema("parrot", _FORM, strict=strict) for strict in (True, False)]
        strict, loose = self.compared("response_format", *forms)
        if strict == loose and not self.tells_strict:
            skip(
                "strict=True and strict=False of a response_format were sent alike, which is right if the "
                "provider has no option for it; if it has one, set tells_strict = True in your suite, so that "
                "this law can be tested"
            )
        _differ("strict=True of a response_format", strict, loose)

    def test_what_a_tool_needs_is_sent(self) -> None:
        """Which of its parameters are `required`: a model that is not told leaves them out."""
        sent = self.compared("tools", [FORECAST], [_NEEDS_ALL])
        _differ("what is `required` in the schema of a tool", *sent)

    def compared(self, name: str, *wishes: Any, **options: Any) -> list[str]:
        """The requests with each of the wishes, after checking that the last one is the same each time."""
        told = [self.finds([question()], [], name, **options, **{name: wish}) for wish in wishes]
        if self.finds([question()], [], name, **options, **{name: wishes[-1]}) != told[-1]:
            skip(
                f"two equal requests were sent differently, so nothing can be said of {name}: remove from what "
                "Stage.sent returns whatever is new in every request, such as an id or the time"
            )
        return told


def _differ(wish: str, wished: str, *others: str, how: str = "send it") -> None:
    assert wished not in others, (
        f"{wish} did not change what was sent: the adapter leaves it out; {how}, or raise "
        'ValidationError("unsupported_capability", …) in stream(), before anything is sent'
    )
