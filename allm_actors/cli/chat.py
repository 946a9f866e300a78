"""`allm chat`: a conversation at the prompt.

Rule of this file: one turn at a time, and however a turn ends, the prompt comes back. Ctrl-C during a turn
ends the turn; the session keeps what was said.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable
from typing import Any

from allm_actors.actors import Host
from allm_actors.actors.sessions.handle import SessionHandle
from allm_actors.actors.streams.stream import Turn
from allm_actors.data import AllmError, ChatResult, Session

from .arguments import Options
from .colour import harmless
from .equipment import begin, data_dir, engine_for, place_of, set_up_log, store_of, turn_options
from .history import History
from .interruption import Interruption
from .terminal import Terminal
from .transcript import Transcript, call_text, count_text, cut
from .trouble import line

__all__ = ["perform"]

_HELP = """\
  /tree       show the supervision tree
  /session    show this session: its status and its messages
  /continue   ask the model again without a new message
  /help       show this help
  /quit       leave the chat; so do Ctrl-D, and Ctrl-C at the prompt
A line that ends in a backslash continues on the next line. Ctrl-C during an answer stops it."""


def perform(options: Options, terminal: Terminal) -> int:
    """Talk until the person leaves. Returns 1 if a turn failed and the session was not interactive."""
    set_up_log(options)
    engine = engine_for(options)
    store = store_of(options, terminal.environ)
    name = options.session or f"{time.strftime('chat-%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    before = begin(store, name, options.system)
    with Host(store=store) as host, History(data_dir(terminal.environ) / "history", terminal.interactive):
        chat = Chat(host, host.session(name, engine), options, terminal)
        chat.greet(before)
        chat.talk()
    chat.part()
    return 1 if chat.failed and not terminal.interactive else 0


class Chat:
    """One conversation at a terminal."""

    def __init__(self, host: Host, session: SessionHandle, options: Options, terminal: Terminal) -> None:
        self._host, self._session, self._options, self._terminal = host, session, options, terminal
        self._paint = terminal.paint
        self.failed = False

    def greet(self, before: Session | None) -> None:
        """Say who answers, in which session, and where that stands."""
        if not self._terminal.interactive:
            return
        engine, state = self._session.engine, "new" if before is None else count_text(before)
        adapter = engine.adapter if isinstance(engine.adapter, str) else type(engine.adapter).__name__
        title = self._terminal.name(" ".join(str(each) for each in (adapter, engine.model) if each))
        about = f"session {self._terminal.name(self._session.id)} ({state})"
        self._say(f"{self._paint(title, 'bold', 'cyan')}  {self._dim(about)}")
        self._say(self._dim("/help lists the commands; Ctrl-C stops an answer; Ctrl-D quits") + "\n")
        if before is not None and self._options.system is not None:
            self._terminal.note(
                "--system is only for a new session; it is ignored, and this session continues unchanged"
            )
        self._show_where_it_stands()

    def talk(self) -> None:
        """Read and answer until Ctrl-D, Ctrl-C or /quit."""
        while True:
            try:
                if self._session.pending_tool_calls:
                    self._answer_calls()
                elif not self._answer(self._read()):
                    return
            except (EOFError, KeyboardInterrupt):
                if self._terminal.interactive:
                    self._say()
                return

    def part(self) -> None:
        """Say how to come back."""
        if self._terminal.interactive and self._session.messages and place_of(self._options) is not None:
            store = f" --store {_typed(self._options.store)}" if self._options.store else ""
            self._say(
                self._dim(f"saved; continue with: allm chat --session {_typed(self._session.id)}{store}")
            )

    # Private: in order of use.

    def _answer(self, text: str) -> bool:
        """Handle a typed line. Returns whether to go on."""
        if text.startswith("/"):
            return self._command(text.strip())
        if text.strip():
            self._turn(lambda: self._session.reply(text, **turn_options(self._options)))
        return True

    def _read(self) -> str:
        asked = self._session.status == "awaiting_user"
        lines = [self._ask("? " if asked else "> ")]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self._ask(". "))
            except EOFError:
                if self._terminal.interactive:
                    raise
                break  # the end of the input is the end of its last message
        return "\n".join(lines)

    def _ask(self, prompt: str) -> str:
        return self._terminal.ask(prompt, "bold", "green")

    def _command(self, text: str) -> bool:
        """Handle a /command. Returns whether to go on."""
        word, _, rest = text.partition(" ")
        match word:
            case "/quit" | "/exit":
                return False
            case "/help":
                self._say(self._dim(_HELP))
            case "/tree":
                self._say(self._host.tree())
            case "/session":
                self._show_session()
            case "/continue":
                self._turn(lambda: self._session.continue_(rest or None, **turn_options(self._options)))
            case _:
                self._terminal.complain(f"unknown command {word}; /help lists the commands")
        return True

    def _turn(self, begin_turn: Callable[[], Turn]) -> None:
        self._recover()
        transcript = Transcript(self._terminal)
        try:
            with Interruption(self._session.cancel):
                turn = begin_turn()
                for event in turn:
                    transcript.show(event)
            result: ChatResult = turn.result()
        except AllmError as error:  # refused before its first event
            transcript.break_line()
            self._terminal.complain(line(error))
            self.failed = True
            return
        self._after(transcript, result)

    def _recover(self) -> None:
        if self._session.status == "error":
            self._session.recover()

    def _after(self, transcript: Transcript, result: ChatResult) -> None:
        if not transcript.end(result):
            self.failed = True
        elif self._terminal.interactive and not result.halted:
            self._say(self._dim(transcript.summary(result)))
        if self._terminal.interactive:
            self._say()
        self._show_where_it_stands()

    def _answer_calls(self) -> None:
        """Calls of manual tools are answered by the person."""
        for call in self._session.pending_tool_calls:
            # However long: an argument that is left out would be answered for unseen.
            answer = self._ask(f"{harmless(call_text(call.name, call.arguments))} = ")
            self._session.submit_tool_result(call.id, answer)
        self._turn(lambda: self._session.continue_(**turn_options(self._options)))

    def _show_where_it_stands(self) -> None:
        session = self._session.value
        if session.pending_question is not None:
            self._say(self._paint(self._terminal.shown(session.pending_question), "bold", "yellow"))
        elif session.pending_tool_calls:
            self._say(self._paint("a tool waits for your answer:", "bold", "yellow"))
        elif session.messages and session.messages[-1].role in ("user", "tool") and session.status == "idle":
            self._say(self._paint("the last message has no answer yet; /continue asks for it", "yellow"))

    def _show_session(self) -> None:
        session, place = self._session.value, place_of(self._options)
        where = "memory" if place is None else str(place)
        name = self._paint(self._terminal.name(session.id or ""), "bold")
        self._say(f"{name}  {session.status}  {self._dim(where)}")
        for message in session.messages:
            self._say(
                f"  {self._paint(message.role.ljust(9), 'cyan')} {_gist(message, self._terminal.width - 13)}"
            )

    def _say(self, text: str = "") -> None:
        self._terminal.say(text)

    def _dim(self, text: str) -> str:
        return self._paint(text, "dim")


def _typed(word: str) -> str:
    """A word quoted for a shell, without terminal control characters."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + "'"


def _gist(message: Any, room: int) -> str:
    calls = [call_text(call.name, call.arguments) for call in message.tool_calls]
    content = message.content if isinstance(message.content, str) else f"{len(message.content)} parts"
    return cut(" ".join([content, *calls]), room)
