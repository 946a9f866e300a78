"""`allm run`: ask once, print the answer.

Rule of this file: stdout is the answer and nothing else, so that it can be piped: what tools print goes to stderr.
Tool calls are shown there too, if a person is watching.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allm_actors.actors import EventStream, Host
from allm_actors.data import ChatResult, Message, TextDelta, ToolHalt
from allm_actors.data.build import system, user
from allm_actors.data.codec import to_json
from allm_actors.data.sessions import Session
from allm_actors.engine.engine import Engine
from allm_actors.execution.tools import RESERVED_HALTS
from allm_actors.facade import stream

from .arguments import Options
from .colour import escaped
from .equipment import begin, engine_for, set_up_log, store_of, turn_options
from .terminal import Terminal
from .transcript import call_text
from .trouble import Misuse, is_empty, line, shortcoming

__all__ = ["perform"]

# Endings that a script should notice, with what can be done about each. Every other one is an answer or a question.
_UNFINISHED = {
    "max_turns": "the model was still calling tools after {turns} model calls",
    "manual_tool_calls": "a manual tool needs its result, and `run` cannot ask you for it: use `allm chat`",
    "cancelled": "the turn was cancelled",
    "interrupted": "the turn was interrupted",
}


def perform(options: Options, terminal: Terminal) -> int:
    """Ask, and print the answer."""
    with terminal.alone():  # tools may print, even when they are only loaded
        return _perform(options, terminal)


def _perform(options: Options, terminal: Terminal) -> int:
    set_up_log(options)
    prompt = _prompt(options, terminal)
    engine = engine_for(options)
    with _turn(options, engine, prompt, terminal) as turn:
        result = _answer(turn, options, terminal)
    encoded = _say_json(result, terminal) if options.json else True
    terminal.flush()
    if options.prompt and "-" not in options.prompt and terminal.unread:
        terminal.note("the piped input was not read: add `-` to the prompt where it belongs")
    return _verdict(result, terminal) if encoded else 1


def _prompt(options: Options, terminal: Terminal) -> str:
    if not options.prompt and not terminal.piped:
        raise Misuse('there is no prompt: give one, as in allm run "…", or pipe it in')
    words = options.prompt or ["-"]
    piped = terminal.read() if "-" in words else ""
    prompt = "\n\n".join(
        part for part in (" ".join(word for word in words if word != "-"), piped.strip()) if part
    )
    if not prompt:
        raise Misuse("the prompt is empty: nothing was typed or piped in")
    return prompt


@contextmanager
def _turn(
    options: Options, engine: Engine, prompt: str, terminal: Terminal
) -> Iterator[EventStream[ChatResult]]:
    if options.session is None:
        before = [] if options.system is None else [system(options.system)]
        messages: list[Message] = [*before, user(prompt)]
        with stream(engine, messages, **turn_options(options)) as turn:
            yield turn
        return
    store = store_of(options, terminal.environ)
    before_now = begin(store, options.session, options.system)
    _refuse_or_note(before_now, options, terminal)
    with Host(store=store) as host:
        session = host.session(options.session, engine)
        if session.status == "error":  # the failed turn is over: asking again means going on
            session.recover()
        with session.reply(prompt, **turn_options(options)) as turn:
            yield turn


def _refuse_or_note(session: Session | None, options: Options, terminal: Terminal) -> None:
    if session is not None and session.pending_tool_calls:
        names = ", ".join(call.name for call in session.pending_tool_calls)
        where = "" if options.store is None else f" --store {shlex.quote(options.store)}"
        raise Misuse(
            f"session {session.id!r} waits for the result of {names}, and `run` cannot ask you for it; use: "
            f"allm chat --session {shlex.quote(str(session.id))}{where}"
        )
    if session is not None and options.system is not None:
        terminal.note(
            "--system is only for a new session; it is ignored, and this session continues unchanged"
        )


def _answer(turn: EventStream[ChatResult], options: Options, terminal: Terminal) -> ChatResult:
    ended = True
    for event in turn:
        if options.json:
            continue
        match event:
            case TextDelta(delta=delta):
                terminal.tell(delta)
                ended = delta.endswith("\n")
            case ToolHalt():
                ended = _answer_of_tool(event, ended, terminal)
            case _:
                ended = _tell_of_tools(event, ended, terminal)
    if not ended:
        terminal.say()
    result: ChatResult = turn.result()
    return result


def _answer_of_tool(event: ToolHalt, ended: bool, terminal: Terminal) -> bool:
    """Print the result of a tool that ended the turn: no answer of the model follows that would contain it."""
    if event.reason in RESERVED_HALTS or event.result is None:
        return ended
    if not ended:
        terminal.say()
    terminal.tell(f"{event.content}\n")
    return True


def _tell_of_tools(event: Any, ended: bool, terminal: Terminal) -> bool:
    if event.tag != "tool_execution_started":
        return ended
    if not ended:
        terminal.say()
    terminal.flush()
    if terminal.err.isatty():
        terminal.note(f"⚙ {call_text(event.name, event.arguments)}")
    return True


def _say_json(result: ChatResult, terminal: Terminal) -> bool:
    """Print the result as JSON. False if it cannot be encoded: then stdout stays empty, and stderr has the answer."""
    try:
        text = to_json(result)
    except TypeError as error:
        terminal.complain(f"the result cannot be printed as JSON: {line(error)}")
        if answer := result.text() or result.pending_question:  # it was paid for, so do not lose it
            terminal.note(answer)
        return False
    terminal.say(escaped(text))
    return True


def _verdict(result: ChatResult, terminal: Terminal) -> int:
    reason = result.halted_reason or ""
    if reason in ("error", "tool_error"):
        terminal.complain(line(result.metadata.get("error") or "the turn failed without giving a reason"))
        return 1
    if reason in _UNFINISHED:
        terminal.complain(_UNFINISHED[reason].format(turns=len(result.steps)))
        return 1
    if (lacks := shortcoming(result)) is not None:
        terminal.complain(lacks)
        return 1
    if is_empty(result):
        terminal.note("the answer is empty")
    if reason == "ask_user" and result.pending_question is not None:
        terminal.note(f"a tool asks: {result.pending_question}")
    if reason not in RESERVED_HALTS:
        terminal.note(f"a tool ended the turn: {line(reason)}")
    return 0
