"""Laws of a tool result encoder: equal values, equal texts, and nothing that a model needs is lost.

Rule of this file: an encoder need not write JSON; with `json = True` it is checked that it does.
"""

from __future__ import annotations

import json
from typing import Any

from allm_actors.data import Err, Message, Ok, Tool, ToolExecutionCompleted
from allm_actors.data.build import tool as made_tool
from allm_actors.engine.adapter import ToolResultEncoder
from allm_actors.engine.engine import Engine
from allm_actors.execution.tools import encode_tool_result
from allm_actors.facade import stream_step
from allm_actors.testing import script

from .bounded import Bounded

__all__ = ["EncoderSuite"]

LARGE = 2**53 + 1
"""The first whole number that no float can represent."""
_ITEMS = [("a", 1), ("b", 2)]


class EncoderSuite(Bounded):
    """Subclass it, and implement `encoder`."""

    json = True
    """Whether everything but text is written as JSON."""
    longest = 300_000
    """How many characters of a result are kept: fewer, if your encoder cuts long ones, and tells the model so."""
    if_it_hangs = "Look at what your encoder waits for"

    def encoder(self) -> ToolResultEncoder | None:
        """A new encoder; None is the library's own."""
        raise NotImplementedError(f"{type(self).__name__} needs encoder()")

    def test_a_text_stays_as_it_is(self) -> None:
        """Quotes, line ends and all."""
        self.stays('It "rains"\nin Lisbon')

    def test_a_text_stays_as_long_as_it_is(self) -> None:
        """What is left out, the model invents."""
        self.stays(_text_of(self.longest))

    def test_a_long_value_stays_as_long_as_it_is(self) -> None:
        """What is cut is no JSON any more, or it is, and something else."""
        self.keeps({"pages": [_text_of(self.longest // 8)] * 4, "last": True})

    def test_a_text_keeps_all_its_letters(self) -> None:
        """Those of every script, and the spaces and line ends around it."""
        self.stays("  Olá, 世界 🎉\n\tchove\n")

    def test_an_empty_text_stays_empty(self) -> None:
        """It must not be replaced by a word such as "None"."""
        self.stays("")

    def test_a_map(self) -> None:
        """Its keys and values."""
        self.keeps({"city": "Lisbon", "rain": {"mm": 3}})

    def test_a_list(self) -> None:
        """In its order, as long as it is."""
        self.keeps([3, 1, 2, ["x"]])
        self.keeps(list(range(1000)))

    def test_texts_inside_a_map_are_kept(self) -> None:
        """As they are: long ones, those of every script, and the spaces around them."""
        self.keeps({"città": " Olá, 世界 🎉\n", "long": ["It rains in Lisbon. " * 100, ""]})

    def test_what_lies_deep_is_kept(self) -> None:
        """A value inside a value inside a value."""
        self.keeps({"a": [{"b": {"c": [{"d": {"e": [[["f"]]]}}]}}]})

    def test_what_is_empty_is_kept(self) -> None:
        """An empty list or dict is information, too."""
        self.keeps({"until": None, "rain": [], "wind": {}, "unit": "", "mm": 0, "dry": False})

    def test_a_large_number_is_kept(self) -> None:
        """To the last digit, even if a float cannot represent it: an id, or an amount."""
        self.keeps(LARGE)
        self.keeps({"id": -LARGE})

    def test_nothing_a_number_and_a_truth(self) -> None:
        """None, 42 and True are three things."""
        for value in (None, 42, True, False):
            self.keeps(value)
        texts = [self.text(value) for value in (None, 42, True, False)]
        assert len(set(texts)) == 4, (
            f"None, 42, True and False became {texts}: the model must tell them apart"
        )

    def test_what_is_equal_and_not_the_same_is_told_apart(self) -> None:
        """1 and True: for Python they are one key."""
        encoder = self.encoder()
        for value, other in ((1, True), (0, False), ([1], [True])):
            text, told = (self.text(each, by=encoder) for each in (value, other))
            assert text != told, f"{value!r} and {other!r} became {text!r}: do not cache texts by value"

    def test_a_fraction(self) -> None:
        """To the last digit."""
        for value in (0.1, 0.1 + 0.2, 1 / 3, 1e-7, 1e300):
            self.keeps(value)

    def test_ok_is_marked(self) -> None:
        """A value inside a value."""
        self.keeps(Ok({"x": 1}), as_={"ok": {"x": 1}})

    def test_an_error_is_marked(self) -> None:
        """With its reason."""
        text = self.text(Err("not_found"), wrapped=True)
        do = (
            'the encoder gets Err("not_found") and must return {"error": "not_found"}, or the same in its own '
            "format"
        )
        assert "not_found" in text, f"the reason is not in {text!r}: {do}"
        if self.json:
            assert list(_read(text)) == ["error"], f"{text!r} is not marked as an error: {do}"

    def test_each_error_says_its_own(self) -> None:
        """The model must know what to do about it; a reason may be what a handler says in data."""
        reasons = ("no such city: 'Évora'", "the station is asleep", {"code": "E42", "seconds": 30})
        texts = [self.text(Err(reason), wrapped=True) for reason in reasons]
        for words, text in zip((["no such city", "vora"], ["asleep"], ["E42", "30"]), texts, strict=True):
            lost = [word for word in words if word not in text]
            assert not lost, f"{lost} of the reason is missing in {text!r}: write the reason of each Err"
            if self.json:
                assert list(_read(text)) == ["error"], f"{text!r} is not marked as an error"

    def test_a_failed_call_says_why(self) -> None:
        """The reason of its `Err` is a `ToolError` where a handler raised, or refused its arguments."""
        for handler, words in ((_refuses, ["no such city", "vora"]), (_of_two_days.handler, ["days"])):
            text = self.told(handler)
            lost = [word for word in words if word not in text]
            do = "for Err(error) write the str of a ToolError, marked as the other errors are"
            assert not lost, f"a call failed, and {lost} of why is missing in {text!r}: {do}"
            if self.json:
                assert list(_read(text)) == ["error"], f"{text!r} is not marked as an error: {do}"

    def test_equal_values_have_equal_texts(self) -> None:
        """Whatever the order of a map's keys: otherwise a prompt cache would not recognize what has not changed."""
        there, back = self.text({"a": 1, "b": [2]}), self.text(dict([("b", [2]), ("a", 1)]))  # noqa: C406
        assert there == back, (
            f"one value became {there!r} and {back!r}: sort the keys of maps, at every depth"
        )
        for within in (
            lambda value: [value],
            lambda value: {"in": value},
            lambda value: {"in": {"it": [value]}},
        ):
            inside, out = (self.text(within(dict(items))) for items in (_ITEMS, _ITEMS[::-1]))
            assert inside == out, (
                f"one value became {inside!r} and {out!r}: sort the keys of maps, at every depth"
            )
        assert self.text({"a": 1}) == self.text({"a": 1}), "the same value became two texts"

    def test_what_cannot_be_encoded_is_an_error(self) -> None:
        """An object that only Python knows: its address tells the model nothing, and is another one each time."""
        raw, message = self.encoded(lambda _: object(), self.encoder())
        error = raw.reason if isinstance(raw, Err) else None
        assert getattr(error, "reason", None) == "encoding_failed", (
            f"object() became {message.content!r}: raise what is the matter, so that the call fails with "
            "encoding_failed, and the model hears why; str() and repr() make a text of everything"
        )

    def stays(self, value: str) -> None:
        """Check that a text is returned unchanged."""
        text = self.text(value)
        assert text == value, (
            f"the text {_short(value)} became {_short(text)}: return a str unchanged, without quotes, because the "
            "model reads it; if you cut long ones, and tell the model so, set `longest` in your suite"
        )

    def keeps(self, value: Any, as_: Any = None) -> None:
        """Check that the text of a value contains the whole value."""
        text = self.text(value, wrapped=as_ is not None)
        if self.json:
            wanted = value if as_ is None else as_
            assert _read(text) == wanted, (
                f"{_short(value)} became {_short(text)}, which is not JSON for {_short(wanted)}"
            )

    def text(self, value: Any, *, wrapped: bool = False, by: ToolResultEncoder | None = None) -> str:
        """What the model reads when a handler returns this value, encoded `by` an encoder, or by a new one.
        `wrapped`: an `Ok` or `Err` is the value itself, not the handler's marker.
        """
        given = Ok(value) if wrapped and isinstance(value, Ok) else value
        return self.told(lambda _: given, self.encoder() if by is None else by)

    def told(self, handler: Any, encoder: ToolResultEncoder | None = None) -> str:
        """What the model reads of a handler's answer, or of its failure, after checking that the encoder wrote it."""
        written = _Kept(self.encoder() if encoder is None else encoder)
        _, message = self.encoded(handler, written)
        assert written.failure is None, (
            f"the encoder made no text of {_short(written.value)}: it raised {written.failure!r}"
        )
        assert isinstance(written.text, str), (
            f"{_short(written.value)} became {written.text!r}: the encoder gave {type(written.text).__name__}, not text"
        )
        assert isinstance(message.content, str), f"{_short(written.value)} became {message.content!r}"
        return message.content

    def encoded(self, handler: Any, encoder: ToolResultEncoder | _Kept | None) -> tuple[Any, Message]:
        """A handler's result, and what the model reads of it."""
        calls = [script.tool_call("forecast", {}, id="c0"), script.finish("tool_calls")]
        tool = Tool(name="forecast", description="", schema={}, handler=handler)
        engine = Engine(
            adapter="fake",
            tools=[tool],
            tool_result_encoder=encoder,
            adapter_opts={"script": calls},
        )
        stream = stream_step(engine, [Message(role="user", content="?")])
        (raw,) = [event.result for event in stream if isinstance(event, ToolExecutionCompleted)]
        (message,) = stream.result().tool_results
        return raw, message


class _Kept:
    """An encoder, and what it did with the value that it got last: where it fails, the library writes the text."""

    def __init__(self, encoder: ToolResultEncoder | None) -> None:
        given: Any = encode_tool_result if encoder is None else encoder
        self._encode = given if callable(given) else given.encode
        self.value: Any = None
        self.text: Any = None
        self.failure: Exception | None = None

    def encode(self, value: Any) -> Any:
        """As the encoder does."""
        self.value, self.text, self.failure = value, None, None
        try:
            self.text = self._encode(value)
        except Exception as failure:
            self.failure = failure
            raise
        return self.text


def _refuses(_: Any) -> Any:
    raise LookupError("no such city: 'Évora'")


@made_tool
def _of_two_days(days: int) -> int:
    """The forecast of some days."""
    return days


def _read(text: str) -> Any:
    """The value of a JSON text."""
    try:
        return json.loads(text)
    except ValueError:
        raise AssertionError(
            f"{_short(text)} is not JSON: write JSON for everything but texts, or set `json = False` in the suite"
        ) from None


def _text_of(length: int) -> str:
    return ("It rains in Lisbon. " * (length // 20 + 1))[:length]


def _short(value: Any) -> str:
    """The value, for the text of a failure: of a long one its beginning."""
    shown = repr(value)
    return shown if len(shown) < 400 else f"{shown[:100]}… ({len(shown):,} characters)"
