"""Whatever the model, the tools and the options are, `chat` does what the reference says."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm

from . import reference
from .reference import LOOPS_OWN, Model, Options, Refused

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
HI = allm.Thread.from_messages([allm.user("hi")])


@dataclass
class Cat:
    name: str


def raising(error: BaseException) -> Any:
    def handler(_: dict[str, Any]) -> None:
        raise error

    return handler


HANDLERS: dict[str, Any] = {
    "echo": lambda arguments: arguments,
    "text": lambda _: "said",
    "empty": lambda _: "",
    "null": lambda _: None,
    "ok": lambda _: allm.Ok([1.5, {"b": True, "a": "\u00e9"}]),
    "changes": lambda arguments: arguments.update(changed=1) or arguments,
    "unencodable": lambda _: object(),
    "err": lambda _: allm.Err("sold out"),
    "err_of_data": lambda _: allm.Err({"code": 7}),
    "raises": raising(ValueError("no")),
    "raises_ours": raising(allm.AdapterError("timeout")),
    "without": None,
    "asks": lambda _: allm.AskUser("which?", choices=["a", "b"]),
    "asks_too": lambda _: allm.AskUser("where?"),
    "halts": lambda _: allm.Halt("handed_over", {"to": "ada"}),
    "halts_too": lambda _: allm.Halt("given_up", "why"),
    "halts_unencodable": lambda _: allm.Halt("odd", object()),
    **{f"halts_{reason}": lambda _, reason=reason: allm.Halt(reason, 1) for reason in sorted(LOOPS_OWN)},
    "manual": None,
    "manual_too": None,
}
PLAIN = ["echo", "text", "err", "raises", "asks", "halts", "manual"]
TOOLS = {
    name: allm.Tool(name=name, description="", schema={}, handler=handler, manual=name.startswith("manual"))
    for name, handler in HANDLERS.items()
}


def raises(*_: Any) -> None:
    raise RuntimeError("undecided")


POLICIES = [
    *["continue"] * 12,
    "halt",
    lambda _call, _error: "continue",
    lambda _call, _error: "halt",
    lambda call, _error: "halt" if call.name == "err" else "continue",
    lambda _call, _error: ("continue", {"later": True}),
    lambda _call, _error: ("continue", object()),
    lambda _call, _error: None,
    raises,
]
CONDITIONS = [
    *[None] * 12,
    lambda _: False,
    lambda _: True,
    lambda step: len(step.thread.messages) > 4,
    raises,
]


# --- what is drawn ------------------------------------------------------------------------------------------------

ARGUMENTS: list[dict[str, Any]] = [{}, {"x": 1}, {"b": None, "a": [1]}]
MALFORMED = ['{"x":', "[1]", "null", "no"]
REPORTS = [{"input_tokens": 3, "output_tokens": 2}, {"input_tokens": 5, "total_tokens": 9}]

kinds = st.sampled_from([*["calm"] * 16, *["says"] * 6, *["busy"] * 6, *["odd"] * 3, "refuses"])
texts = st.sampled_from(["Hello.", "", '{"name":"Ash"}', '{"name":"Ash"}', '{"name":1}', "\u00e9"])
ends = st.sampled_from(["stop", "length", "content_filter", "error", "other", "tool_calls", None])
refusals = st.sampled_from([("preflight_error", "rate_limited"), ("preflight_error", "timeout")])
extras = st.sampled_from(
    [("error", "rate_limited"), ("error", "network_error")]
    + [entry for fields in REPORTS for entry in (("usage", fields), ("raw_chunk", ("usage", fields)))]
)


def calls_of(*names: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Calls of one answer. The next answer may use their ids again."""
    right = [{"name": name, "arguments": arguments} for name in names for arguments in ARGUMENTS]
    wrong = [{"name": name, "raw_arguments": raw} for name, raw in zip(names, cycle(MALFORMED), strict=False)]
    return st.lists(st.sampled_from(right * 5 + wrong), min_size=1, max_size=3)


calm = calls_of("echo", "text", "null")
busy = calls_of(*PLAIN * 3, *TOOLS, "unknown")


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """What the model does in one call."""
    kind = draw(kinds)
    if kind == "refuses":
        return [draw(refusals)]
    said: list[tuple[Any, ...]] = [("text", draw(texts))]
    if kind != "says":
        made = draw(calm if kind == "calm" else busy)
        said += [("tool_call", {"id": f"k{place}", **call}) for place, call in enumerate(made)]
    end = "stop" if kind == "says" else "tool_calls"
    if kind == "odd":
        end = draw(ends)
        said = draw(st.permutations([*said, *draw(st.lists(extras, max_size=2))]))
    return said if end is None else [*said, ("finish", end), ("text", "never played")]


@dataclass(frozen=True)
class Case:
    """A chat: what the model will say, the names of its tools, and how it goes on."""

    scripts: list[list[tuple[Any, ...]]]
    tools: list[str]
    options: Options

    def expected(self) -> tuple[Any, list[list[allm.Message]]]:
        """What the reference says comes of it, and what it asks the model."""
        model = Model(self.scripts)
        try:
            return reference.chat(model, HI, [TOOLS[name] for name in self.tools], self.options), model.asked
        except Refused as refused:
            return refused.args[0], model.asked

    def run(self) -> tuple[Any, list[list[allm.Message]]]:
        """What comes of it, and what the model is asked."""
        record: list[Any] = []
        opts = {"scripts": self.scripts, "record": record}
        engine = allm.Engine(adapter="fake", tools=[TOOLS[name] for name in self.tools], adapter_opts=opts)
        options = asdict(self.options)
        options["structured_finalize_nudge"] = options.pop("nudge")
        if self.options.response_model is None:
            del options["max_retries"]
        result: Any
        try:
            result = allm.chat(engine, HI, **options)
        except allm.AllmError as error:
            result = error
        return result, [asked.request.messages for asked in record]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    model = draw(st.sampled_from([None, Cat]))
    options = Options(
        mode=draw(st.sampled_from([*["auto"] * 9, "manual"])),
        max_turns=draw(st.sampled_from([8, 3, 2, 1])),
        on_tool_error=draw(st.sampled_from(POLICIES)),
        halt_when=draw(st.sampled_from(CONDITIONS)),
        response_model=model,
        max_retries=draw(st.sampled_from([2, 1, 0])),
        structured_finalize=model is not None and draw(st.sampled_from([False, False, True])),
        nudge=draw(st.sampled_from(["Now!", ""])),
    )
    known = draw(st.sampled_from([*[list(TOOLS)] * 5, []]))
    return Case(draw(st.lists(scripts(), min_size=3, max_size=6)), known, options)


# --- the law ------------------------------------------------------------------------------------------------------


@settings(max_examples=10_000 if THOROUGH else 1500, derandomize=not THOROUGH)
@given(cases())
def test_a_chat_does_what_the_reference_says(case: Case) -> None:
    expected, asked = case.expected()
    result, record = case.run()
    assert expected == result
    assert asked == record


def test_what_is_drawn_halts_in_every_way() -> None:
    reached = set()

    @settings(max_examples=500, derandomize=True, database=None)
    @given(cases())
    def look(case: Case) -> None:
        result, _ = case.expected()
        reached.add(getattr(result, "halted_reason", "refused"))

    look()
    assert reached >= {*LOOPS_OWN, "handed_over", "refused"} - {"cancelled", "interrupted"}
