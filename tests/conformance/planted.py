"""An adapter that keeps every law, over a provider of a few lines, and adapters that each break one.

Rule of this file: a wrong adapter is the right one with one mistake in it, said in its docstring.
"""

import asyncio
import itertools
import json
from contextlib import contextmanager

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine.retry import next_delay, policy_of
from allm_actors.testing.conformance import Stage

KEY = "parrots-never-tell-0123456789"


class Provider:
    """Does what a scene says, and keeps what it was asked."""

    def __init__(self, scene):
        self.scene, self.sent, self.left = scene, [], 0

    async def answer(self, body):
        """Pieces, calls, and the end; whoever leaves before it is counted."""
        self.sent.append(json.dumps(body))
        scene, ended = self.scene, False
        try:
            if scene.kind == "refuses":
                if scene.reason == "timeout":
                    await asyncio.Event().wait()
                ended = True
                raise Refused(scene)
            for piece in scene.text if scene.kind == "answers" else scene.text[:1]:
                yield "say", piece
                await asyncio.sleep(0.001)
            if scene.kind == "stalls":
                await asyncio.Event().wait()
            ended = True
            if scene.kind == "breaks":
                raise Refused(scene)
            for call in scene.tool_calls:
                yield "call", call
            yield "end", (scene.finish_reason, scene.usage)
        finally:
            self.left += not ended


class Refused(Exception):
    """The provider will not."""


class Right:
    """Keeps every law. `requests` of the provider are the bodies that `body` makes."""

    name = "right"

    def __init__(self, provider):
        self.provider = provider

    def requires_structured_finalize(self, request):
        return False

    def stream(self, request, call):
        return self.attempts(self.body(request), call)

    def body(self, request):
        """What is sent: everything that the caller said."""
        return {
            "model": request.model,
            "messages": [msgspec.to_builtins(message) for message in request.messages],
            "tools": [[tool.name, tool.description, tool.schema] for tool in request.tools],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "response_format": request.response_format,
            "tool_choice": request.tool_choice,
            "options": request.options,
        }

    async def attempts(self, body, call):
        for attempt in itertools.count(1):
            begun = False
            try:
                async for event in self.answer(body, call):
                    begun = True
                    yield event
                return
            except allm.AdapterError as error:
                if self.delay(call, attempt, error, begun) is None:
                    yield allm.ErrorEvent(error)
                    return

    def delay(self, call, attempt, error, begun):
        """Seconds until the next attempt, or None."""
        return None if begun else next_delay(policy_of(call.retry), attempt, error, 0.0)

    async def answer(self, body, call):
        said, calls, begun = [], [], False
        try:
            async for kind, value in self.provider.answer(body):
                if not begun:
                    begun = True
                    yield allm.MessageStarted()
                if kind == "say":
                    said.append(value)
                    yield allm.TextDelta(value)
                elif kind == "call":
                    for event in self.called(value):
                        yield event
                    calls.append(value)
                else:
                    for event in self.end("".join(said), calls, *value):
                        yield event
        except Refused:
            raise self.failure(call) from None

    def called(self, call):
        """The events of a call."""
        written = json.dumps(call.arguments)
        return [
            allm.ToolCallStarted(call.id, call.name),
            *(allm.ToolCallDelta(call.id, piece) for piece in (written[:3], written[3:])),
            allm.ToolCallCompleted(call.id, call.name, call.arguments, written),
        ]

    def end(self, text, calls, reason, usage):
        """The events of the end."""
        used = [] if usage is None else [allm.RawChunk(("usage", usage))]
        message = allm.Message(
            role="assistant", content=text, metadata={"tool_calls": calls} if calls else {}
        )
        return [*used, allm.TextCompleted(text), allm.MessageCompleted(message, reason)]

    def failure(self, call):
        scene = self.provider.scene
        return allm.AdapterError(
            scene.reason,
            provider=self.name,
            message="the provider will not",
            status=scene.status,
            retry_after_ms=scene.retry_after_ms,
            request_id=call.request_id,
        )


class OnStage:
    """A stage on which `adapter` asks the provider."""

    adapter = Right

    @contextmanager
    def stage(self, scene):
        if scene.reason == "cancelled":
            pytest.skip("only scripts do that")
        provider = Provider(scene)
        yield Stage(
            engine=allm.Engine(adapter=self.adapter(provider)),
            cleanups=lambda: provider.left,
            sent=lambda: provider.sent,
            key=KEY,
        )


# --- how often it asks --------------------------------------------------------------------------------------------


class AsksFiveTimes(Right):
    """Whatever `retry` says, and whatever the failure is."""

    def delay(self, call, attempt, error, begun):
        return None if begun or attempt == 5 else 0.0


