"""The loops of others: the same turns of the same tools, with a model of each one's own kind that answers at once.

Rule of this file: each is used as its documentation shows, with coroutine tools and tracing off; what it needs is
imported where it is made, because no one of them is needed by anything else here. `make(turns, parallel)` gives what
runs once, and answers how often the tool ran.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Awaitable, Callable
from threading import Semaphore
from typing import Any

__all__ = ["PEERS", "pooled"]

Run = Callable[[], Awaitable[int]]
LIMIT = 100  # steps that a peer may take: more than enough


class Ran:
    """The tool, and how often it ran."""

    def __init__(self) -> None:
        self.times = 0

    def again(self) -> None:
        self.times = 0

    async def noop(self, x: int) -> int:
        """One more."""
        self.times += 1
        return x + 1


def autogen(turns: int, parallel: int) -> Run:
    """autogen-agentchat's `AssistantAgent` on its `ReplayChatCompletionClient`."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_core import FunctionCall
    from autogen_core.models import CreateResult, ModelInfo, RequestUsage
    from autogen_ext.models.replay import ReplayChatCompletionClient

    logging.disable(logging.CRITICAL)
    usage, ran = RequestUsage(prompt_tokens=1, completion_tokens=1), Ran()
    info = ModelInfo(
        vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False
    )

    def asks(turn: int) -> Any:
        calls = [
            FunctionCall(id=f"{turn}.{n}", name="noop", arguments=f'{{"x": {n}}}') for n in range(parallel)
        ]
        return CreateResult(finish_reason="function_calls", content=calls, usage=usage, cached=False)

    async def run() -> int:
        ran.again()
        done = CreateResult(finish_reason="stop", content="done", usage=usage, cached=False)
        model = ReplayChatCompletionClient([*map(asks, range(turns)), done], model_info=info)
        agent = AssistantAgent("agent", model, tools=[ran.noop], max_tool_iterations=LIMIT)
        result = await agent.run(task="go")
        assert result.messages[-1].content == "done", result
        return ran.times

    return run


def pydantic_ai(turns: int, parallel: int) -> Run:
    """pydantic-ai's `Agent` on its `FunctionModel`."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    ran = Ran()

    def model(messages: Any, _info: Any) -> Any:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if turn == turns:
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart("noop", {"x": n}, f"{turn}.{n}") for n in range(parallel)])

    agent = Agent(FunctionModel(model))
    agent.tool_plain(ran.noop)

    async def run() -> int:
        ran.again()
        result = await agent.run("go")
        assert result.output == "done", result
        return ran.times

    return run


def langgraph(turns: int, parallel: int) -> Run:
    """langgraph's `create_react_agent`, on a chat model of langchain's."""
    warnings.simplefilter("ignore")
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.tools import tool
    from langgraph.prebuilt import create_react_agent

    ran = Ran()

    class Scripted(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Any, **_options: Any) -> Any:  # noqa: ARG002
            return self

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:  # noqa: ARG002
            turn = sum(message.type == "ai" for message in messages)
            calls = [{"name": "noop", "args": {"x": n}, "id": f"{turn}.{n}"} for n in range(parallel)]
            message = AIMessage("", tool_calls=calls) if turn < turns else AIMessage("done")
            return ChatResult(generations=[ChatGeneration(message=message)])

        async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
            return self._generate(messages, stop, run_manager)

    graph = create_react_agent(Scripted(), [tool(ran.noop)])

    async def run() -> int:
        ran.again()
        result = await graph.ainvoke({"messages": [("user", "go")]}, {"recursion_limit": LIMIT})
        assert result["messages"][-1].content == "done", result
        return ran.times

    return run


def openai_agents(turns: int, parallel: int) -> Run:
    """openai-agents' `Runner` on a `Model`."""
    os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    import agents
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )

    agents.set_tracing_disabled(True)
    ran = Ran()

    class Scripted(agents.Model):
        async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:  # noqa: ARG002
            items = input if isinstance(input, list) else []
            turn = (
                sum(isinstance(item, dict) and item.get("type") == "function_call" for item in items)
                // parallel
            )
            output: list[Any] = [
                ResponseFunctionToolCall(
                    type="function_call", name="noop", arguments=f'{{"x": {n}}}', call_id=f"{turn}.{n}"
                )
                for n in range(parallel)
            ]
            if turn == turns:
                text = ResponseOutputText(text="done", type="output_text", annotations=[])
                output = [
                    ResponseOutputMessage(
                        id="m", role="assistant", status="completed", type="message", content=[text]
                    )
                ]
            return agents.ModelResponse(output=output, usage=agents.Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    agent = agents.Agent(name="agent", model=Scripted(), tools=[agents.function_tool(ran.noop)])

    async def run() -> int:
        ran.again()
        result = await agents.Runner.run(agent, "go", max_turns=LIMIT)
        assert result.final_output == "done", result
        return ran.times

    return run


PEERS: dict[str, tuple[Callable[[int, int], Run], tuple[str, ...]]] = {
    "autogen": (autogen, ("autogen_agentchat", "autogen_ext")),
    "pydantic-ai": (pydantic_ai, ("pydantic_ai",)),
    "langgraph": (langgraph, ("langgraph", "langchain_core")),
    "openai-agents": (openai_agents, ("agents",)),
}
"""Who they are, and the modules without which they are skipped."""


def pooled(turns: int, parallel: int, probes: str | None) -> Callable[[], int]:
    """A fresh actor of the module `pooled` in the directory `probes` for each tool: no model, no errors."""
    sys.path.insert(0, probes or "")
    import pooled as probe

    logging.disable(logging.CRITICAL)
    probe.pool(parallel)

    class Tool(probe.LeanActor):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            to, x = message
            to.tell(x + 1)
            self.stop()

    class Agent(probe.LeanActor):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            if message == "go":
                self.left, self.waiting = turns, 0
            else:
                self.answers.append(message)
                self.waiting -= 1
            if self.waiting:
                return
            if not self.left:
                self.done.release()
                return
            self.left, self.waiting = self.left - 1, parallel
            for n in range(parallel):
                Tool.start().tell((self.actor_ref, n))

    def run() -> int:
        Agent.answers, Agent.done = [], Semaphore(0)
        agent = Agent.start()
        agent.tell("go")
        Agent.done.acquire()
        agent.stop()
        return len(Agent.answers)

    return run
