"""Laws of a tool executor: a handler's answer arrives unchanged, and its failures are reported.

    class Plain:
        def execute(self, tool, arguments, context):
            return tool.run(arguments, context)

Rule of this file: an executor is tested by a step in which a scripted model calls one tool.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from threading import Barrier, Event
from typing import Any, Final

from allm_actors.data import (
    AskUser,
    Err,
    Halt,
    Message,
    Ok,
    StepResult,
    Tool,
    ToolError,
    ToolExecutionCompleted,
    ToolExecutionStarted,
)
from allm_actors.data.build import tool as made_tool
from allm_actors.engine.adapter import ToolContext, ToolExecutor
from allm_actors.engine.engine import Engine
from allm_actors.facade import stream_step
from allm_actors.testing import script

from .bounded import Bounded

__all__ = ["ExecutorSuite"]

ARGUMENTS = {"city": "Lisbon", "days": [1, 2], "until": None, "from": 0, "unit": ""}
ASKED: Final = [Message(role="user", content="?")]
FAILURES = (ConnectionError, TimeoutError, OSError, LookupError, ValueError, TypeError, RuntimeError)
UNCHANGED = "return the result of tool.handler unchanged"
AWAITED = "a plain execute() returns the coroutine as it is, and an `async def execute` awaits it"
LET_THROUGH = (
    "let every exception of a handler through, also SystemExit; the library turns it into a ToolError"
)
WITH_CONTEXT = "call tool.run(arguments, context), which passes the context to a handler that takes it"
_TENANT: ContextVar[str] = ContextVar("tenant")


class ExecutorSuite(Bounded):
    """Subclass it, and implement `executor`."""

    if_it_hangs = "Look at what your executor waits for: a lock that it holds, or a thread that never ends"
    patience: float = 5.0
    """Seconds to wait for what should take only a moment."""

    def executor(self) -> ToolExecutor | None:
        """A new executor; None is the library's own."""
        raise NotImplementedError(f"{type(self).__name__} needs executor()")

    def test_ok_passes_through(self) -> None:
        """A value, told as one, also one that is an `Ok` itself."""
        self.passes(Ok({"rain": 3}))
        self.passes(Ok(Ok("rain")))

    def test_err_passes_through(self) -> None:
        """A reason, told as one: a text, or data."""
        self.passes(Err("no such city"))
        self.passes(Err({"code": 7, "cities": ["Lisbon"]}))

    def test_a_question_passes_through(self) -> None:
        """A question to the user halts the step."""
        self.passes(AskUser("which city?"))

    def test_the_options_of_a_question_pass_through(self) -> None:
        """With all that belongs to it."""
        self.passes(AskUser("which city?", choices=["Lisbon", "Porto"]))

    def test_a_halt_passes_through(self) -> None:
        """Its reason and its result."""
        self.passes(Halt("booked", {"id": 7}))

    def test_a_plain_value_is_ok(self) -> None:
        """Whatever is returned is an answer."""
        self.passes([1, 2], Ok([1, 2]))

    def test_a_value_that_is_not_true_is_one(self) -> None:
        """Nothing, zero, an empty text: they are answers, and not the same one."""
        values: tuple[Any, ...] = (None, 0, 0.0, False, "", [], {})
        for value in values:
            raw = self.raw(lambda _, value=value: value)
            kept = isinstance(raw, Ok) and (type(raw.value), raw.value) == (type(value), value)
            assert kept, f"a handler returned {value!r}, but execute() returned {raw!r}: {UNCHANGED}"

    def test_a_value_that_json_has_no_form_for_is_one(self) -> None:
        """How it becomes text is the encoder's business."""
        values: tuple[Any, ...] = (("Lisbon", 3), {"Lisbon"}, b"rain", {1: 2})
        for value in values:
            self.passes(value, Ok(value))

    def test_an_awaitable_is_waited_for(self) -> None:
        """A handler may be a coroutine function; what it returns may be returned, or awaited by an asynchronous one."""

        async def handler(_: Any) -> Any:
            return {"rain": 3}

        raw = self.raw(handler)
        assert raw == Ok({"rain": 3}), f"a coroutine function's {{'rain': 3}} became {raw!r}: {AWAITED}"

    def test_what_is_raised_is_handler_raised(self) -> None:
        """With the exception as its cause."""

        def handler(_: Any) -> Any:
            raise LookupError("no such city")

        error = self.error(handler)
        assert error.reason == "handler_raised", (
            f"a handler raised LookupError, but the error is {error!r}: {LET_THROUGH}"
        )
        assert "no such city" in str(error), (
            f"a handler's LookupError('no such city') became {error!r}: {LET_THROUGH}"
        )

    def test_a_handler_that_raises_is_run_once(self) -> None:
        """What it did before it raised may not be done again: money that was sent is sent twice."""
        for failure in FAILURES:
            runs: list[Any] = []
            self.error(_raises(failure, runs))
            assert len(runs) == 1, (
                f"a handler raised {failure.__name__} and was run {len(runs)} times: run it once, and let the "
                "exception through"
            )

    def test_a_handler_is_run_once_whatever_it_answers(self) -> None:
        """An error that it returns is an answer, too, and so is nothing."""
        answers = (Err("no such city"), Ok(None), None, False, "", Halt("booked"), AskUser("which city?"))
        for answer in answers:
            runs: list[Any] = []
            self.step(_returns(answer, runs))
            assert len(runs) == 1, (
                f"a handler returned {answer!r} and was run {len(runs)} times: run it once, and {UNCHANGED}"
            )

    def test_equal_calls_are_run_each(self) -> None:
        """Two equal calls are two: each is run, and gets its own answer, also where the first has failed."""
        runs: list[Any] = []
        for handler in (_returns("rain", runs), _returns(Err("asleep"), runs), _raises(LookupError, runs)):
            runs.clear()
            calls = [script.tool_call("forecast", {"city": "Lisbon"}, id=f"c{n}") for n in range(2)]
            self.run(handler, calls, max_concurrency=1)
            assert len(runs) == 2, (
                f"there were two calls with equal arguments, but the handler was run {len(runs)} times: run it for "
                "each call, and remember no answer and no failure"
            )

    def test_an_exit_is_handler_exit(self) -> None:
        """It ends the tool and nothing else, whatever it exits with."""
        exits = (SystemExit(3), SystemExit(0), SystemExit(), KeyboardInterrupt())
        for leaving in exits:

            def handler(_: Any, leaving: BaseException = leaving) -> Any:
                raise leaving

            error = self.error(handler)
            assert error.reason == "handler_exit", (
                f"a handler raised {leaving!r}, but the error is {error!r}: {LET_THROUGH}"
            )

    def test_a_tool_error_stays_what_it_is(self) -> None:
        """The model must read which argument does not fit, as the handler of a decorated function says it."""
        error = self.error(made_tool(name="forecast")(_forecast_of_a_day))
        assert error.reason == "invalid_arguments", (
            f"a handler raised ToolError('invalid_arguments'), but the error is {error!r}: {LET_THROUGH}"
        )

    def test_a_tool_without_a_handler_is_not_found(self) -> None:
        """There is nothing to run."""
        error = self.error(None)
        assert error.reason == "not_found", (
            f"tool.handler is None, but the error is {error!r}: check for None first, and raise "
            'ToolError("not_found", tool_name=tool.name)'
        )

    def test_the_arguments_arrive_and_are_the_handlers_own(self) -> None:
        """Equal to what the model said; changing them changes nothing of the conversation."""
        got: list[Any] = []

        def handler(arguments: Any) -> Any:
            got.append(dict(arguments, days=list(arguments["days"])))
            arguments["days"].append(3)
            return "ok"

        _, step, raw = self.step(handler)
        assert got == [ARGUMENTS], (
            f"the model called with {ARGUMENTS}, but the handler was run with {got}, and the result is "
            f"{raw!r}: run it once, with the arguments that execute() received"
        )
        assert step.response is not None
        assert step.response.tool_calls[0].arguments == ARGUMENTS, (
            "the handler changed its arguments, and this changed the conversation: pass it the arguments that "
            "execute() received"
        )

    def test_a_second_parameter_gets_the_context(self) -> None:
        """The call, the caller's context, and the engine."""
        got: list[Any] = []

        def handler(_: Any, context: Any) -> Any:
            got.append(context)
            return "ok"

        engine, _, raw = self.step(handler)
        assert got, (
            f"a handler of (arguments, context) was not run, and the result is {raw!r}: {WITH_CONTEXT}"
        )
        _is_of_the_call(got[0], engine)

    def test_calls_of_one_step_have_their_own_answers(self) -> None:
        """One after the other: an executor is shared by all of them."""
        self.has_its_own(1)

    def test_calls_at_once_have_their_own_answers(self) -> None:
        """And their own contexts: an executor keeps nothing of a call."""
        self.has_its_own(8)

    def test_calls_at_once_of_two_tools_run_their_own_handlers(self) -> None:
        """An executor keeps no tool: a payment that was asked for must not become a refund."""

        def handler_of(name: str) -> Any:
            def handler(_: Any) -> Any:
                Event().wait(0.003)
                return name

            return handler

        names = ["pay", "refund"] * 4
        tools = [Tool(name=name, description="", schema={}, handler=handler_of(name)) for name in names[:2]]
        calls = [script.tool_call(name, id=f"c{n}") for n, name in enumerate(names)]
        _, events, _ = self.run(tools, calls, max_concurrency=8)
        got = {each.id: each.result for each in events if isinstance(each, ToolExecutionCompleted)}
        wanted = {f"c{n}": Ok(name) for n, name in enumerate(names)}
        assert got == wanted, (
            f"eight calls of two tools should have returned {wanted}, but execute() returned {got}: store no tool on "
            "the executor"
        )

    def test_calls_at_once_are_run_at_once(self) -> None:
        """None waits for another one to end."""
        both = Barrier(2)

        def handler(_: Any) -> Any:
            return both.wait(self.patience) >= 0

        async def awaited(_: Any) -> Any:
            async with asyncio.timeout(self.patience):
                return await meeting.wait() >= 0

        meeting = asyncio.Barrier(2)
        waits = inspect.iscoroutinefunction(getattr(self.executor(), "execute", None))
        calls = [script.tool_call("forecast", {"n": n}, id=f"c{n}") for n in range(2)]
        _, events, _ = self.run(awaited if waits else handler, calls, max_concurrency=2)
        got = [event.result for event in events if isinstance(event, ToolExecutionCompleted)]
        assert got == [Ok(True)] * 2, (
            f"two handlers that wait for each other ended with {got}: hold no lock while a handler runs"
        )

    def test_a_handler_may_take_its_time(self) -> None:
        """How long a tool may run is for `tool_timeout` to say."""
        seconds = self.patience / 10
        raw = self.raw(lambda _: Event().wait(seconds))
        assert raw == Ok(False), (
            f"a handler took {seconds} s and returned False, but execute() returned {raw!r}: set no time limit of your "
            "own"
        )

    def test_a_handler_hears_that_its_call_was_cancelled(self) -> None:
        """By its `context.cancelled`, and can stop what it does for nobody."""
        began, over, heard = Event(), Event(), []

        def handler(_: Any, context: ToolContext) -> Any:
            began.set()
            try:
                heard.append(context.cancelled is not None and bool(context.cancelled.wait(self.patience)))
            finally:
                over.set()

        stream = stream_step(self.engine(handler, [script.tool_call("forecast", {}, id="c0")]), ASKED)
        for event in stream:
            if isinstance(event, ToolExecutionStarted):
                break
        assert began.wait(self.patience), (
            f"a handler was not run within {self.patience} s: run it in execute(), or await it there"
        )
        stream.close()
        over.wait(2 * self.patience)
        assert heard == [True], (
            f"a call was cancelled while its handler waited on context.cancelled, which returned {heard}: pass "
            "the handler the context that execute() received"
        )

    def test_a_handler_sees_the_variables_of_its_caller(self) -> None:
        """A request's id, a tenant: what `contextvars` carry."""
        seen: list[str] = []
        token = _TENANT.set("Ana's")
        try:
            self.step(lambda _: seen.append(_TENANT.get("nobody's")))
        finally:
            _TENANT.reset(token)
        assert seen == ["Ana's"], (
            f"a context variable of the caller is {seen} in the handler: run it where execute() was called, or "
            "with contextvars.copy_context().run"
        )

    def test_a_decorated_tool_gets_its_context(self) -> None:
        """A parameter that is annotated as `ToolContext`: the signature of such a handler is that of its function."""
        _, _, raw = self.step(made_tool(name="forecast")(_whose_forecast), arguments={})
        assert raw == Ok("Ana"), (
            f"@tool made a handler of f(context: ToolContext), which returned {raw!r}: {WITH_CONTEXT}"
        )

    def has_its_own(self, at_once: int) -> None:
        """Check that each of several calls is run with its own arguments and context, and gets its own answer."""

        def handler(arguments: Any, context: Any) -> Any:
            Event().wait(0.003)  # as handlers do, so that calls at once meet
            call = getattr(context, "tool_call", None)
            return [arguments["n"], getattr(call, "id", None)]

        wanted = {f"c{n}": Ok([n, f"c{n}"]) for n in range(8)}
        calls = [script.tool_call("forecast", {"n": n}, id=f"c{n}") for n in range(8)]
        _, events, _ = self.run(handler, calls, max_concurrency=at_once)
        got = {each.id: each.result for each in events if isinstance(each, ToolExecutionCompleted)}
        assert got == wanted, (
            f"with {at_once} at a time, the handlers returned {wanted}, but execute() returned {got}: store no "
            "arguments, context or result of a call on the executor"
        )

    def passes(self, given: Any, arrives: Any = None) -> None:
        """Check that a handler's answer arrives unchanged, or as `arrives`."""
        raw = self.raw(lambda _: given)
        assert raw == (given if arrives is None else arrives), (
            f"a handler returned {given!r}, but execute() returned {raw!r}: {UNCHANGED}"
        )

    def raw(self, handler: Any) -> Any:
        """What the handler's answer arrives as."""
        return self.step(handler)[2]

    def error(self, handler: Any) -> ToolError:
        """The error that the tool ended with; the model was told of it."""
        _, step, raw = self.step(handler)
        assert isinstance(raw, Err), f"no result was possible, but execute() returned {raw!r}: {LET_THROUGH}"
        assert isinstance(raw.reason, ToolError), raw.reason
        assert '"error"' in str(step.tool_results[0].content)
        return raw.reason

    def step(
        self, handler: Tool | Callable[..., Any] | None, arguments: dict[str, Any] = ARGUMENTS
    ) -> tuple[Engine, StepResult, Any]:
        """One step in which the tool is called once: the engine, the result, and what the handler gave."""
        engine, events, result = self.run(handler, [script.tool_call("forecast", arguments, id="c0")])
        completed = [event for event in events if isinstance(event, ToolExecutionCompleted)]
        assert len(completed) == 1, f"the tool was completed {len(completed)} times"
        assert [message.tool_call_id for message in result.tool_results] == ["c0"]
        return engine, result, completed[0].result

    def run(
        self, handler: list[Tool] | Tool | Callable[..., Any] | None, calls: list[Any], **options: Any
    ) -> tuple[Engine, list[Any], StepResult]:
        """One step with these calls of a handler, or of these tools: the engine, the events and the result."""
        engine = self.engine(handler, calls)
        stream = stream_step(engine, ASKED, context={"user": "Ana"}, **options)
        return engine, list(stream), stream.result()

    def engine(self, handler: list[Tool] | Tool | Callable[..., Any] | None, calls: list[Any]) -> Engine:
        """One whose model makes these calls."""
        if handler is None or not isinstance(handler, Tool | list):
            handler = Tool(name="forecast", description="", schema={}, handler=handler)
        return Engine(
            adapter="fake",
            tools=handler if isinstance(handler, list) else [handler],
            tool_executor=self.executor(),
            adapter_opts={"script": [*calls, script.finish("tool_calls")]},
        )


