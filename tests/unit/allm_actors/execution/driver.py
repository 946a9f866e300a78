"""A world of plain functions for the loop: a scripted model and handlers, run one deed after the other."""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    ErrorEvent,
    Message,
    MessageCompleted,
    MessageStarted,
    TextCompleted,
    TextDelta,
    Thread,
    Tool,
    ToolCallCompleted,
    ToolCallStarted,
)
from allm_actors.execution.effects import (
    AskHalt,
    CallModel,
    Checkpoint,
    Emit,
    Finish,
    RunTool,
    SettleError,
)
from allm_actors.execution.inputs import HaltAnswered, ModelEnded, ModelEvents, ModelFailed, ToolReturned
from allm_actors.execution.loop import Options, start, step
from allm_actors.execution.tools import encode_tool_result, settle, settle_error

HI = Thread().add_user("hi")
RATE_LIMITED = AdapterError("rate_limited", request_id="r1")


def text(words, finish="stop", **metadata):
    """What a model says that answers with words."""
    deltas = [TextDelta(words[:2]), TextDelta(words[2:])] if len(words) > 2 else [TextDelta(words)]
    return [MessageStarted(), *deltas, TextCompleted(words), done(words, finish, **metadata)]


def calls(*made, finish="tool_calls", words=""):
    """What a model says that makes calls: `(id, name)`, `(id, name, arguments)` or `(id, name, {}, metadata)`."""
    said = [TextDelta(words)] if words else []
    for call_id, name, *rest in made:
        said.append(ToolCallStarted(id=call_id, name=name))
        said.append(_completed(call_id, name, *rest))
    return [MessageStarted(), *said, done(words, finish)]


def broken(error, words=""):
    """What a model says whose stream breaks."""
    return [MessageStarted(), *([TextDelta(words)] if words else []), ErrorEvent(error)]


def done(words, finish, **metadata):
    return MessageCompleted(Message(role="assistant", content=words), finish, metadata)


def _completed(call_id, name, arguments=None, metadata=None):
    arguments = {} if arguments is None else arguments
    return ToolCallCompleted(
        id=call_id,
        name=name,
        arguments=arguments,
        raw_arguments=msgspec.json.encode(arguments).decode(),
        metadata=metadata or {},
    )


def echo(arguments):
    return arguments


def tools(**handlers):
    """Tools by name; a handler is a function of the arguments, and None is a tool of the caller's."""
    return {
        name: Tool(name=name, description="", schema={}, handler=handler, manual=handler is None)
        for name, handler in handlers.items()
    }


def options(kind="chat", **fields):
    return Options(kind=kind, **{"request_id": "r1"} | fields)


@dataclass
class World:
    """Everything that a run meets outside of the machine, and everything that it did there."""

    script: list = field(default_factory=list)
    halt_when: object = None
    policy: object = "continue"
    encoder: object = encode_tool_result
    effects: list = field(default_factory=list)
    events: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    result: object = None

    def run(self, options, thread=HI):
        """Run to the end, and return the result."""
        self.script = deque(self.script)
        self.state, todo = start(options, thread)
        todo = deque(todo)
        while todo:
            effect = todo.popleft()
            self.effects.append(effect)
            for news in self.perform(effect):
                self.state, more = step(self.state, news)
                todo.extend(more)
        return self.result

    def perform(self, effect):
        match effect:
            case Emit(events):
                self.events += events
            case CallModel(turn):
                self.asked.append(effect)
                said = self.script.popleft()
                if isinstance(said, AllmError):
                    return [ModelFailed(turn, said, preflight=True)]
                return [ModelEvents(turn, said), ModelEnded(turn)]
            case RunTool(call, tool, _, _, turn):
                return [
                    ToolReturned(
                        call.id, settle(call, self.call(tool, call), self.encoder, self.policy), turn
                    )
                ]
            case SettleError(call, error, _, turn):
                return [ToolReturned(call.id, settle_error(call, error, self.encoder, self.policy), turn)]
            case AskHalt(turn, result):
                return [HaltAnswered(turn, self.judge(result))]
            case Finish(result):
                assert self.result is None
                self.result = result
        return []

    def call(self, tool, call):
        try:
            return tool.handler(call.arguments)
        except Exception as error:  # noqa: BLE001 - user code
            return error

    def judge(self, result):
        try:
            return self.halt_when(result)
        except Exception as error:  # noqa: BLE001 - user code
            return error

    @property
    def tags(self):
        return [event.tag for event in self.events]

    @property
    def checkpoints(self):
        return [effect for effect in self.effects if isinstance(effect, Checkpoint)]


def shape(thread):
    """A thread as the worked traces write it: `U hi`, `A text`, `A text +tc`, `T(c0) content`."""
    lines = []
    for message in thread.messages:
        if message.role == "tool":
            lines.append(f"T({message.tool_call_id}) {message.content}")
        else:
            calls = " +tc" if message.tool_calls else ""
            lines.append(f"{message.role[0].upper()} {message.content}{calls}")
    return lines


def boom(arguments):
    raise ValueError("boom")


def chat(*script, world=None, thread=HI, **fields):
    world = world or World()
    world.script = list(script)
    return world.run(options(**fields), thread), world


def ran_until_tools(*made, **fields):
    state, _ = start(options(**fields), HI)
    state, _ = step(state, ModelEvents(0, calls(*made)))
    return step(state, ModelEnded(0))


def kinds(effects):
    return [type(effect) for effect in effects]
