"""The loop, written down as one would explain it: a specification of `chat` that can be run.

Rule of this file: naive. One call after the other; no event, no thread, no state machine, and nothing of
`allm_actors.execution`. Where a text may be worded freely, it holds a value that is equal to every text that will do,
so that what it says and what the library does can be compared with `==`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from allm_actors import (
    AdapterError,
    AllmError,
    AskUser,
    ChatResult,
    EngineError,
    Err,
    Halt,
    Message,
    Ok,
    Response,
    StepResult,
    Thread,
    Tool,
    ToolCall,
    ToolError,
    Usage,
    ValidationError,
    user,
)

__all__ = ["LOOPS_OWN", "Model", "Options", "Refused", "chat"]

LOOPS_OWN = frozenset(
    {
        "ask_user",
        "cancelled",
        "completed",
        "error",
        "halt_when",
        "interrupted",
        "manual_tool_calls",
        "max_turns",
        "tool_error",
    }
)
"""The reasons that a tool's `Halt` may not give."""

PLACEHOLDER = "<awaiting user response>"
NUDGE = "Now provide your final structured response."


# --- equal to whatever will do ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Whatever:
    """Equal to every value that `fits`."""

    words: str
    fits: Callable[[Any], bool]

    def __eq__(self, other: object) -> bool:
        return self.fits(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self.words}>"


ANYTHING = Whatever("anything", lambda _: True)
A_TEXT = Whatever("a text", lambda other: isinstance(other, str) and other != "")
AN_EXCEPTION = Whatever("an exception", lambda other: isinstance(other, BaseException))
TOLD_AN_ERROR = Whatever(
    "the text of an error", lambda other: isinstance(other, str) and other.startswith('{"error":"')
)


def an_error(kind: type[AllmError], reason: str) -> Whatever:
    return Whatever(f"{kind.__name__} {reason}", lambda other: type(other) is kind and other.reason == reason)


# --- the model ----------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The provider refused the call before anything was sent; `args[0]` is why."""


@dataclass
class Model:
    """What plays the scripts, one for each call, and remembers what it was asked."""

    scripts: Sequence[Sequence[tuple[Any, ...]]]
    asked: list[list[Message]] = field(default_factory=list)

    def answer(self, thread: Thread, request_id: str) -> Response:
        """The answer of the next script. Raises Refused."""
        self.asked.append(thread.messages)
        if len(self.asked) > len(self.scripts):
            raise Refused(an_error(AdapterError, "no_scripted_response"))
        script = self.scripts[len(self.asked) - 1]
        if script and script[0][0] == "preflight_error":
            raise Refused(an_error(AdapterError, script[0][1]))
        text, calls, usage, total, finish, error = "", {}, {}, {}, None, None
        for kind, said in script:
            match kind:
                case "text":
                    text += said
                case "tool_call":
                    calls[said["id"]] = call_of(**said)
                case "raw_chunk":
                    usage |= said[1]
                case "usage":
                    total = said
                case "error":  # the first one stays, and no finish hides it
                    error = error or an_error(AdapterError, said)
                case "finish":
                    finish = said
                    break
        made = list(calls.values())
        return Response(
            request_id=request_id,
            message=Message(role="assistant", content=text, metadata={"tool_calls": made} if made else {}),
            output_text=text,
            tool_calls=made,
            finish_reason="error" if error else finish,
            usage=Usage(**usage | total),
            metadata={"error": error} if error else {},
        )


def call_of(
    id: str, name: str, arguments: dict[str, Any] | None = None, raw_arguments: str | None = None
) -> ToolCall:
    """The call of an entry, which has either arguments or a raw text that is no JSON object."""
    if raw_arguments is None:
        raw = json.dumps(arguments, separators=(",", ":"))
        return ToolCall(id=id, name=name, arguments=arguments or {}, raw_arguments=raw)
    wrong = {"arguments_error": A_TEXT}
    return ToolCall(id=id, name=name, arguments={}, raw_arguments=raw_arguments, metadata=wrong)


# --- the chat -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The options of a chat that decide how it goes on; `nudge` is `structured_finalize_nudge`."""

    mode: str = "auto"
    max_turns: int = 8
    on_tool_error: str | Callable[[ToolCall, Any], Any] = "continue"
    halt_when: Callable[[StepResult], Any] | None = None
    response_model: Any = None
    max_retries: int = 2
    structured_finalize: bool = False
    nudge: str = NUDGE
    request_id: str = "r"