def _raises(failure: type[Exception], runs: list[Any]) -> Callable[[Any], Any]:
    def handler(arguments: Any) -> Any:
        runs.append(arguments)
        raise failure("it broke after the money was sent")

    return handler


def _returns(answer: Any, runs: list[Any]) -> Callable[[Any], Any]:
    def handler(arguments: Any) -> Any:
        runs.append(arguments)
        return answer

    return handler


def _is_of_the_call(context: Any, engine: Engine) -> None:
    """Check that a handler was given the context of its call."""
    say = "the handler did not get the context that execute() received"
    assert isinstance(context, ToolContext), f"{say}, but {context!r}: {WITH_CONTEXT}"
    assert context.context == {"user": "Ana"}, say
    assert context.tool_call is not None, say
    assert (context.tool_call.name, context.tool_call.id) == ("forecast", "c0"), say
    assert context.request_id, say
    assert context.engine == engine, say
    assert context.session_id is None, say
    assert context.cancelled is not None, (
        f"{say}: it has no `cancelled`, so a handler is never told that its call was cancelled"
    )
    assert not context.cancelled, say


def _whose_forecast(context: ToolContext) -> str:
    """Whom it is for."""
    return str(context.context["user"])


def _forecast_of_a_day(city: str, days: int) -> str:
    """The forecast of a city, for one day."""
    return f"{city}: {days}"
