"""Hypothesis plays the world: it answers in any order, twice or never, breaks, dawdles, and cancels when it likes."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allm_actors.data import (
    AdapterError,
    AskUser,
    ChatCompleted,
    ChatResult,
    Err,
    ErrorEvent,
    Halt,
    Message,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    Request,
    Response,
    StepCompleted,
    StepResult,
    TextDelta,
    Thread,
    Tool,
    ToolCallCompleted,
    ToolCallStarted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
)
from allm_actors.data.compact import with_help
from allm_actors.data.rules.validate import validate
from allm_actors.execution.effects import (
    AskHalt,
    CallModel,
    CancelModel,
    CancelTool,
    Checkpoint,
    Emit,
    Finish,
    ParseAnswer,
    Refused,
    RunTool,
    SettleError,
)
from allm_actors.execution.fold import fold
from allm_actors.execution.inputs import (
    AnswerParsed,
    Cancelled,
    HaltAnswered,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from allm_actors.execution.loop import Options, start, step
from allm_actors.execution.tools import settle, settle_error

HI = Thread().add_user("hi")
TOOLS = {
    "echo": Tool(name="echo", description="", schema={}),
    "quick": Tool(name="quick", description="", schema={}, timeout=1.0, effect="idempotent"),
    "mine": Tool(name="mine", description="", schema={}, manual=True),
    "small": Tool(name="small", description="", schema={"required": ["x"]}, compact=True),
}
TOOLS = {tool.name: tool for tool in with_help(list(TOOLS.values()))}
IDS = ["c0", "c1", "c2", "c3"]

options = st.builds(
    Options,
    kind=st.sampled_from(["chat"] * 6 + ["step", "generate"]),
    request_id=st.just("r1"),
    mode=st.sampled_from(["auto"] * 6 + ["manual"]),
    max_turns=st.integers(1, 4),
    max_concurrency=st.sampled_from([None, 1, 2, 3]),
    on_tool_error=st.sampled_from(["continue"] * 4 + ["halt"] + ["function"] * 3),
    halt_when=st.booleans(),
    tools=st.just(TOOLS),
    structured_finalize=st.booleans(),
    nudge=st.sampled_from([None, "", "now"]),
    parses=st.booleans(),
    max_retries=st.integers(0, 3),
    pricing=st.sampled_from([{}, {"input": 2.0, "output": 4.0}]),
)
texts = st.text(max_size=5)
made = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.sampled_from(["echo", "echo", "echo", "quick", "mine", "nope", "small", "tool_help"]),
        st.sampled_from(["whole", "whole", "whole", "empty", "malformed", "cut off"]),
    ),
    unique_by=lambda call: call[0],
    min_size=1,
    max_size=4,
)
finishes = st.sampled_from(["tool_calls"] * 12 + ["stop", "stop", "length", "content_filter", "other", None])
results = st.sampled_from(["text", object(), Err("no"), ValueError("x"), AskUser("which?"), Halt("plan")])
errors = st.sampled_from([AdapterError("rate_limited"), AdapterError("timeout")])
calms = st.sampled_from([8, 20, 0, 2, 4])  # so much news comes before any trouble, or no run would get far


class LoopMachine(RuleBasedStateMachine):
    """The machine's neighbours, and what they may rely on."""

    @initialize(options=options, calm=calms)
    def begin(self, options, calm):
        self.options = options
        self.calm = calm
        self.quiet = 9  # a model that only talks gets nowhere
        self.events = []
        self.model = None  # the turn of the open model call
        self.running = {}  # RunTool by call id
        self.settling = {}
        self.judging = None
        self.parsing = None
        self.asked = []  # CallModel effects
        self.stored = None
        self.ran = []  # every (turn, call id) that ever ran
        self.open_calls = set()  # started for the reader, and not completed
        self.result = None
        self.last_news = None
        self.state, effects = start(options, HI)
        self.perform(effects)

    # What happens.

    @precondition(lambda self: self.result is not None)
    @rule(options=options, calm=calms)
    def another_run_begins(self, options, calm):
        self.begin(options, calm)

    @precondition(lambda self: self.model is not None and len(self.events) < self.quiet)
    @rule(words=texts)
    def the_model_talks(self, words):
        self.tell(ModelEvents(self.model, [MessageStarted(), TextDelta(words)]))

    @precondition(lambda self: self.model is not None)
    @rule(calls=made, finish=finishes)
    def the_model_calls(self, calls, finish):
        events = []
        for call_id, name, how in calls:
            events.append(ToolCallStarted(call_id, name))
            if how != "cut off":
                metadata = {"arguments_error": "bad"} if how == "malformed" else {}
                arguments = {"x": 1, "names": ["small"]} if how == "whole" else {}
                events.append(ToolCallCompleted(call_id, name, arguments, "{}", metadata))
        events.append(RawChunk(("usage", {"input_tokens": 3, "output_tokens": 2})))
        turn = self.model
        self.tell(
            ModelEvents(turn, [*events, MessageCompleted(Message(role="assistant", content=""), finish)])
        )
        self.tell(ModelEnded(turn))

    @precondition(lambda self: self.model is not None and self.trouble())
    @rule()
    def the_model_ends(self):
        self.tell(ModelEnded(self.model))

    @precondition(lambda self: self.model is not None and self.trouble())
    @rule(error=errors)
    def the_stream_breaks(self, error):
        self.tell(ModelEvents(self.model, [ErrorEvent(error)]))

    @precondition(lambda self: self.model is not None and self.trouble())
    @rule(error=errors, preflight=st.booleans())
    def the_model_fails(self, error, preflight):
        self.tell(ModelFailed(self.model, error, preflight))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 3), result=results)
    def a_tool_returns(self, which, result):
        run = self.pick(self.running, which)
        policy = self.options.on_tool_error
        outcome = settle(run.call, result, policy="continue" if policy == "function" else policy)
        self.tell(ToolReturned(run.call.id, outcome, run.turn))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 3))
    def a_tool_does_its_work(self, which):
        run = self.pick(self.running, which)
        self.tell(ToolReturned(run.call.id, settle(run.call, {"x": 1}), run.turn))

    @precondition(lambda self: self.running or self.settling)
    @rule(which=st.integers(0, 3), too_slow=st.booleans())
    def a_worker_is_lost(self, which, too_slow):
        work = self.pick(self.running | self.settling, which)
        news = ToolTimedOut(work.call.id) if too_slow else ToolCrashed(work.call.id, "gone", work.turn)
        self.tell(news)

    @precondition(lambda self: self.settling)
    @rule(which=st.integers(0, 3), decision=st.sampled_from([("continue", 1), "halt", None]))
    def an_error_is_settled(self, which, decision):
        work = self.pick(self.settling, which)
        outcome = settle_error(work.call, work.error, policy=lambda call, error: decision)
        self.tell(ToolReturned(work.call.id, outcome, work.turn))

    @precondition(lambda self: self.judging is not None)
    @rule(answer=st.sampled_from([False, None, 0, "", True, "yes", AdapterError("unknown")]))
    def halt_when_answers(self, answer):
        self.tell(HaltAnswered(self.judging, answer))

    @precondition(lambda self: self.parsing is not None)
    @rule(how=st.sampled_from(["fits", "misfits", "misfits", "breaks"]))
    def the_answer_is_parsed(self, how):
        self.tell(self.parsed(how))

    def parsed(self, how):
        said = {
            "fits": {"value": 42},
            "misfits": {"problem": "bad"},
            "breaks": {"error": AdapterError("unknown")},
        }
        return AnswerParsed(self.parsing, **said[how])

    @precondition(lambda self: self.trouble() and self.result is None)
    @rule(reason=st.sampled_from(["cancelled", "interrupted", "error"]), begun=st.integers(0, 3))
    def somebody_cancels(self, reason, begun):
        unbegun = frozenset(list(self.running)[begun:])
        for call_id in unbegun:  # whoever performs effects drops them, and the word that they were started
            run = self.running.pop(call_id)
            self.ran.remove((run.turn, call_id))
            if (run.turn, call_id) not in self.ran:
                self.open_calls.discard(call_id)
        self.tell(Cancelled(reason, unbegun=unbegun))

    def the_rest_goes_well(self):
        talk = [
            MessageStarted(),
            TextDelta("ok"),
            MessageCompleted(Message(role="assistant", content="ok"), "stop"),
        ]
        for _ in range(200):
            if self.result is not None:
                return
            if self.running:
                run = self.pick(self.running, 0)
                self.tell(ToolReturned(run.call.id, settle(run.call, {"x": 1}), run.turn))
            elif self.settling:
                work = self.pick(self.settling, 0)
                self.tell(ToolReturned(work.call.id, settle_error(work.call, work.error), work.turn))
            elif self.judging is not None:
                self.tell(HaltAnswered(self.judging, False))
            elif self.parsing is not None:
                self.tell(self.parsed("misfits"))
            else:
                turn = self.model
                self.tell(ModelEvents(turn, talk))
                self.tell(ModelEnded(turn))
        raise AssertionError("a run comes to its end")

    def trouble(self):
        return self.calm < 0

    # What changes nothing.

    @rule(turn=st.integers(-1, 9), call_id=st.sampled_from([*IDS, "c9"]), kind=st.integers(0, 7))
    def stray_news_changes_nothing(self, turn, call_id, kind):
        outcome = settle(ToolCallCompleted(call_id, "echo", {}), 1)
        news = [
            ModelEvents(turn, [TextDelta("late")]),
            ModelEnded(turn),
            ModelFailed(turn, AdapterError("unknown")),
            ToolReturned(call_id, outcome, turn),
            ToolCrashed(call_id, "late", turn),
            ToolTimedOut(call_id, turn),
            HaltAnswered(turn, True),
            AnswerParsed(turn, 1),
        ][kind]
        awaited = {
            0: self.model == turn,
            1: self.model == turn,
            2: self.model == turn,
            6: self.judging == turn,
            7: self.parsing == turn,
        }.get(
            kind,
            any(work.turn == turn for key, work in (self.running | self.settling).items() if key == call_id),
        )
        if not awaited:
            self.changes_nothing(news)

    @precondition(lambda self: self.last_news is not None and not isinstance(self.last_news, ModelEvents))
    @rule()
    def the_same_news_again_changes_nothing(self):
        again = self.last_news
        settles = (
            isinstance(again, (ToolCrashed, ToolTimedOut, ToolReturned))
            and again.call_id in self.settling | self.running
        )
        if not settles:
            self.changes_nothing(again)

    # What holds.

    @invariant()
    def at_most_as_many_tools_run_as_allowed(self):
        if self.options.max_concurrency is not None:
            assert len(self.running) <= self.options.max_concurrency

    @invariant()
    def only_one_thing_is_waited_for(self):
        tools = bool(self.running or self.settling)
        asked = [self.model, self.judging, self.parsing]
        assert sum(turn is not None for turn in asked) + tools == (0 if self.result is not None else 1)

    @invariant()
    def the_reader_knows_every_tool_that_runs(self):
        assert set(self.running) <= self.open_calls

    def teardown(self):
        """A run that was left alone can always come to its end."""
        if hasattr(self, "result"):
            self.the_rest_goes_well()

    # The world.

    def pick(self, works, which):
        return list(works.values())[which % len(works)]

    def tell(self, news):
        if isinstance(news, (ModelEnded, ModelFailed)):
            self.model = None
        if isinstance(news, (HaltAnswered, Cancelled)):
            self.judging = None
        if isinstance(news, (AnswerParsed, Cancelled)):
            self.parsing = None
        if isinstance(news, (ToolReturned, ToolCrashed)):
            self.running.pop(news.call_id, None)
            self.settling.pop(news.call_id, None)
        if isinstance(news, ToolTimedOut):
            self.settling.pop(news.call_id, None)
        self.last_news = news
        self.calm -= 1
        before = self.state
        self.state, effects = step(before, news)
        self.perform(effects)

    def changes_nothing(self, news):
        after, effects = step(self.state, news)
        assert after is self.state
        assert effects == ()

    def perform(self, effects):
        assert not effects or self.result is None, "nothing is done after the end"
        for effect in effects:
            self.do(effect)

    def do(self, effect):
        match effect:
            case Emit(events):
                assert events
                self.show(events)
            case CallModel():
                self.call(effect)
            case CancelModel(turn):
                assert turn == self.model
                self.model = None
            case RunTool(call, tool, _, request_id, turn):
                assert self.stored is not None
                assert self.stored.messages[-1].role in ("assistant", "tool")
                assert tool is TOOLS[call.name]
                assert not tool.manual
                assert "arguments_error" not in call.metadata
                assert not tool.compact or "x" in call.arguments, "a stub is not called blindly"
                assert request_id == "r1"
                runs = 1 if tool.effect == "once" else 2
                assert self.ran.count((turn, call.id)) < runs, "no call runs twice, unless that does no harm"
                self.ran.append((turn, call.id))
                self.running[call.id] = effect
            case SettleError(call):
                assert self.options.on_tool_error == "function"
                self.settling[call.id] = effect
            case CancelTool(call_id):
                assert (
                    call_id in self.running
                    or call_id in self.settling
                    or isinstance(self.last_news, ToolTimedOut)
                )
                self.running.pop(call_id, None)
                self.settling.pop(call_id, None)
            case AskHalt(turn):
                self.judging = turn
            case ParseAnswer(turn):
                assert self.options.parses
                self.parsing = turn
            case Checkpoint(thread=thread):
                assert thread.messages[: len(HI.messages)] == HI.messages
                validate(thread)
                self.stored = thread
            case Finish(result):
                self.finish(result)

    def call(self, effect):
        assert self.model is None, "at most one model call is open"
        assert not self.running, "every call is answered before the next one"
        assert not self.settling
        assert effect.turn == len(self.asked)
        validate(Request(messages=effect.thread.messages))
        self.asked.append(effect)
        drafts = [asked for asked in self.asked if asked.purpose != "finalize"]
        retries = self.options.max_retries if self.options.parses else 0
        finalizes = self.options.kind == "chat" and self.options.structured_finalize
        if finalizes:
            assert len(drafts) <= self.options.max_turns, "a draft need not fit"
        assert len(self.asked) <= self.options.max_turns + retries + finalizes, "model calls are bounded"
        assert len(self.asked) - len(drafts) <= 1 + retries
        self.model = effect.turn

    def show(self, events):
        for event in events:
            match event:
                case ToolExecutionStarted(id=call_id):
                    self.open_calls.add(call_id)
                case ToolExecutionCompleted(id=call_id):
                    self.open_calls.remove(call_id)
                case StepCompleted(thread=thread):
                    assert thread == self.stored, "what is shown was stored"
                    assert not self.open_calls
                case ChatCompleted(result=result):
                    assert (
                        self.stored is None
                        or result.thread == self.stored
                        or self.options.structured_finalize
                    )
        self.events += events

    def finish(self, result):
        assert self.result is None, "a run finishes once"
        self.result = result
        assert self.model is None
        assert self.judging is None
        assert self.parsing is None
        assert not self.running, "no worker is left behind"
        assert not self.settling
        match result:
            case Refused():
                assert self.events == []
            case Response():
                assert self.options.kind == "generate"
                told = fold(self.events).response()
                assert told.output_text == result.output_text
                if not self.options.parses:
                    assert told.usage == result.usage
                self.is_priced(result)
                assert result.request_id == "r1"
                self.fits_or_says_why(result)
                if self.options.parses and self.events and isinstance(self.events[-1], StepCompleted):
                    assert told == result
            case StepResult():
                self.ends_with(StepCompleted)
                assert fold(self.events).step_result() == result
                if result.response.finish_reason == "error":
                    self.has_shown(result.response.metadata["error"])
                self.fits_or_says_why(result.response)
                self.is_priced(result.response)
                self.can_be_asked_with(
                    result.thread, bool(result.metadata.keys() & {"mode", "manual_tool_calls"})
                )
            case ChatResult():
                self.ends_with(ChatCompleted)
                assert self.events[-1].result is result
                left = result.metadata.get("manual_tool_calls") or result.halted_reason == "manual_tool_calls"
                self.can_be_asked_with(result.thread, bool(left))
                if result.halted_reason == "error":
                    self.has_shown(result.metadata["error"])
                if result.final_response is not None:
                    assert fold(self.events).response() == result.final_response
                told = fold(self.events[:-1], HI).chat_result()
                assert told.steps == result.steps
                assert result.thread.messages[: len(told.thread.messages)] == told.thread.messages
                assert all(step.response.request_id == "r1" for step in result.steps)
                for step in result.steps:
                    self.is_priced(step.response)
                rejected = [step for step in result.steps if "rejected" in step.response.metadata]
                assert len(rejected) <= (self.options.max_retries if self.options.parses else 0)
                assert not any(step.done or step.response.parsed for step in rejected)
                second = result.metadata.get("structured_finalize", {})
                if result.halted_reason == "completed" and "pass_2_error" not in second:
                    self.fits_or_says_why(result.final_response)

    def has_shown(self, error):
        """An error that ends a run is shown, once."""
        assert sum(isinstance(event, ErrorEvent) and event.error is error for event in self.events) == 1

    def is_priced(self, response):
        if self.options.pricing and response.usage.input_tokens is not None and self.quietly_ended:
            assert response.usage.total_cost == pytest.approx(response.usage.input_tokens / 3 * 14e-6)

    @property
    def quietly_ended(self):
        return not isinstance(self.last_news, Cancelled)

    def fits_or_says_why(self, response):
        if self.options.parses and response.finish_reason == "stop":
            assert response.parsed == 42
        else:
            assert response.parsed is None

    def ends_with(self, kind):
        assert [type(event) for event in self.events].count(kind) == 1
        assert type(self.events[-1]) is kind

    def can_be_asked_with(self, thread, left):
        validate(thread)
        if not left:
            validate(Request(messages=thread.messages))


TestLoop = LoopMachine.TestCase
