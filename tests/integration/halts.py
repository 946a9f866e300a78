"""For each reason that a chat can halt with, a chat that does; and for each row of the landings, a step that does.

Rule of this file: real calls. A way gives the session after it and the result; its docstring says how it comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import allm_actors as allm
from allm_actors.data import ChatResult, Session, StepResult
from allm_actors.execution import gates, inputs, sessions
from allm_actors.testing import script

__all__ = ["CALLS_LEFT", "CHATS", "HALTED_REASONS", "STEPS", "TOOLS", "called", "fake", "tool"]

OWN: str = "plan_submitted"
HALTED_REASONS: set[str] = {
    *(gate.reason for gate in gates.GATES if gate.reason),
    *get_args(get_type_hints(inputs.Cancelled)["reason"]),
    OWN,  # gate 3: whatever a tool says
}
"""Every reason of a chat, as the code has them."""

HI = [allm.user("hi")]
SAYS = [script.text("ok"), script.finish("stop")]
NEVER = [script.text("so far"), script.delay(30.0), script.finish("stop")]


def fake(*scripts: Any, **fields: Any) -> allm.Engine:
    return allm.Engine(adapter="fake", adapter_opts={"scripts": list(scripts)}, **fields)


def tool(name: str, handler: Any = None, *, manual: bool = False) -> allm.Tool:
    return allm.Tool(name=name, description="", schema={}, handler=handler, manual=manual)


def called(*names: str) -> list[Any]:
    """What a model says that calls these tools: `c0`, `c1`, …"""
    return [
        *(script.tool_call(name, id=f"c{at}") for at, name in enumerate(names)),
        script.finish("tool_calls"),
    ]


def _raise(_: Any) -> Any:
    raise LookupError("no such city")


TOOLS = [
    tool("gives", lambda arguments: arguments),
    tool("asks", lambda _: allm.AskUser("which city?", choices=["A", "B"])),
    tool("halts", lambda _: allm.Halt(OWN, {"ok": 1})),
    tool("raises", _raise),
    tool("manual", manual=True),
]

Chat = Callable[[], tuple[Session, ChatResult]]
CHATS: dict[str, Chat] = {}
STEPS: dict[str, Callable[[], tuple[Session, StepResult]]] = {}


def chat(reason: str) -> Callable[[Chat], Chat]:
    def register(way: Chat) -> Chat:
        CHATS[reason] = way
        return way

    return register


def start(*scripts: Any, **options: Any) -> tuple[Session, ChatResult]:
    return allm.session.start(fake(*scripts, tools=TOOLS), HI, **options)


@chat("completed")
def _completed() -> tuple[Session, ChatResult]:
    """the model answered: it finished with `stop`, `length` or `content_filter`"""
    return start(called("gives"), SAYS)


@chat("ask_user")
def _asked() -> tuple[Session, ChatResult]:
    """a tool returned `AskUser`"""
    return start(called("asks"))


@chat("tool_error")
def _tool_failed() -> tuple[Session, ChatResult]:
    """a tool failed, and `on_tool_error` said halt"""
    return start(called("raises"), on_tool_error="halt")


@chat(OWN)
def _halted() -> tuple[Session, ChatResult]:
    """a tool returned `Halt` with a reason of its own"""
    return start(called("halts"))


@chat("manual_tool_calls")
def _left() -> tuple[Session, ChatResult]:
    """the model called a manual tool, or called tools in `mode="manual"`; these are not in the metadata"""
    return start(called("gives", "manual"))


@chat("error")
def _failed() -> tuple[Session, ChatResult]:
    """the model call failed, on whatever turn; `halt_when` raised; the session died: it is then as stored last"""
    return start(called("gives"), [script.error("rate_limited")])


@chat("halt_when")
def _decided() -> tuple[Session, ChatResult]:
    """`halt_when` said so"""
    return start(called("gives"), halt_when=lambda step: bool(step.tool_results))


@chat("max_turns")
def _turns() -> tuple[Session, ChatResult]:
    """the last of `max_turns` steps wanted to go on"""
    return start(called("gives"), called("gives"), max_turns=2)


@chat("cancelled")
def _cancelled() -> tuple[Session, ChatResult]:
    """the stream was closed, or the turn cancelled"""
    stream = allm.session.stream_start(fake(NEVER), HI)
    _read_some(stream)
    stream.close()
    return stream.finish()


@chat("interrupted")
def _interrupted() -> tuple[Session, ChatResult]:
    """the host or the session was stopped during the turn, or the session deleted"""
    with allm.Host() as host:
        session = host.session("s", fake(NEVER))
        turn = session.reply("hi")
        _read_some(turn)
    return session.value, turn.result()


def _read_some(stream: allm.EventStream) -> None:
    for event in stream:
        if isinstance(event, allm.TextDelta):
            return


# --- steps --------------------------------------------------------------------------------------------------------


def step(*calls: Any, **options: Any) -> Callable[[], tuple[Session, StepResult]]:
    def way() -> tuple[Session, StepResult]:
        session = Session(thread=allm.Thread.from_messages(HI))
        return allm.session.step(fake(*calls, tools=TOOLS), session, **options)

    return way


def _cancelled_step() -> tuple[Session, StepResult]:
    stream = allm.session.stream_step(fake(NEVER), Session(thread=allm.Thread.from_messages(HI)))
    _read_some(stream)
    stream.close()
    return stream.finish()


STEPS |= {
    "ask_user": step(called("asks")),
    "tool_error": step(called("raises"), on_tool_error="halt"),
    "error": step([script.error("rate_limited")]),
    "cancelled": _cancelled_step,
    sessions.GOING_ON: step(called("gives")),
    sessions.ANY_OTHER: step(SAYS),
}

CALLS_LEFT: dict[str, Callable[[], tuple[Session, Any]]] = {
    "manual_tool_calls": lambda: start(called("gives", "manual")),
    "ask_user": lambda: start(called("asks", "manual")),
    "tool_error": lambda: start(called("raises", "manual"), on_tool_error="halt"),
    sessions.ANY_OTHER: lambda: start(called("halts", "manual")),
    sessions.GOING_ON: step(called("gives", "manual")),
}
"""Runs that leave a call to the caller, whatever else they come to."""