class AsksOnceMore(Right):
    """Also with `retry=False`."""

    def delay(self, call, attempt, error, begun):
        return None if begun or attempt == 2 or error.status == 401 else 0.0


class AsksTwice(Right):
    """If the caller wants it more than once, and however often that is."""

    def delay(self, call, attempt, error, begun):
        worth = super().delay(call, 1, error, begun)
        return worth if attempt < 2 else None


class TriesRefusedKeysAgain(Right):
    """As if a key got better."""

    def delay(self, call, attempt, error, begun):
        worth = attempt < policy_of(call.retry).max_attempts and error.status == 401
        return 0.0 if worth else super().delay(call, attempt, error, begun)


class NeverTriesAgain(Right):
    """Though the caller wants it."""

    def delay(self, call, attempt, error, begun):
        return None


class TriesAgainAfterText(Right):
    """Its reader reads the beginning twice."""

    def delay(self, call, attempt, error, begun):
        return super().delay(call, attempt, error, False)


class HidesThatItTriesAgain(TriesAgainAfterText):
    """The second time it keeps to itself what was said already."""

    async def attempts(self, body, call):
        seen = 0
        for attempt in itertools.count(1):
            try:
                at = 0
                async for event in self.answer(body, call):
                    at += 1
                    if at > seen:
                        seen = at
                        yield event
                return
            except allm.AdapterError as error:
                if self.delay(call, attempt, error, False) is None:
                    yield allm.ErrorEvent(error)
                    return


# --- what it sends ------------------------------------------------------------------------------------------------


class LeavesOut(Right):
    """One field of the body."""

    field = ""

    def body(self, request):
        return super().body(request) | {self.field: None}


class DropsTheModel(LeavesOut):
    """The provider takes its own."""

    field = "model"


class DropsTools(LeavesOut):
    """And says nothing."""

    field = "tools"


class DropsOptions(LeavesOut):
    """What the library has no word for."""

    field = "options"


class DropsTheForm(LeavesOut):
    """A text comes where a program reads."""

    field = "response_format"


class DropsTheChoice(LeavesOut):
    """The model may do what it likes."""

    field = "tool_choice"


class DropsHistory(Right):
    """Only what was said last is sent."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": body["messages"][-1:]}


class DropsTheSystem(Right):
    """What the caller wants of the model."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": [each for each in body["messages"] if each["role"] != "system"]}


class KeepsOneSystemMessage(Right):
    """The last of them takes the place of the others."""

    def body(self, request):
        body = super().body(request)
        system = [each for each in body["messages"] if each["role"] == "system"]
        return body | {"messages": [each for each in body["messages"] if each not in system[:-1]]}


class SendsItBackwards(Right):
    """The last message first."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": body["messages"][::-1]}


class DropsToolAnswers(Right):
    """The model never hears what became of its call."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": [each for each in body["messages"] if each["role"] != "tool"]}


class DropsCallsOfHistory(Right):
    """A tool's answer answers nothing."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": [each | {"metadata": {}} for each in body["messages"]]}


class LosesLetters(Right):
    """All that are not of ASCII."""

    def body(self, request):
        body = super().body(request)
        return json.loads(json.dumps(body, ensure_ascii=False).encode("ascii", "ignore"))


class LosesLineEnds(Right):
    """A request is one line."""

    def body(self, request):
        return json.loads(json.dumps(super().body(request)).replace("\\n", " "))


class DropsParts(Right):
    """A content that is no text is none."""

    def body(self, request):
        body = super().body(request)
        texts = [each | {"content": ""} for each in body["messages"] if not isinstance(each["content"], str)]
        return body | {"messages": texts or body["messages"]}


class DropsMaxTokens(LeavesOut):
    """An answer is as long as the provider likes."""

    field = "max_tokens"


class DropsTheTemperature(LeavesOut):
    """The provider takes its own."""

    field = "temperature"


class DropsIdsOfAnswers(Right):
    """Which call do they answer?"""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": [each | {"tool_call_id": None} for each in body["messages"]]}


class DropsIdsOfCalls(Right):
    """What do the answers answer?"""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            for call in message["metadata"].get("tool_calls", []):
                call["id"] = ""
        return body


class RemembersWhatWasAsked(Right):
    """Of every caller."""

    def __init__(self, provider):
        super().__init__(provider)
        self.messages = []

    def body(self, request):
        body = super().body(request)
        self.messages += body["messages"]
        return body | {"messages": self.messages}


# --- what it keeps ------------------------------------------------------------------------------------------------


class KeepsItsText(Right):
    """Of one call for the next."""

    def __init__(self, provider):
        super().__init__(provider)
        self.said = []

    def end(self, text, calls, reason, usage):
        self.said.append(text)
        return super().end("".join(self.said), calls, reason, usage)


class KeepsItsTextOfOneCall(Right):
    """Which another one begins anew."""

    def stream(self, request, call):
        self.said = []
        return super().stream(request, call)

    async def answer(self, body, call):
        async for event in super().answer(body, call):
            if isinstance(event, allm.TextDelta):
                self.said.append(event.delta)
            yield event

    def end(self, text, calls, reason, usage):
        return super().end("".join(self.said), calls, reason, usage)


# --- what it tells ------------------------------------------------------------------------------------------------


class EveryEndIsAStop(Right):
    """Also half an answer's."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, "stop", usage)


