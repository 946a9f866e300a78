"""Eleven laws of a tool executor: what a handler answers arrives as it is, and what it does wrong is said.

Rule of this file: an executor is looked at through a step in which a scripted model calls one tool.
"""

from __future__ import annotations

from typing import Any

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
)
from allm_actors.engine.adapter import ToolExecutor
from allm_actors.engine.engine import Engine
from allm_actors.facade import stream_step
from allm_actors.testing import script

__all__ = ["ExecutorSuite"]

ARGUMENTS = {"city": "Lisbon", "days": [1, 2]}


class ExecutorSuite:
    """Subclass it, and implement `executor`."""

    def executor(self) -> ToolExecutor | None:
        """A new executor; None is the library's own."""
        raise NotImplementedError(f"{type(self).__name__} needs executor()")

    def test_ok_passes_through(self) -> None:
        """A value, told as one."""
        assert self.raw(lambda _: Ok({"rain": 3})) == Ok({"rain": 3})

    def test_err_passes_through(self) -> None:
        """A reason, told as one."""
        assert self.raw(lambda _: Err("no such city")) == Err("no such city")

    def test_a_question_passes_through(self) -> None:
        """A question to the user halts the step."""
        assert self.raw(lambda _: AskUser("which city?")) == AskUser("which city?")

    def test_the_options_of_a_question_pass_through(self) -> None:
        """With all that belongs to it."""
        asked = AskUser("which city?", choices=["Lisbon", "Porto"])
        assert self.raw(lambda _: asked) == asked

    def test_a_halt_passes_through(self) -> None:
        """Its reason and its result."""
        assert self.raw(lambda _: Halt("booked", {"id": 7})) == Halt("booked", {"id": 7})

    def test_a_plain_value_is_ok(self) -> None:
        """Whatever is returned is an answer."""
        assert self.raw(lambda _: [1, 2]) == Ok([1, 2])

    def test_what_is_raised_is_handler_raised(self) -> None:
        """With the exception as its cause."""

        def handler(_: Any) -> Any:
            raise LookupError("no such city")

        error = self.error(handler)
        assert error.reason == "handler_raised"
        assert "no such city" in str(error)

    def test_an_exit_is_handler_exit(self) -> None:
        """`SystemExit` ends the tool and nothing else."""

        def handler(_: Any) -> Any:
            raise SystemExit(3)

        assert self.error(handler).reason == "handler_exit"

    def test_a_tool_without_a_handler_is_not_found(self) -> None:
        """There is nothing to run."""
        assert self.error(None).reason == "not_found"

    def test_the_arguments_arrive_and_are_the_handlers_own(self) -> None:
        """Equal to what the model said; changing them changes nothing of the conversation."""
        got: list[Any] = []

        def handler(arguments: Any) -> Any:
            got.append(dict(arguments, days=list(arguments["days"])))
            arguments["days"].append(3)
            return "ok"

        step = self.step(handler)[1]
        assert got == [ARGUMENTS]
        assert step.response is not None
        assert step.response.tool_calls[0].arguments == ARGUMENTS

    def test_a_second_parameter_gets_the_context(self) -> None:
        """The call, the caller's context, and the engine."""
        got: list[Any] = []

        def handler(_: Any, context: Any) -> Any:
            got.append(context)
            return "ok"

        engine = self.step(handler)[0]
        assert got[0].context == {"user": "Ana"}
        assert got[0].tool_call.name == "forecast"
        assert got[0].tool_call.id == "c0"
        assert got[0].request_id
        assert got[0].engine == engine
        assert not got[0].cancelled

    def raw(self, handler: Any) -> Any:
        """What the handler's answer arrives as."""
        return self.step(handler)[2]

    def error(self, handler: Any) -> ToolError:
        """The error that the tool ended with; the model was told of it."""
        _, step, raw = self.step(handler)
        assert isinstance(raw, Err), raw
        assert isinstance(raw.reason, ToolError), raw.reason
        assert '"error"' in str(step.tool_results[0].content)
        return raw.reason

    def step(self, handler: Any) -> tuple[Engine, StepResult, Any]:
        """One step in which the tool is called once: the engine, the result, and what the handler gave."""
        calls = [script.tool_call("forecast", ARGUMENTS, id="c0"), script.finish("tool_calls")]
        tool = Tool(name="forecast", description="", schema={}, handler=handler)
        engine = Engine(
            adapter="fake", tools=[tool], tool_executor=self.executor(), adapter_opts={"script": calls}
        )
        stream = stream_step(engine, [Message(role="user", content="?")], context={"user": "Ana"})
        events = list(stream)
        completed = [event for event in events if isinstance(event, ToolExecutionCompleted)]
        assert len(completed) == 1, f"the tool was completed {len(completed)} times"
        result: StepResult = stream.result()
        assert [message.tool_call_id for message in result.tool_results] == ["c0"]
        return engine, result, completed[0].result
