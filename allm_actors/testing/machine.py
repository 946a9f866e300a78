"""A session driven by Hypothesis: any sequence of what its users, and crashes, can do to it.

    class Support(SessionMachine):
        def engine(self) -> allm.Engine:
            return self.wild(my_engine)             # or an engine with a script of your own

    TestSupport = Support.TestCase

Rule of this file: a rule is what somebody does, an invariant is what must hold after each rule. What a session's status
forbids must be refused with a typed error and change nothing; what it allows must leave what `landing` says, unless a
process died meanwhile. Hypothesis must be installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allm_actors.actors.ports import SESSIONS
from allm_actors.actors.sessions.handle import SessionHandle
from allm_actors.actors.streams.stream import Turn
from allm_actors.data import (
    AdapterError,
    AllmError,
    ChatResult,
    Session,
    SessionError,
    SessionStatusError,
    StoreError,
    ValidationError,
)
from allm_actors.data.rules.validate import validate
from allm_actors.engine.engine import Engine
from allm_actors.execution.options import DEFAULT_MAX_TURNS

from .drawn import drawn_options, option_of, passes_of, retries_of
from .exploring import quiet
from .landing import check_landing, check_recovered, check_rewound, check_submitted, same
from .laws import Observed, answered, check_turn
from .simhost import MORTALS, SimHost
from .wild import Wild, wild_engine

__all__ = ["SessionMachine"]

_OPEN = ("idle", "completed", "awaiting_user")
_TRIES = 20
_MOST_EVENTS = 100_000
_CHAT = "chat"
_CALM = 60.0  # virtual seconds after which no supervisor counts a restart any more


class SessionMachine(RuleBasedStateMachine):
    """Subclass it, implement `engine`, and give pytest its `TestCase`.

    `options` are those of every turn; `crash` lets processes be killed, in half of the runs. `host` is the simulated
    host, `chat` the session.
    """

    host: SimHost
    options: ClassVar[dict[str, Any]] = {}
    crash: ClassVar[bool] = True

    def engine(self) -> Engine:
        """The engine of the session. Its adapter and its tools must not wait for the real world."""
        raise NotImplementedError(f"{type(self).__name__} needs engine()")

    def store(self) -> Any:
        """The store of the host, a new one each time: a path, a `Store`, or None for memory."""
        return None

    def wild(self, engine: Engine, *, own_handlers: bool = False) -> Engine:
        """That engine with a model, and handlers unless the own ones shall run, that do anything."""
        given, sleep = self.options, self.host.sleep
        self._given = drawn_options(self._wild, engine, given, sleep, own_handlers=own_handlers)
        return wild_engine(self._wild, engine, sleep, own_handlers=own_handlers)

    # The world.

    @initialize(seed=st.integers(0, 2**16), mortal=st.booleans())
    def _begin(self, seed: int, mortal: bool) -> None:
        self._silence = quiet()
        self._silence.__enter__()
        self._wild, self._given = Wild(seed), dict[str, Any]()
        self.host = SimHost(seed, store=self.store()).__enter__()
        self._deaths, self._forks, self._mortal = 0, itertools.count(1), mortal and self.crash
        self._engine = self.engine()
        self._given = self._given or dict(self.options)
        self.chat: SessionHandle = self.host.session(_CHAT, self._engine)

    def teardown(self) -> None:
        """Stop the host; nobody may be left who works for a turn."""
        if not hasattr(self, "host"):
            return
        try:
            self.host.run_until_idle()
            assert not self.host.living("adapter", "tool"), "a worker still runs for a turn that is over"
        except BaseException as error:
            self.host.__exit__(type(error), error, error.__traceback__)
            raise
        else:
            self.host.__exit__(None, None, None)
        finally:
            self._silence.__exit__(None, None, None)

    # What users do.

    @rule(text=st.sampled_from(["hi", "and then?", "yes"]))
    def reply(self, text: str) -> None:
        """Say something, and read the turn to its end."""
        self._turn(lambda: self.chat.reply(text, **self._given), _OPEN, text)

    @rule()
    def continue_(self) -> None:
        """Let it go on."""
        self._turn(lambda: self.chat.continue_(**self._given), ("idle", "completed", "awaiting_tools"), None)

    @rule(events=st.integers(0, 5))
    def reply_and_leave(self, events: int) -> None:
        """Say something, read a little, and go."""

        def read(turn: Turn) -> None:
            for _ in itertools.islice(turn, events):
                pass
            turn.close()

        self._turn(lambda: self.chat.reply("hm", **self._given), _OPEN, "hm", read)

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0]))
    def reply_and_cancel(self, seconds: float) -> None:
        """Say something, and have somebody else cancel it."""

        def cancel() -> None:
            self.host.sleep(seconds)
            self.chat.cancel()

        def read(turn: Turn) -> None:
            self.host.client(cancel)
            for _ in itertools.islice(turn, _MOST_EVENTS):
                pass

        self._turn(lambda: self.chat.reply("hm", **self._given), _OPEN, "hm", read)

    @precondition(lambda self: bool(self.value.pending_tool_calls))
    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        """Answer a call that was left to the caller."""
        before, deaths = self.value, self._deaths
        call = data.draw(st.sampled_from(before.pending_tool_calls), label="call")
        content = data.draw(st.sampled_from(["so says the caller", {"by": "the caller"}]), label="content")
        submit = partial(self.chat.submit_tool_result, call.id, content)
        if before.status == "error":
            self._refused(submit)
        elif self._try(submit) is not None and self._deaths == deaths:
            check_submitted(before, call, content, self.value)

    @rule()
    def submit_what_nobody_asked_for(self) -> None:
        """An answer to no call is refused, and changes nothing."""
        self._refused(lambda: self.chat.submit_tool_result("no-such-call", "?"))

    @rule()
    def recover(self) -> None:
        """Make it usable again; harmless when it is."""
        before, deaths = self.value, self._deaths
        if self._try(self.chat.recover) is not None and self._deaths == deaths:
            check_recovered(before, self.value)

    @rule(kept=st.integers(0, 4))
    def rewind(self, kept: int) -> None:
        """Take back all but the first messages, up to the end of a user's turn; refused while a turn runs."""
        before, deaths = self.value, self._deaths
        messages = before.thread.messages
        while kept < len(messages) and messages[kept].role != "user":
            kept += 1
        first = messages[:kept]
        if self._try(partial(self.chat.replace_messages, first)) is not None and self._deaths == deaths:
            check_rewound(before, first, self.value)

    @rule()
    def fork(self) -> None:
        """A copy says the same, and the session stays what it is."""
        name, before, deaths = f"fork-{next(self._forks)}", self.value, self._deaths
        forked = self._try(lambda: self.chat.fork(name))
        if forked is not None and self._deaths == deaths:
            same(forked.value, msgspec.structs.replace(before, id=name), "a fork")
            same(self.value, before, "a session was forked")

    @precondition(lambda self: self._mortal)
    @rule(role=st.sampled_from(["session", "store"]))
    def kill(self, role: str) -> None:
        """Somebody dies while nothing happens: what was stored is found again."""
        before = self.value
        stored = self.host.stored(_CHAT) == before
        self._calm()
        self._deaths += self.host.kill(role)
        self.host.sim.settle()
        if stored:
            same(self.value, before, f"the {role} has died and was restarted")

    @precondition(lambda self: self._mortal)
    @rule(
        role=st.sampled_from(sorted(MORTALS.keys() - {"supervisor"})),
        after=st.sampled_from([0.0, 0.5, 5.0]),
        events=st.integers(0, 6),
    )
    def reply_and_kill(self, role: str, after: float, events: int) -> None:
        """Somebody dies while a turn runs, so long after so many events were seen: with six, tools have begun."""
        before = self.value
        stored = self.host.stored(_CHAT) == before
        self._calm()

        def killer() -> None:
            self.host.sleep(after)
            self._deaths += self.host.kill(role)

        def read(turn: Turn) -> None:
            for _ in itertools.islice(turn, events):
                pass
            self.host.client(killer)
            for _ in itertools.islice(turn, _MOST_EVENTS):
                pass

        self._turn(lambda: self.chat.reply("hm", **self._given), _OPEN, "hm", read)
        self.host.run_until_idle()
        if stored:
            kept = before.thread.messages
            assert self.value.thread.messages[: len(kept)] == kept, "what was stored was lost in a crash"

    # What must hold.

    @property
    def value(self) -> Session:
        """The session's value, once whoever died has a successor that has loaded it."""
        for _ in range(_TRIES):
            try:
                self.host.session(_CHAT, self._engine)
            except (SessionError, StoreError):
                assert self._deaths, "the session cannot be reached, although no process died"
            self.host.sim.settle()
            if self.host.system.whereis((SESSIONS, _CHAT)) is not None:
                return self.chat.value
        raise AssertionError("the session was restarted many times, but never stayed alive")

    @invariant()
    def providers_accept_the_thread(self) -> None:
        """Every call is answered, or pending."""
        if hasattr(self, "chat"):
            session = self.value
            validate(session.thread)
            answered(session.thread.messages, session.pending_tool_calls)

    @invariant()
    def the_fields_agree_with_the_status(self) -> None:
        """A question when it waits for the user, an error when it failed."""
        if not hasattr(self, "chat"):
            return
        session = self.value
        match session.status:
            case "awaiting_user":
                assert session.pending_question is not None, (
                    "the session waits for the user, but has no question"
                )
            case "error":
                assert session.metadata.get("error") is not None, "the session failed, but has no error"
            case "idle" | "completed":
                assert not session.pending_tool_calls, (
                    f"the status is {session.status}, but calls are pending"
                )
            case "awaiting_tools":
                assert session.pending_question is None, (
                    "the session waits for the caller and for the user at once"
                )

    @invariant()
    def the_store_has_it(self) -> None:
        """What a restart would find is what there is; nothing is ever stored for a session that has said nothing."""
        if hasattr(self, "chat") and not self._deaths:
            stored = self.host.stored(_CHAT)
            assert stored is None or stored == self.value, "the stored session differs from the session"

    # Private: in order of use.

    def _turn(
        self,
        say: Callable[[], Turn],
        legal: tuple[str, ...],
        said: str | None,
        read: Callable[[Turn], None] | None = None,
    ) -> None:
        before = self.value
        if before.status not in legal or (before.pending_tool_calls and before.status != "error"):
            self._refused(lambda: say().result())
            return
        deaths, failed = self._deaths, len(self._wild.failed)
        events: list[Any] | None = None
        try:
            turn = say()
            if read is None:
                events = list(itertools.islice(turn, _MOST_EVENTS))
                assert len(events) < _MOST_EVENTS, "the turn has no last event"
            else:
                read(turn)
            result = turn.result()
        except (AllmError, ValueError) as error:
            empty = not before.messages and isinstance(error, ValidationError)
            if not empty:  # nothing was said that could be gone on with
                self._refused_by_model(error, deaths, failed)
            if self._deaths == deaths:
                same(self.value, before, "a turn was refused")
            return
        assert isinstance(result, ChatResult)
        self.host.sim.settle()
        check_turn(
            Observed(
                before=before.thread,
                said=None,
                events=events,
                result=result,
                limit=int(option_of(self._engine, self._given, "max_turns", DEFAULT_MAX_TURNS)),
                passes=passes_of(self._engine, self._given),
                retries=retries_of(self._engine, self._given),
                failed=len(self._wild.failed) - failed,
                undisturbed=read is None and self._deaths == deaths,
            )
        )
        if self._deaths == deaths:
            check_landing(before, said, result, self.value)

    def _refused_by_model(self, error: Exception, deaths: int, failed: int) -> None:
        # Its first call was refused, which is the model's business; or whoever had the session died. What would refuse
        # each call, a misspelt option or a tool that no simulation can run, would let every law hold of nothing.
        of_session = isinstance(error, SessionError | SessionStatusError | StoreError)
        of_model = isinstance(error, AdapterError) or len(self._wild.failed) > failed
        assert self._deaths > deaths or (of_model and not of_session), f"refused without a reason: {error!r}"

    def _refused(self, call: Callable[[], Any]) -> None:
        before, deaths = self.value, self._deaths
        try:
            call()
        except (SessionError, SessionStatusError):
            if self._deaths == deaths:
                same(self.value, before, "an operation was refused")
        else:
            raise AssertionError(f"a session that is {before.status} must refuse that")

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (SessionError, SessionStatusError, StoreError):
            assert self._deaths, "refused, although no process died"
            return None

    def _calm(self) -> None:
        # Between what users do no time passes: without this, crashes would come so fast that the host gives up, as it
        # should.
        self.host.advance(_CALM)
