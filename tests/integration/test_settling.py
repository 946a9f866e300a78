"""What the user's code makes of a tool's end: asked once, in time, and with values of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import SimHost, explore_chat, script

HI = [allm.user("hi")]
ENDLESS, SOON = 1e6, 10.0


def says(text: str) -> list[Any]:
    return [script.text(text), script.finish("stop")]


def calls(*made: tuple[str, str]) -> list[Any]:
    """Calls, as (id, name)."""
    return [*(script.tool_call(name, {}, id=id) for id, name in made), script.finish("tool_calls")]


def tool(name: str, handler: Any, **options: Any) -> allm.Tool:
    return allm.Tool(name=name, description="", schema={}, handler=handler, **options)


def fake(*scripts: list[Any], tools: Any = ()) -> allm.Engine:
    return allm.Engine(adapter="fake", tools=tools, adapter_opts={"scripts": list(scripts)})


def fails(_arguments: Any) -> Any:
    raise LookupError("no such city")


def chat(
    host: SimHost, *tools: allm.Tool, called: tuple[tuple[str, str], ...] = (("c0", "t"),), **options: Any
) -> Any:
    """What a chat comes to that calls the tools once."""
    session = host.session("s", fake(calls(*called), says("done"), tools=list(tools)))
    return session.reply("hi", **options).result()


def told(result: Any) -> str:
    """The first answer of a tool that the model was given."""
    content = next(message.content for message in result.thread.messages if message.role == "tool")
    assert isinstance(content, str)
    return content


# --- once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["once", "pure"])
@pytest.mark.parametrize("seconds", [0.3, ENDLESS])
def test_a_policy_that_takes_longer_than_the_tool_may_is_asked_once(effect: Any, seconds: float) -> None:
    asked = []
    with SimHost() as host:

        def policy(_call: Any, error: Any) -> str:
            asked.append(error.reason)
            host.sleep(seconds)
            return "halt"

        result = chat(host, tool("t", handler=fails, timeout=0.2, effect=effect), on_tool_error=policy)
        assert asked == ["handler_raised"]
        assert result.halted_reason == "tool_error"
        assert "no such city" in told(result)
        assert host.now <= 0.5, "the policy has as much time as the tool, and no more"


def test_a_policy_is_asked_once_when_its_worker_is_killed() -> None:
    asked = []
    with SimHost() as host:

        def policy(_call: Any, error: Any) -> str:
            asked.append(error.reason)
            host.sleep(ENDLESS)
            return "continue"

        def kill() -> None:
            host.sleep(1.0)
            host.kill("tool")

        host.client(kill)
        result = chat(host, tool("t", handler=fails, effect="pure"), on_tool_error=policy)
        assert (asked, result.halted_reason) == (["handler_raised"], "tool_error")
        assert "no such city" in told(result)


def test_a_handler_that_fails_when_its_time_is_over_fails_once_for_the_policy() -> None:
    """Whichever comes first, its end or that of its time: in any order."""

    def scenario(host: SimHost) -> None:
        asked = []

        def handler(_arguments: Any) -> Any:
            host.sleep(0.2)
            raise LookupError("late")

        def policy(_call: Any, error: Any) -> str:
            asked.append(error.reason)
            host.sleep(host.pick(0.0, 0.1))
            return "continue"

        result = chat(host, tool("t", handler=handler, timeout=0.2), on_tool_error=policy)
        host.run_until_idle()
        assert result.halted_reason == "completed"
        assert asked in (["handler_raised"], ["timeout"])
        assert told(result).startswith(
            '{"error":"t raised' if asked == ["handler_raised"] else '{"error":"t did not'
        )

    explore_chat(scenario, seeds=range(150))


def test_a_policy_is_not_asked_about_a_call_that_was_cancelled() -> None:
    asked = []
    with SimHost() as host:

        def handler(_arguments: Any, context: Any) -> Any:
            context.cancelled.wait()
            raise LookupError("left")

        waits = tool("t", handler=handler)
        session = host.session("s", fake(calls(("c0", "t")), says("done"), tools=[waits]))
        turn = session.reply("hi", on_tool_error=lambda _call, error: asked.append(error))
        next(event for event in turn if event.tag == "tool_execution_started")
        turn.close()
        host.run_until_idle()
        assert asked == []
        assert turn.result().halted_reason == "cancelled"


def test_an_encoder_that_comes_to_no_end_costs_the_answer_and_not_the_chat() -> None:
    with SimHost() as host:

        def encoder(_value: Any) -> str:
            host.sleep(ENDLESS)
            return "never"

        gives = tool("t", handler=lambda _: 1, timeout=0.2)
        result = chat(host, gives, tool_result_encoder=encoder)
        assert result.halted_reason == "completed"
        assert "encoding its answer as text did not finish" in told(result)


@pytest.mark.parametrize("seed", range(20))
def test_no_more_calls_than_may_are_started_and_not_answered(seed: int) -> None:
    """Also while the error of one that took too long is being given its text."""
    with SimHost(seed=seed) as host:
        waits = tool("t", handler=lambda _, context: context.cancelled.wait())
        quick = tool("q", handler=lambda _: 1)
        asked = [("c0", "t"), *((f"c{n}", "q") for n in range(1, 5))]
        session = host.session("s", fake(calls(*asked), says("done"), tools=[waits, quick]))
        options = {"max_concurrency": 1, "tool_timeout": 0.5, "tool_result_encoder": lambda _: "x"}
        open_now, most = 0, 0
        for event in session.reply("hi", **options):
            open_now += (event.tag == "tool_execution_started") - (event.tag == "tool_result_encoded")
            most = max(most, open_now)
        assert most == 1


def later(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def asynchronous(arguments: Any) -> Any:
        return handler(arguments)

    return asynchronous


def test_the_policies_of_many_asynchronous_tools_do_not_wait_for_one_another() -> None:
    """However few threads the event loop has for others."""
    count = 3 * (min(32, (os.cpu_count() or 1) + 4))
    asked, all_asked = [], threading.Barrier(count)

    def policy(_call: Any, error: Any) -> str:
        asked.append(error.reason)
        all_asked.wait(SOON)
        return "continue"

    many = [script.tool_call("t", id=f"c{number}") for number in range(count)]
    engine = fake([*many, script.finish("tool_calls")], says("done"), tools=[tool("t", handler=later(fails))])
    result = allm.chat(engine, HI, on_tool_error=policy, max_concurrency=count)
    assert result.halted_reason == "completed"
    assert asked == ["handler_raised"] * count


def test_a_policy_that_hangs_does_not_hold_its_callers_event_loop() -> None:
    held = threading.Event()
    hangs = tool("t", handler=later(fails), timeout=0.1)

    async def main() -> allm.ChatResult:
        engine = fake(calls(("c0", "t")), says("done"), tools=[hangs])
        return await allm.aio.chat(engine, HI, on_tool_error=lambda *_: held.wait(SOON) and "continue")

    began = time.monotonic()
    assert asyncio.run(main()).halted_reason == "tool_error"
    assert time.monotonic() - began < SOON / 2
    held.set()


@pytest.mark.parametrize("who", ["handler", "policy", "encoder", "halt_when", "type"])
def test_nobody_waits_in_a_turn_for_the_next_one_of_its_session(who: str) -> None:
    refused: list[BaseException] = []

    def waits(*_: Any) -> Any:
        try:
            session.reply("and now?").result()
        except allm.SessionBusy as busy:
            refused.append(busy)
        raise LookupError("no")

    @dataclass
    class Cat:
        name: str
        __post_init__ = waits

    handler = waits if who == "handler" else fails
    options: dict[str, Any] = {
        "handler": {},
        "policy": {"on_tool_error": waits},
        "encoder": {"tool_result_encoder": waits},
        "halt_when": {"halt_when": waits},
        "type": {"response_model": Cat, "max_retries": 0},
    }[who]
    with SimHost() as host:
        engine = fake(calls(("c0", "t")), says('{"name": "Ash"}'), tools=[tool("t", handler=handler)])
        session = host.session("s", engine)
        session.reply("hi", **options).result()
        assert host.now < 1.0
    assert refused
    assert "this code runs inside a turn of session 's'" in str(refused[0])


# --- exits --------------------------------------------------------------------------------------------------------


class Odd(BaseException):
    """What no library knows."""


EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Odd]


def leaves(kind: type[BaseException]) -> Callable[..., Any]:
    def function(*_arguments: Any) -> Any:
        raise kind("away")

    return function


@pytest.mark.parametrize("kind", EXITS)
def test_a_handler_that_leaves_has_failed_and_nothing_more(kind: type[BaseException]) -> None:
    asked = []

    async def later(_arguments: Any) -> Any:
        raise kind("away")

    for handler in (leaves(kind), later):
        engine = fake(calls(("c0", "t")), says("done"), tools=[tool("t", handler=handler)])
        result = allm.chat(
            engine, HI, on_tool_error=lambda _, error: asked.append(error.reason) or "continue"
        )
        assert result.halted_reason == "completed"
        assert told(result) == f'{{"error":"t exited with {kind.__name__}: away"}}'
    assert asked == ["handler_exit", "handler_exit"]


@pytest.mark.parametrize("kind", EXITS)
def test_a_policy_that_leaves_is_one_that_raises(kind: type[BaseException]) -> None:
    engine = fake(calls(("c0", "t")), says("done"), tools=[tool("t", handler=fails)])
    result = allm.chat(engine, HI, on_tool_error=leaves(kind))
    assert result.halted_reason == "tool_error"
    error = result.metadata["on_tool_error_exception"]
    assert error.message == f"on_tool_error raised RuntimeError: exited with {kind.__name__}: away"


@pytest.mark.parametrize("kind", EXITS)
def test_an_encoder_that_leaves_is_one_that_raises(kind: type[BaseException]) -> None:
    engine = fake(calls(("c0", "nope")), says("done"), tools=[tool("t", handler=fails)])
    result = allm.chat(engine, HI, tool_result_encoder=leaves(kind))
    assert result.halted_reason == "completed"
    assert "tool nope not in engine.tools" in told(result)


@pytest.mark.parametrize("kind", EXITS)
def test_a_predicate_that_leaves_is_one_that_raises(kind: type[BaseException]) -> None:
    engine = fake(calls(("c0", "t")), says("done"), tools=[tool("t", handler=fails)])
    result = allm.chat(engine, HI, halt_when=leaves(kind))
    assert result.halted_reason == "error"
    assert (
        result.metadata["error"].message
        == f"halt_when raised RuntimeError: exited with {kind.__name__}: away"
    )


def test_a_type_that_leaves_is_one_that_cannot_be_made() -> None:
    @dataclass
    class Leaves:
        x: int
        __post_init__ = leaves(SystemExit)

    result = allm.chat(fake(says('{"x": 1}')), HI, response_model=Leaves)
    assert result.halted_reason == "error"
    assert (
        "its own code raised RuntimeError: exited with SystemExit: away" in result.metadata["error"].message
    )


def test_who_reads_an_answer_and_is_killed_is_not_the_model() -> None:
    with SimHost() as host:

        def predicate(_step: Any) -> bool:
            host.sleep(ENDLESS)
            return False

        def kill() -> None:
            host.sleep(1.0)
            host.kill("tool")

        host.client(kill)
        result = chat(host, tool("t", handler=lambda _: 1), halt_when=predicate)
        assert result.metadata["error"].message.startswith("halt_when did not answer, its process ended")


# --- values of one's own ------------------------------------------------------------------------------------------


def test_nobody_can_change_the_conversation_through_a_call() -> None:
    def handler(arguments: Any, context: Any) -> Any:
        arguments.clear()
        context.tool_call.arguments.clear()
        context.tool_call.arguments["x"] = []
        context.tool_call.metadata["x"] = []
        raise LookupError("no")

    def policy(call: Any, _error: Any) -> str:
        call.arguments.clear()
        call.metadata["x"] = []
        return "continue"

    asked = [script.tool_call("t", {"city": ["Paris"]}, id="c0"), script.finish("tool_calls")]
    for calling in (
        asked,
        [script.tool_call("nope", {"city": ["Paris"]}, id="c0"), script.finish("tool_calls")],
    ):
        engine = fake(calling, says("done"), tools=[tool("t", handler=handler)])
        result = allm.chat(engine, HI, on_tool_error=policy)
        (call,) = result.thread.messages[1].tool_calls
        assert (call.arguments, call.metadata) == ({"city": ["Paris"]}, {})


@pytest.mark.parametrize("odd", [{"metadata": None}, {"name": ["t"]}, {"name": None}, {"arguments": None}])
def test_a_call_that_an_adapter_makes_badly_is_answered(odd: dict[str, Any]) -> None:
    made = {"id": "c0", "name": "t", "arguments": {}, "raw_arguments": "{}", "metadata": {}} | odd

    class Careless:
        name, asked = "careless", 0

        def requires_structured_finalize(self, request: Any) -> bool:
            return False

        def stream(self, request: Any, call: Any) -> Any:
            self.asked += 1
            if self.asked == 1:
                yield allm.ToolCallCompleted(**made)
            yield allm.MessageCompleted(allm.assistant(""), "tool_calls" if self.asked == 1 else "stop")

    engine = allm.Engine(adapter=Careless(), tools=[tool("t", handler=lambda _: 1)])
    result = allm.chat(engine, HI)
    assert result.halted_reason == "completed"
    assert len(result.steps[0].tool_results) == 1


@pytest.mark.parametrize("arguments", [{}, None])
@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_a_call_whose_arguments_no_adapter_could_read_reaches_no_tool(arguments: Any, mode: Any) -> None:
    raw, ran = '{"pattern": "*.t', []

    class Trusting:
        name, asked = "trusting", 0

        def requires_structured_finalize(self, request: Any) -> bool:
            return False

        def stream(self, request: Any, call: Any) -> Any:
            self.asked += 1
            if self.asked == 1:
                yield allm.ToolCallStarted("c0", "delete_files")
                yield allm.ToolCallDelta("c0", raw)
                yield allm.ToolCallCompleted("c0", "delete_files", arguments, raw)
            yield allm.MessageCompleted(allm.assistant(""), "tool_calls" if self.asked == 1 else "stop")

    @allm.tool
    def delete_files(pattern: str = "*") -> str:
        """Delete files."""
        ran.append(pattern)
        return "deleted"

    result = allm.chat(allm.Engine(Trusting(), tools=[delete_files]), HI, mode=mode)
    assert ran == []
    [call] = result.steps[0].response.tool_calls
    assert (call.arguments, call.raw_arguments) == ({}, raw)
    assert "truncated" in call.metadata["arguments_error"]
    if mode == "auto":
        assert "delete_files was not called because its arguments are invalid" in told(result)


@pytest.mark.parametrize("encoder", [str, repr, lambda value: f"<{value}>"])
def test_what_can_be_called_is_an_encoder(encoder: Callable[[Any], str]) -> None:
    engine = fake(calls(("c0", "t")), says("done"), tools=[tool("t", handler=lambda _: 7)])
    assert told(allm.chat(engine, HI, tool_result_encoder=encoder)) == encoder(7)


@pytest.mark.parametrize("reason", ["manual_tool_calls", "error", "going on", "any other"])
def test_a_tool_halts_with_a_word_of_its_own_or_not_at_all(reason: str) -> None:
    with allm.Host() as host:
        halts = tool("t", handler=lambda _: allm.Halt(reason, 1))
        session = host.session("s", fake(calls(("c0", "t")), says("done"), tools=[halts]))
        result = session.reply("hi").result()
        assert result.halted_reason == ("completed" if reason in ("manual_tool_calls", "error") else reason)
        assert session.status == "completed"
        allm.validate(session.value)