class DropsUsage(Right):
    """Nobody knows what it cost."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, reason, None)


class SwapsUsage(Right):
    """What went in came out."""

    def end(self, text, calls, reason, usage):
        swapped = usage and allm.Usage(input_tokens=usage.output_tokens, output_tokens=usage.input_tokens)
        return super().end(text, calls, reason, swapped)


class DropsCalls(Right):
    """Only text is told."""

    def called(self, call):
        return []

    def end(self, text, calls, reason, usage):
        return super().end(text, [], reason, usage)


class DropsArguments(Right):
    """A call without them."""

    def called(self, call):
        return super().called(msgspec.structs.replace(call, arguments={}))


class GivesAllCallsOneId(Right):
    """Answers cannot be told apart."""

    def called(self, call):
        return super().called(msgspec.structs.replace(call, id="call"))


class NeverBeginsACall(Right):
    """It is complete at once."""

    def called(self, call):
        return super().called(call)[1:]


class WritesOtherArguments(Right):
    """The fragments are not what is completed."""

    def called(self, call):
        started, *_, completed = super().called(call)
        return [started, allm.ToolCallDelta(call.id, '{"city": "Rome"}'), completed]


class WritesAfterTheCall(Right):
    """A fragment of what is complete."""

    def called(self, call):
        started, *written, completed = super().called(call)
        return [started, completed, *written]


class TellsOnlyAscii(Right):
    """Other letters are lost."""

    def end(self, text, calls, reason, usage):
        return super().end(text.encode("ascii", "ignore").decode(), calls, reason, usage)


class TellsOneLine(Right):
    """Line ends are lost."""

    def end(self, text, calls, reason, usage):
        return super().end(text.replace("\n", " "), calls, reason, usage)


class WritesOtherRawArguments(Right):
    """They are not the text of the arguments."""

    def called(self, call):
        *begun, completed = super().called(call)
        return [*begun, msgspec.structs.replace(completed, raw_arguments='{"city": "Rome"}')]


class CompletesWith(Right):
    """Another message than what was told."""

    def end(self, text, calls, reason, usage):
        *told, completed = super().end(text, calls, reason, usage)
        return [*told, msgspec.structs.replace(completed, message=self.message(completed.message))]


class CompletesWithAnotherText(CompletesWith):
    """It is what is sent the next time."""

    def message(self, said):
        return msgspec.structs.replace(said, content="other")


class CompletesWithoutText(CompletesWith):
    """What was said is not in the conversation."""

    def message(self, said):
        return msgspec.structs.replace(said, content="")


class CompletesWithAUsersMessage(CompletesWith):
    """As if the caller had said it."""

    def message(self, said):
        return msgspec.structs.replace(said, role="user")


class CompletesWithoutCalls(CompletesWith):
    """Their answers answer nothing."""

    def message(self, said):
        return msgspec.structs.replace(said, metadata={})


class CompletesAfterItsError(Right):
    """As if all had gone well."""

    async def attempts(self, body, call):
        async for event in super().attempts(body, call):
            yield event
            if isinstance(event, allm.ErrorEvent):
                yield allm.MessageCompleted(allm.assistant("all is well"), "stop")


class SpeaksAfterItsError(Right):
    """There is nobody who listens."""

    async def attempts(self, body, call):
        async for event in super().attempts(body, call):
            yield event
            if isinstance(event, allm.ErrorEvent):
                yield allm.TextDelta("and yet")


class TellsItsKey(Right):
    """As some providers do, who repeat it."""

    def failure(self, call):
        failure = super().failure(call)
        failure.message = f"the key {KEY} is refused"
        return failure


class KeepsItsKey(Right):
    """Where a log would find it."""

    def failure(self, call):
        failure = super().failure(call)
        failure.metadata = {"asked": {"x-key": KEY}}
        return failure