def chat(model: Model, thread: Thread, tools: Sequence[Tool], options: Options) -> ChatResult:
    """What a chat comes to. Raises Refused if not even its first call could be made."""
    if not options.structured_finalize:
        return steps_from(model, thread, tools, options)
    first = steps_from(model, thread, tools, replace(options, response_model=None))
    about = {"pass_1_halted": first.halted_reason}
    if first.halted_reason not in ("completed", "max_turns", "halt_when"):
        return with_metadata(first, structured_finalize=about)
    asked = first.thread.add(user(options.nudge)) if options.nudge else first.thread
    try:
        second = steps_from(model, asked, [], replace(options, max_turns=1), first.steps)
    except Refused as refused:
        return with_metadata(first, structured_finalize={**about, "pass_2_error": refused.args[0]})
    return with_metadata(second, structured_finalize=about)


def steps_from(
    model: Model, thread: Thread, tools: Sequence[Tool], options: Options, before: Sequence[StepResult] = ()
) -> ChatResult:
    """Steps until one halts the chat. `before` are the steps of an earlier pass."""
    steps, turns, retries = list(before), 0, options.max_retries
    while True:
        try:
            response = model.answer(thread, options.request_id)
        except Refused as refused:
            if len(steps) == len(before):
                raise
            return ended(thread, steps, "error", error=refused.args[0])
        response = parsed(known(response), options, last=retries == 0)
        rejected = "rejected" in response.metadata
        step = step_of(thread, response, tools, options)
        steps.append(step)
        thread = step.thread
        turns, retries = (turns, retries - 1) if rejected else (turns + 1, retries)
        halt = halt_of(step, len(steps) - 1, options)
        if halt is None and turns == options.max_turns and not rejected:
            halt = {"halted_reason": "max_turns", "max_turns": options.max_turns}
        if halt is not None:
            return ended(thread, steps, **halt)


def known(response: Response) -> Response:
    """An answer that does not end in a known way is an error, and is never silently asked for again."""
    ends = response.finish_reason in ("stop", "length", "content_filter")
    acts = response.finish_reason == "tool_calls" and response.tool_calls
    if ends or acts or "error" in response.metadata:
        return response
    return failed(response, an_error(AdapterError, "malformed_response"))


def parsed(response: Response, options: Options, *, last: bool) -> Response:
    """The answer with its value; or rejected, to be asked for again; or, if it was the last, an error."""
    if options.response_model is None or response.finish_reason != "stop":
        return response
    try:
        value = msgspec.json.decode(response.output_text or "", type=options.response_model)
    except msgspec.DecodeError:
        if last:
            return failed(response, an_error(ValidationError, "invalid_response"))
        return with_metadata(response, rejected=A_TEXT)
    return msgspec.structs.replace(response, parsed=value)


def halt_of(step: StepResult, index: int, options: Options) -> dict[str, Any] | None:
    """Why the chat ends after this step, and what its result says about it; None if it goes on."""
    said = dict(step.metadata)
    finish = step.response.finish_reason
    if "halted_reason" in said:
        return said
    if "manual_tool_calls" in said or said.pop("mode", None) == "manual":
        return {"halted_reason": "manual_tool_calls", "manual_turn_index": index, **said}
    if finish == "error":
        return {"halted_reason": "error", "error": step.response.metadata["error"]}
    if finish != "tool_calls" and "rejected" not in step.response.metadata:
        return {"halted_reason": "completed"}
    try:
        if options.halt_when is not None and options.halt_when(step):
            return {"halted_reason": "halt_when", "halt_when_step_index": index}
    except Exception:  # noqa: BLE001 - whatever it raises
        return {"halted_reason": "error", "error": AN_EXCEPTION}
    return None


def ended(thread: Thread, steps: list[StepResult], halted_reason: str, **metadata: Any) -> ChatResult:
    """The result of a chat that ended for this reason."""
    question, id = metadata.get("pending_question"), metadata.get("pending_tool_call_id")
    if question is not None and "manual_tool_calls" not in metadata:
        # Beside manual calls the question must wait: their results come directly after the calls.
        said = {"ask_user": True, "tool_call_id": id}
        thread = thread.add(Message(role="assistant", content=question, metadata=said))
    return ChatResult(
        thread=thread,
        final_response=steps[-1].response,
        halted_reason=halted_reason,
        pending_question=question,
        pending_tool_call_id=id,
        steps=steps,
        metadata=metadata,
    )


# --- a step -------------------------------------------------------------------------------------------------------


