"""Nine laws of a tool result encoder: equal values, equal texts, and nothing that a model needs is lost.

Rule of this file: an encoder need not write JSON; one that does is held to it (`json = True`).
"""

from __future__ import annotations

import json
from typing import Any

from allm_actors.data import Err, Message, Ok, Tool
from allm_actors.engine.adapter import ToolResultEncoder
from allm_actors.engine.engine import Engine
from allm_actors.facade import step
from allm_actors.testing import script

__all__ = ["EncoderSuite"]


class EncoderSuite:
    """Subclass it, and implement `encoder`."""

    json = True
    """Whether everything but text is written as JSON."""

    def encoder(self) -> ToolResultEncoder | None:
        """A new encoder; None is the library's own."""
        raise NotImplementedError(f"{type(self).__name__} needs encoder()")

    def test_a_text_stays_as_it_is(self) -> None:
        """Quotes, line ends and all."""
        assert self.text('It "rains"\nin Lisbon') == 'It "rains"\nin Lisbon'

    def test_an_empty_text_stays_empty(self) -> None:
        """Nothing is not a word."""
        assert self.text("") == ""

    def test_a_map(self) -> None:
        """Its keys and values."""
        self.keeps({"city": "Lisbon", "rain": {"mm": 3}})

    def test_a_list(self) -> None:
        """In its order."""
        self.keeps([3, 1, 2, ["x"]])

    def test_nothing_a_number_and_a_truth(self) -> None:
        """None, 42 and True are three things."""
        for value in (None, 42, True, False):
            self.keeps(value)
        assert len({self.text(value) for value in (None, 42, True, False)}) == 4

    def test_a_fraction(self) -> None:
        """To the last digit."""
        self.keeps(0.1)

    def test_ok_is_marked(self) -> None:
        """A value inside a value."""
        self.keeps(Ok({"x": 1}), as_={"ok": {"x": 1}})

    def test_an_error_is_marked(self) -> None:
        """With its reason."""
        text = self.text(Err("not_found"), wrapped=True)
        assert "not_found" in text
        if self.json:
            assert list(json.loads(text)) == ["error"]

    def test_equal_values_have_equal_texts(self) -> None:
        """Whatever the order in which a map was made: what does not change is not paid for twice by a prompt cache."""
        assert self.text({"a": 1, "b": [2]}) == self.text(dict([("b", [2]), ("a", 1)]))  # noqa: C406
        assert self.text({"a": 1}) == self.text({"a": 1})

    def keeps(self, value: Any, as_: Any = None) -> None:
        """Look that the text of a value says the value."""
        text = self.text(value, wrapped=as_ is not None)
        if self.json:
            assert json.loads(text) == (value if as_ is None else as_), text

    def text(self, value: Any, *, wrapped: bool = False) -> str:
        """What the model reads when a handler gives this. `wrapped` values are not the handler's own `Ok` or `Err`."""
        given = Ok(value) if wrapped and isinstance(value, Ok) else value
        calls = [script.tool_call("forecast", {}, id="c0"), script.finish("tool_calls")]
        tool = Tool(name="forecast", description="", schema={}, handler=lambda _: given)
        engine = Engine(
            adapter="fake",
            tools=[tool],
            tool_result_encoder=self.encoder(),
            adapter_opts={"script": calls},
        )
        (message,) = step(engine, [Message(role="user", content="?")]).tool_results
        assert isinstance(message.content, str), f"{value!r} became {message.content!r}"
        return message.content
