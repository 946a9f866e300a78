"""Laws of a tool executor: a handler's answer arrives unchanged, and its failures are reported.

    class Plain:
        def execute(self, tool, arguments, context):
            return tool.run(arguments, context)

Rule of this file: an executor is tested by a step in which a scripted model calls one tool. What a law says of a
handler holds for a coroutine function, too, so that most laws play both.
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
from .scenes import SPECIAL, skip

__all__ = ["ExecutorSuite"]

ARGUMENTS = {
    "city": "Lisbon",
    "days": [1, 2],
    "until": None,
    "from": 0,
    "unit": "",
    "note": f" {''.join(SPECIAL)}\n ",
}
ASKED: Final = [Message(role="user", content="?")]


def _wrong_arguments(message: str) -> ToolError:
    return ToolError("invalid_arguments", message=message)


FAILURES = (
    *(ConnectionError, TimeoutError, OSError, LookupError, ValueError, TypeError, RuntimeError),
    _wrong_arguments,
)
LONG = 12_500 * "a letter"
UNCHANGED = "return the result of tool.handler unchanged"
AWAITED = "a plain execute() returns the coroutine as it is, and an `async def execute` awaits it"
LET_THROUGH = (
    "let every exception of a handler through, also SystemExit; the library turns it into a ToolError"
)
WITH_CONTEXT = "call tool.run(arguments, context), which passes the context to a handler that takes it"
RELEASE = "give back in `finally` what execute() takes for a call, such as its place in a semaphore"
_TENANT: ContextVar[str] = ContextVar("tenant")


class ExecutorSuite(Bounded):
    """Subclass it, and implement `executor`."""

    if_it_hangs = "Look at what your executor waits for: a lock that it holds, or a thread that never ends"
    patience: float = 5.0
    """Seconds to wait for what should take only a moment."""
    plain_tools: bool = True
    """Of an asynchronous `execute`: whether it runs handlers that are plain functions, too."""

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
        self.passes(LONG, Ok(LONG))

    def test_a_value_that_is_not_true_is_one(self) -> None:
        """Nothing, zero, an empty text: they are answers, and not the same one."""
        values: tuple[Any, ...] = (None, 0, 0.0, False, "", [], {})
        for value in values:
            for kind, handler in _either(_returns(value, [])):
                raw = self.raw(handler)
                kept = isinstance(raw, Ok) and (type(raw.value), raw.value) == (type(value), value)
                assert kept, f"{kind} returned {value!r}, but execute() returned {raw!r}: {UNCHANGED}"

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

        def fails(_: Any) -> Any:
            raise LookupError("no such city")

        for kind, handler in _either(fails):
            error = self.error(handler)
            assert error.reason == "handler_raised", (
                f"{kind} raised LookupError, but the error is {error!r}: {LET_THROUGH}"
            )
            assert error.cause == "LookupError: no such city", (
                f"LookupError('no such city') of {kind} became {error!r}: {LET_THROUGH}"
            )

    def test_a_handler_that_raises_is_run_once(self) -> None:
        """What it did before it raised may not be done again: money that was sent is sent twice."""
        for failure in FAILURES:
            runs: list[Any] = []
            for kind, handler in _either(_raises(failure, runs)):
                runs.clear()
                self.error(handler)
                assert len(runs) == 1, (
                    f"{kind} raised {type(failure('')).__name__} and was run {len(runs)} times: run it once, and let "
                    "the exception through"
                )

    def test_a_handler_is_run_once_whatever_it_answers(self) -> None:
        """An error that it returns is an answer, too, and so is nothing."""
        answers = (Err("no such city"), Ok(None), None, False, "", Halt("booked"), AskUser("which city?"))
        for answer in answers:
            runs: list[Any] = []
            for kind, handler in _either(_returns(answer, runs)):
                runs.clear()
                self.step(handler)
                assert len(runs) == 1, (
                    f"{kind} returned {answer!r} and was run {len(runs)} times: run it once, and {UNCHANGED}"
                )

    def test_calls_that_failed_hold_up_no_other(self) -> None:
        """However often and however a tool has failed, the next call is run."""

        def fails(arguments: Any) -> Any:
            if arguments["n"] < 8:
                raise (LookupError("no such city"), SystemExit(3))[arguments["n"] % 2]
            return "rain"

        async def fails_later(arguments: Any) -> Any:
            if arguments["n"] < 8:
                raise LookupError("no such city")
            return "rain"

        for handler in (fails, fails_later):
            calls = [script.tool_call("forecast", {"n": n}, id=f"c{n}") for n in range(9)]
            _, events, _ = self.play(handler, calls, max_concurrency=1, tool_timeout=self.patience)
            *failed, last = [event.result for event in events if isinstance(event, ToolExecutionCompleted)]
            assert last == Ok("rain"), (
                f"after eight calls of a tool that ended with {failed}, the next one should have returned 'rain', but "
                f"it ended with {last!r}: {RELEASE}"
            )

    def test_equal_calls_are_run_each(self) -> None:
        """Two equal calls are two: each is run, and gets its own answer, also where the first has failed."""
        runs: list[Any] = []
        for handler in (_returns("rain", runs), _returns(Err("asleep"), runs), _raises(LookupError, runs)):
            runs.clear()
            calls = [script.tool_call("forecast", {"city": "Lisbon"}, id=f"c{n}") for n in range(2)]
            self.play(handler, calls, max_concurrency=1)
            assert len(runs) == 2, (
                f"there were two calls with equal arguments, but the handler was run {len(runs)} times: run it for "
                "each call, and remember no answer and no failure"
            )

    def test_an_exit_is_handler_exit(self) -> None:
        """It ends the tool and nothing else, whatever it exits with."""
        exits = (SystemExit(3), SystemExit(0), SystemExit(), KeyboardInterrupt())
        for leaving in exits:

            def leaves(_: Any, leaving: BaseException = leaving) -> Any:
                raise leaving

            for kind, handler in _either(leaves):
                error = self.error(handler)
                assert error.reason == "handler_exit", (
                    f"{kind} raised {leaving!r}, but the error is {error!r}: {LET_THROUGH}"
                )

    def test_a_tool_error_stays_what_it_is(self) -> None:
        """The model must read which argument does not fit, as the handler of a decorated function says it."""
        for function in (_forecast_of_a_day, _forecast_of_a_day_later):
            error = self.error(made_tool(name="forecast")(function))
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

        async def later(_: Any, context: Any) -> Any:
            return handler(_, context)

        for each in (handler, later):
            got.clear()
            engine, _, raw = self.step(each)
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
        tools = _tools(pay=handler_of("pay"), refund=handler_of("refund"))
        calls = [script.tool_call(name, id=f"c{n}") for n, name in enumerate(names)]
        _, events, _ = self.play(tools, calls, max_concurrency=8)
        got = _results(events)
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
        waits = _is_asynchronous(self.executor())
        calls = [script.tool_call("forecast", {"n": n}, id=f"c{n}") for n in range(2)]
        _, events, _ = self.play(awaited if waits else handler, calls, max_concurrency=2)
        got = [event.result for event in events if isinstance(event, ToolExecutionCompleted)]
        assert got == [Ok(True)] * 2, (
            f"two handlers that wait for each other ended with {got}: hold no lock while a handler runs"
        )

    def test_a_plain_handler_does_not_stop_the_event_loop(self) -> None:
        """On which an asynchronous `execute` runs, and every other call."""
        if not _is_asynchronous(self.executor()):
            skip("execute() is a plain function, which the library runs on a thread")
        if not self.plain_tools:
            skip("this executor is for coroutine functions alone, as the suite's `plain_tools` says")
        waits, goes_on = Event(), Event()

        def plain(_: Any) -> Any:
            waits.set()
            return goes_on.wait(self.patience)

        async def awaited(_: Any) -> Any:
            await asyncio.to_thread(waits.wait, self.patience)
            goes_on.set()

        handlers = {"plain": plain, "awaited": awaited}
        calls = [script.tool_call(name, {}, id=name) for name in handlers]
        _, events, _ = self.play(_tools(**handlers), calls, max_concurrency=2)
        got = _results(events)
        assert got == {"plain": Ok(True), "awaited": Ok(None)}, (
            f"a plain handler that waits for a coroutine ended with {got}: an asynchronous execute() that runs it "
            "itself stops the event loop of all calls; run it with `await asyncio.to_thread(tool.run, arguments, "
            "context)`"
        )

    def test_a_handler_may_take_its_time(self) -> None:
        """How long a tool may run is for `tool_timeout` to say."""
        seconds = self.patience / 10

        async def later(_: Any) -> Any:
            await asyncio.sleep(seconds)
            return False

        handlers = {"a_handler": lambda _: Event().wait(seconds), "a_coroutine_function": later}
        calls = [script.tool_call(name, {}, id=name) for name in handlers]
        _, events, _ = self.play(_tools(**handlers), calls, max_concurrency=2)
        for name, raw in _results(events).items():
            assert raw == Ok(False), (
                f"{name} took {seconds} s and returned False, but execute() returned {raw!r}: set no time limit of "
                "your own"
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

    def test_a_coroutine_is_cancelled_with_its_call(self) -> None:
        """Where it is awaited by an asynchronous `execute`; and the next call is run."""
        executor = self.executor()
        if executor is not None and not _is_asynchronous(executor):
            skip("execute() is a plain function: nothing can cancel a coroutine that it returns")
        for _ in range(4):
            began, over, heard = Event(), Event(), Event()
            handler = _waiting(began, over, heard, self.patience)
            engine = self.engine(handler, [script.tool_call("forecast", {}, id="c0")], executor)
            stream = stream_step(engine, ASKED)
            for event in stream:
                if isinstance(event, ToolExecutionStarted):
                    break
            assert began.wait(self.patience), (
                f"a coroutine function was not run within {self.patience} s, after others were cancelled: {RELEASE}"
            )
            stream.close()
            over.wait(2 * self.patience)
            assert heard.is_set(), (
                "a call was cancelled, but its coroutine ran on to its end: await it in execute(), and neither shield "
                "it nor run it elsewhere"
            )

    def test_a_handler_sees_the_variables_of_its_caller(self) -> None:
        """A request's id, a tenant: what `contextvars` carry."""
        for kind, handler in _either(lambda _: _TENANT.get("nobody's")):
            token = _TENANT.set("Ana's")
            try:
                seen = self.raw(handler)
            finally:
                _TENANT.reset(token)
            assert seen == Ok("Ana's"), (
                f"a context variable of the caller is {seen} in {kind}: run it where execute() was called, or with "
                "contextvars.copy_context().run"
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

        async def later(arguments: Any, context: Any) -> Any:
            await asyncio.sleep(0.003)
            call = getattr(context, "tool_call", None)
            return [arguments["n"], getattr(call, "id", None)]

        tools = _tools(now=handler, later=later)
        wanted = {f"c{n}": Ok([n, f"c{n}"]) for n in range(8)}
        calls = [script.tool_call(tools[n // 4].name, {"n": n}, id=f"c{n}") for n in range(8)]
        _, events, _ = self.play(tools, calls, max_concurrency=at_once)
        got = _results(events)
        assert got == wanted, (
            f"with {at_once} at a time, the handlers returned {wanted}, but execute() returned {got}: store no "
            "arguments, context or result of a call on the executor"
        )

    def passes(self, given: Any, arrives: Any = None) -> None:
        """Check that a handler's answer arrives unchanged, or as `arrives`."""
        for kind, handler in _either(lambda _: given):
            raw = self.raw(handler)
            if raw != (given if arrives is None else arrives):
                raise AssertionError(
                    f"{kind} returned {_shown(given)}, but execute() returned {_shown(raw)}: {UNCHANGED}"
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
        engine, events, result = self.play(handler, [script.tool_call("forecast", arguments, id="c0")])
        completed = [event for event in events if isinstance(event, ToolExecutionCompleted)]
        assert len(completed) == 1, f"the tool was completed {len(completed)} times"
        assert [message.tool_call_id for message in result.tool_results] == ["c0"]
        return engine, result, completed[0].result

    def play(
        self, handler: list[Tool] | Tool | Callable[..., Any] | None, calls: list[Any], **options: Any
    ) -> tuple[Engine, list[Any], StepResult]:
        """One step with these calls of a handler, or of these tools: the engine, the events and the result."""
        engine = self.engine(handler, calls)
        stream = stream_step(engine, ASKED, context={"user": "Ana"}, **options)
        return engine, list(stream), stream.result()

    def engine(
        self,
        handler: list[Tool] | Tool | Callable[..., Any] | None,
        calls: list[Any],
        executor: ToolExecutor | None = None,
    ) -> Engine:
        """One whose model makes these calls, with this executor, or a new one."""
        if handler is None or not isinstance(handler, Tool | list):
            handler = Tool(name="forecast", description="", schema={}, handler=handler)
        return Engine(
            adapter="fake",
            tools=handler if isinstance(handler, list) else [handler],
            tool_executor=executor or self.executor(),
            adapter_opts={"script": [*calls, script.finish("tool_calls")]},
        )


def _either(handler: Callable[[Any], Any]) -> list[tuple[str, Callable[[Any], Any]]]:
    """A handler, and the same as a coroutine function that has to be awaited, with what to call them."""

    async def later(arguments: Any) -> Any:
        await asyncio.sleep(0)
        return handler(arguments)

    return [("a handler", handler), ("a coroutine function", later)]


def _waiting(began: Event, over: Event, heard: Event, seconds: float) -> Callable[[Any], Any]:
    async def handler(_: Any) -> None:
        began.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            heard.set()
            raise
        finally:
            over.set()

    return handler


def _tools(**handlers: Callable[..., Any]) -> list[Tool]:
    return [Tool(name=name, description="", schema={}, handler=each) for name, each in handlers.items()]


def _results(events: list[Any]) -> dict[str, Any]:
    """By the id of the call: what the handler gave."""
    return {event.id: event.result for event in events if isinstance(event, ToolExecutionCompleted)}


def _is_asynchronous(executor: ToolExecutor | None) -> bool:
    return inspect.iscoroutinefunction(getattr(executor, "execute", None))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} letters)"


def _raises(failure: Callable[[str], Exception], runs: list[Any]) -> Callable[[Any], Any]:
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


async def _forecast_of_a_day_later(city: str, days: int) -> str:
    """The same, as a coroutine."""
    return f"{city}: {days}"