def step_of(thread: Thread, response: Response, tools: Sequence[Tool], options: Options) -> StepResult:
    """The answer and, if it ends with calls, what its tools say to them, in the order of the calls."""
    acts = response.finish_reason == "tool_calls"
    said: dict[str, Any] = {"finish_reason": response.finish_reason}
    if response.tool_calls:  # calls that are not run must not look like calls that wait for an answer
        said["tool_calls" if acts else "unexecuted_tool_calls"] = response.tool_calls
    thread = thread.add(Message(role="assistant", content=response.output_text, metadata=said))
    if "rejected" in response.metadata:
        again = Message(role="user", content=A_TEXT, metadata={"response_retry": ANYTHING})
        return StepResult(thread=thread.add(again), response=response)
    if not acts:
        return StepResult(thread=thread, response=response, done=True)
    if options.mode == "manual":
        return StepResult(thread=thread, response=response, metadata={"mode": "manual"})
    known_tools = {tool.name: tool for tool in tools}
    manual = [call for call in response.tool_calls if is_manual(call, known_tools)]
    answers = [answer_to(call, known_tools, options) for call in response.tool_calls if call not in manual]
    results = [message for message, _ in answers]
    halts = [halt for _, halt in answers if halt is not None]
    metadata = {**(halts[0] if halts else {}), **({"manual_tool_calls": manual} if manual else {})}
    return StepResult(
        thread=thread.add(*results),
        response=response,
        tool_results=results,
        done=bool(halts),
        metadata=metadata,
    )


def is_manual(call: ToolCall, tools: Mapping[str, Tool]) -> bool:
    """Whether the call is the caller's to run: one whose arguments cannot be read is nobody's."""
    return call.name in tools and tools[call.name].manual and "arguments_error" not in call.metadata


Halted = dict[str, Any] | None


def answer_to(call: ToolCall, tools: Mapping[str, Tool], options: Options) -> tuple[Message, Halted]:
    """The message that answers this call, and what it says about the chat's end if it ends it."""
    content, halt = content_for(call, tools, options)
    return Message(role="tool", content=content, tool_call_id=call.id), halt


def content_for(call: ToolCall, tools: Mapping[str, Tool], options: Options) -> tuple[Any, Halted]:
    """What the model is told, by what the tool does."""
    if call.name not in tools:
        return content_of_error(call, an_error(EngineError, "unknown_tool"), options)
    if "arguments_error" in call.metadata:
        return content_of_error(call, an_error(ToolError, "invalid_arguments"), options)
    handler = tools[call.name].handler
    if handler is None:
        return content_of_error(call, an_error(ToolError, "not_found"), options)
    try:
        value = handler(dict(call.arguments))
    except AllmError as error:
        return content_of_error(call, an_error(type(error), error.reason), options)
    except Exception:  # noqa: BLE001 - whatever it raises
        return content_of_error(call, an_error(ToolError, "handler_raised"), options)
    halted: Halted = None
    match value:
        case Err(reason=reason):
            return content_of_error(call, reason, options)
        case AskUser(question=question, options=opts):
            halt = {"pending_question": question, "pending_tool_call_id": call.id, "ask_user_opts": opts}
            return PLACEHOLDER, {"halted_reason": "ask_user", **halt}
        case Halt(reason=reason) if reason in LOOPS_OWN:
            return content_of_error(call, an_error(ToolError, "invalid_return"), options)
        case Halt(reason=reason, result=value):
            halted = {"halted_reason": reason, "halt_tool_call_id": call.id, "halt_result": value}
        case Ok(value=value):
            pass
    try:
        return encoded(value), halted
    except TypeError:
        return content_of_error(call, an_error(ToolError, "encoding_failed"), options)


def content_of_error(call: ToolCall, error: Any, options: Options) -> tuple[Any, Halted]:
    """What `on_tool_error` makes of an error: what the model is told, and whether the chat ends."""
    content = TOLD_AN_ERROR if isinstance(error, Whatever) else encoded({"error": str(error)})
    halt = {"halted_reason": "tool_error", "halt_tool_call_id": call.id}
    said = options.on_tool_error
    if callable(said):
        try:
            said = said(call, error)
        except Exception:  # noqa: BLE001 - whatever it raises
            return TOLD_AN_ERROR, {**halt, "on_tool_error_exception": AN_EXCEPTION}
    match said:
        case "continue":
            return content, None
        case "halt":
            return content, halt
        case ("continue", answer):
            try:
                return encoded(answer), None
            except TypeError:
                return TOLD_AN_ERROR, halt
        case _:
            return TOLD_AN_ERROR, halt


# --- small things -------------------------------------------------------------------------------------------------


def encoded(value: Any) -> str:
    """What the model reads: text as it is, anything else as JSON. Raises TypeError where JSON has no words."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def failed(response: Response, error: Whatever) -> Response:
    return with_metadata(msgspec.structs.replace(response, finish_reason="error"), error=error)


def with_metadata(of: Any, **more: Any) -> Any:
    return msgspec.structs.replace(of, metadata={**of.metadata, **more})
