"""An adapter that keeps every law, over a provider of a few lines, and adapters that each break one.

Rule of this file: a wrong adapter is the right one with one mistake in it, said in its docstring.
"""

import asyncio
import itertools
import json
import re
from contextlib import contextmanager

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.engine.retry import next_delay, policy_of
from allm_actors.testing.conformance import Stage

KEY = "parrots-never-tell-0123456789"
URL = "parrots://lighthouse"


class Provider:
    """Does what a scene says, and keeps what it was asked."""

    def __init__(self, scene):
        self.scene, self.sent, self.keys, self.left = scene, [], [], 0
        self.connections = 0

    @contextmanager
    def connection(self):
        """Which must be let go."""
        self.connections += 1
        try:
            yield self.answer
        finally:
            self.connections -= 1

    async def answer(self, body, key):
        """Pieces, calls, and the end; whoever leaves before it is counted."""
        self.sent.append(json.dumps(body))
        self.keys.append(key)
        scene, ended = self.scene, False
        try:
            if scene.kind == "refuses":
                if scene.reason == "timeout":
                    await asyncio.Event().wait()
                ended = True
                raise Refused(scene)
            first, others = scene.text[:1], scene.text[1:]
            for piece in first:
                yield "say", piece
            await asyncio.sleep(0.001)
            if scene.kind == "stalls":
                await asyncio.Event().wait()
            ended = True
            if scene.kind == "breaks" and scene.reason == "malformed_response":
                yield "??", None
            elif scene.unfinished:
                return
            elif scene.kind == "breaks":
                raise ConnectionError if scene.reason == "network_error" else Refused(scene)
            for piece in others:
                yield "say", piece
            for place, value in self.calls():
                yield place, value
            yield "end", (scene.finish_reason, scene.usage)
        finally:
            self.left += not ended

    def calls(self):
        """Each is begun, written in fragments, and done: one after the other, or all of them in turn."""
        scene, calls = self.scene, []
        for call in scene.tool_calls:
            written = scene.raw_arguments
            if written is None:
                written = json.dumps(call.arguments) if call.arguments else ""
            pieces = [("write", (call.id, piece)) for piece in (written[:5], written[5:]) if piece]
            calls.append([("begin", (call.id, call.name)), *pieces, ("done", call.id)])
        if not scene.interleaved:
            return [*itertools.chain(*calls)]
        return [each for turn in itertools.zip_longest(*calls) for each in turn if each is not None]


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
                delay = self.delay(call, attempt, error, begun)
                if delay is None:
                    yield allm.ErrorEvent(error)
                    return
            await asyncio.sleep(delay)

    def delay(self, call, attempt, error, begun):
        """Seconds until the next attempt, or None."""
        return None if begun else next_delay(policy_of(call.retry), attempt, error, 0.0)

    def key(self, call):
        """The key of the call, or else that of the adapter."""
        found = keys.find(self.name, [], call.api_key)
        return KEY if found is None else found[0].reveal()

    async def answer(self, body, call):
        with self.connection() as answer:
            async for event in self.events(self.joined(answer(body, self.key(call))), call):
                yield event

    def connection(self):
        """One for each call."""
        return self.provider.connection()

    async def joined(self, answer):
        """What the provider says, each call in one piece, and nothing that is empty."""
        writing = {}
        async for kind, value in answer:
            match kind:
                case "begin":
                    call_id, name = value
                    writing[call_id] = [name, ""]
                case "write":
                    self.write(writing, *value)
                case "done":
                    yield "call", (value, *writing[value])
                case "say" if not value:
                    pass
                case _:
                    yield kind, value

    def write(self, writing, call_id, piece):
        """A fragment of a call."""
        writing[call_id][1] += piece

    async def events(self, answer, call):
        """The events of what the provider says."""
        said, calls, begun = [], [], False
        try:
            async for kind, value in answer:
                if not begun:
                    begun = True
                    yield allm.MessageStarted()
                match kind:
                    case "say":
                        said.append(value)
                        yield allm.TextDelta(value)
                    case "call":
                        made = self.read(*value)
                        for event in self.called(made):
                            yield event
                        calls.append(made)
                    case "end":
                        for event in self.end("".join(said), calls, *value):
                            yield event
                        return
                    case _ if not self.skips_garbage:
                        raise self.failure(call)
            for event in self.cut_off("".join(said), call):
                yield event
        except (Refused, ConnectionError) as why:
            for event in self.broken("".join(said), call, why):
                yield event

    skips_garbage = False

    def cut_off(self, text, call):
        """The events of an answer without an end."""
        raise self.failure(call)

    def broken(self, text, call, why):
        """The events of an answer that broke."""
        raise self.failure(call) from None

    def read(self, call_id, name, written):
        """A call as it was written."""
        try:
            arguments, problem = json.loads(written or "{}"), {}
        except ValueError as error:
            arguments, problem = {}, {"arguments_error": str(error)}
        if not isinstance(arguments, dict):
            arguments, problem = {}, {"arguments_error": "they are no object"}
        return allm.ToolCall(
            id=call_id, name=name, arguments=arguments, raw_arguments=written, metadata=problem
        )

    def called(self, call):
        """The events of a call."""
        written = call.raw_arguments if call.metadata else json.dumps(call.arguments)
        return [
            allm.ToolCallStarted(call.id, call.name),
            *(allm.ToolCallDelta(call.id, piece) for piece in (written[:3], written[3:])),
            allm.ToolCallCompleted(call.id, call.name, call.arguments, written, call.metadata),
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


def unreadable():
    return allm.AdapterError("malformed_response", provider="right", message="it cannot be read")


class OnStage:
    """A stage on which `adapter` asks the provider."""

    adapter = Right
    tells_strict = True

    @contextmanager
    def stage(self, scene):
        if scene.reason == "cancelled":
            pytest.skip("only scripts do that")
        provider = Provider(scene)
        yield Stage(
            engine=allm.Engine(adapter=self.adapter(provider), adapter_opts={"base_url": URL}),
            cleanups=lambda: provider.left,
            connections=lambda: provider.connections,
            sent=lambda: provider.sent,
            key=KEY,
            keys=lambda: [f"Bearer {key}" for key in provider.keys],
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


class ComesBackTooEarly(Right):
    """It has a patience of its own."""

    def delay(self, call, attempt, error, begun):
        policy, worth = policy_of(call.retry), super().delay(call, attempt, error, begun)
        return None if worth is None else policy.base_delay * 2 ** (attempt - 1)


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


class CountsAttemptsOfAllCalls(Right):
    """The second call has had its attempts before it begins."""

    count = 0

    def delay(self, call, attempt, error, begun):
        self.count += 1
        return super().delay(call, self.count, error, begun)


class SendsNothingTheSecondTime(Right):
    """The body was read, as if it were a file."""

    async def answer(self, body, call):
        call.kept["attempts"] = call.kept.get("attempts", 0) + 1
        async for event in super().answer(body if call.kept["attempts"] == 1 else {}, call):
            yield event


class TakesItsOwnKeyTheSecondTime(Right):
    """Somebody else pays for what is tried again."""

    def key(self, call):
        call.kept["keys"] = call.kept.get("keys", 0) + 1
        return super().key(call) if call.kept["keys"] == 1 else KEY


# --- what it sends ------------------------------------------------------------------------------------------------


class LeavesOut(Right):
    """One field of the body."""

    field = ""

    def body(self, request):
        return super().body(request) | {self.field: None}


class DropsTheModel(LeavesOut):
    """The provider takes its own."""

    field = "model"


class SendsNoneForTheModel(Right):
    """It must be a text."""

    def body(self, request):
        return super().body(request) | {"model": str(request.model)}


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


class DropsPictures(Right):
    """The texts beside them are sent."""

    kind = "image"

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if not isinstance(message["content"], str):
                message["content"] = [part for part in message["content"] if self.kind not in part]
        return body


class DropsPartsOf(Right):
    """Whoever is not the user says texts."""

    role = ""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if message["role"] == self.role and not isinstance(message["content"], str):
                message["content"] = ""
        return body


class DropsPartsOfTheSystem(DropsPartsOf):
    """It says texts."""

    role = "system"


class DropsPartsOfTheAssistant(DropsPartsOf):
    """It says texts."""

    role = "assistant"


class SendsPartsBackwards(Right):
    """The last part of a message first."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if not isinstance(message["content"], str):
                message["content"] = message["content"][::-1]
        return body


class SendsOnePicture(Right):
    """Of a message the first one."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            parts = message["content"]
            pictures = [part for part in parts if "image" in part]
            message["content"] = [part for part in parts if part not in pictures[1:]] if pictures else parts
        return body


class SendsPicturesOfTheLastMessage(Right):
    """The model has seen the others."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"][:-1]:
            if not isinstance(message["content"], str):
                message["content"] = [part for part in message["content"] if "image" not in part]
        return body


class DropsPicturesAtUrls(Right):
    """It knows bytes."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if not isinstance(message["content"], str):
                message["content"] = [
                    part
                    for part in message["content"]
                    if "url" not in part.get("image", {}).get("source", ())
                ]
        return body


class TakesAllForPng(Right):
    """Bytes are bytes."""

    def body(self, request):
        return json.loads(json.dumps(super().body(request)).replace("application/pdf", "image/png"))


class DropsDocuments(DropsPictures):
    """Of parts it knows texts and pictures."""

    kind = "document"


class DropsTextsBesidePictures(Right):
    """A message is one or the other."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if any("image" in part for part in message["content"]):
                message["content"] = message["content"][1:]
        return body


class DropsEmptyToolAnswers(Right):
    """As if they had never come."""

    def body(self, request):
        body = super().body(request)
        return body | {"messages": [each for each in body["messages"] if each["content"] or each["metadata"]]}


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


class LosesZero(Right):
    """A temperature that is as good as false."""

    def body(self, request):
        return super().body(request) | {"temperature": request.temperature or None}


class LosesOptionsOfZero(Right):
    """Which are as good as none."""

    def body(self, request):
        return super().body(request) | {
            "options": {name: each for name, each in request.options.items() if each}
        }


class LosesOptionsThatAreLists(Right):
    """An option is a text or a number."""

    def body(self, request):
        plain = {name: each for name, each in request.options.items() if not isinstance(each, list)}
        return super().body(request) | {"options": plain}


class SendsTheLastOfOneSpeaker(Right):
    """Who speaks twice has thought better of it."""

    def body(self, request):
        body = super().body(request)
        pairs = itertools.zip_longest(body["messages"], body["messages"][1:], fillvalue={"role": None})
        return body | {"messages": [each for each, after in pairs if each["role"] != after["role"]]}


class SendsTwoTools(Right):
    """As many as its makers ever tried."""

    def body(self, request):
        body = super().body(request)
        return body | {"tools": body["tools"][:2]}


class FlattensSchemas(Right):
    """A parameter has a type."""

    def body(self, request):
        body = super().body(request)
        for tool in body["tools"]:
            kinds = {name: {"type": each["type"]} for name, each in tool[2].get("properties", {}).items()}
            tool[2] = tool[2] | {"properties": kinds}
        return body


class FlattensForms(Right):
    """A field has a type."""

    def body(self, request):
        sent = json.dumps(super().body(request))
        return json.loads(re.sub(r'"items": \{.*?\}\}\}', '"items": {}', sent))


class ForcesTheFirstTool(Right):
    """One of them must be called."""

    def body(self, request):
        body = super().body(request)
        named = body["tools"] and body["tool_choice"] not in (None, "auto", "none", "required")
        return body | {"tool_choice": body["tools"][0][0]} if named else body


class ChangesSchemas(Right):
    """The caller's own, and those of all other calls."""

    def body(self, request):
        for tool in request.tools:
            tool.schema["additionalProperties"] = False
        return super().body(request)


class ChangesArguments(Right):
    """The caller's own, which are stored."""

    def body(self, request):
        for call in itertools.chain.from_iterable(message.tool_calls for message in request.messages):
            call.arguments["_id"] = call.id
        return super().body(request)


class LosesAChoice(Right):
    """One of the words."""

    word = ""

    def body(self, request):
        body = super().body(request)
        return body if body["tool_choice"] != self.word else body | {"tool_choice": None}


class LosesRequired(LosesAChoice):
    """A model that must call may as well not."""

    word = "required"


class TakesRequiredForAuto(Right):
    """The nearest word that it knows."""

    def body(self, request):
        body = super().body(request)
        return body if body["tool_choice"] != "required" else body | {"tool_choice": "auto"}


class LosesNone(LosesAChoice):
    """A model that must not call may."""

    word = "none"


class KnowsSchemasAlone(Right):
    """JSON of any form is a text to it."""

    def body(self, request):
        wanted = request.response_format
        known = wanted if wanted and wanted["type"] == "json_schema" else None
        return super().body(request) | {"response_format": known}


class LosesStrict(Right):
    """The schema is a hint."""

    def body(self, request):
        wanted = {**(request.response_format or {})}
        wanted.pop("strict", None)
        return super().body(request) | {"response_format": wanted}


class LosesWhatIsRequired(Right):
    """Every parameter of a tool can be left out."""

    def body(self, request):
        tools = [[tool.name, tool.description, {**tool.schema, "required": []}] for tool in request.tools]
        return super().body(request) | {"tools": tools}


class LosesTextBesideCalls(Right):
    """What was said before a call."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if message["metadata"].get("tool_calls"):
                message["content"] = ""
        return body


class WritesPython(Right):
    """Where JSON is read."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            for call in message["metadata"].get("tool_calls", []):
                call["arguments"] = str(call["arguments"])
        return body


class WritesJsonTwice(Right):
    """The provider wants a text."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            for call in message["metadata"].get("tool_calls", []):
                call["arguments"] = json.dumps(json.dumps(call["arguments"]))
        return body


class DropsPartsOfToolAnswers(Right):
    """An answer that is no text is none."""

    def body(self, request):
        body = super().body(request)
        for message in body["messages"]:
            if message["role"] == "tool" and not isinstance(message["content"], str):
                message["content"] = ""
        return body


class AsksWithItsOwnKey(Right):
    """Whoever calls."""

    def key(self, call):
        return KEY


class KeepsTheFirstKey(Right):
    """As a client does that was made for one call, and kept for the others."""

    first = None

    def key(self, call):
        self.first = self.first or super().key(call)
        return self.first


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


class KeepsItsRequest(Right):
    """Until it begins, when it is that of another call."""

    def stream(self, request, call):
        self.kept = self.body(request)
        return self.later(call)

    async def later(self, call):
        async for event in self.attempts(self.kept, call):
            yield event


class KeepsItsKeyOfOneCall(Right):
    """Until it asks, when it is that of another call."""

    def stream(self, request, call):
        self.kept = super().key(call)
        return super().stream(request, call)

    def key(self, call):
        return self.kept


class KeepsOptionsOfOneCall(Right):
    """All callers ask at the address of the first."""

    first = None

    def stream(self, request, call):
        self.first = self.first or call.options.get("base_url")
        return super().stream(request, call)

    def connection(self):
        if self.first not in (None, URL):
            raise unreadable()
        return super().connection()


# --- what it tells ------------------------------------------------------------------------------------------------


class EveryEndIsAStop(Right):
    """Also half an answer's."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, "stop", usage)


class RunsCallsThatWereCutOff(Right):
    """There are calls, so it ended with them."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, "tool_calls" if calls else reason, usage)


class LosesWhatCountsAsFalse(Right):
    """Of the arguments of a call, and of what they hold."""

    def read(self, call_id, name, written):
        made = super().read(call_id, name, written)
        return msgspec.structs.replace(made, raw_arguments="", arguments=self.true(made.arguments))

    def true(self, value):
        return (
            {name: self.true(each) for name, each in value.items() if each}
            if isinstance(value, dict)
            else value
        )


class NeedsAText(Right):
    """What says nothing is no answer."""

    def end(self, text, calls, reason, usage):
        if not text:
            raise unreadable()
        return super().end(text, calls, reason, usage)


class BeginsWithItsText(Right):
    """And never, where there is none."""

    async def events(self, answer, call):
        begun = False
        async for event in super().events(answer, call):
            if isinstance(event, allm.TextDelta) and not begun:
                begun = True
                yield allm.MessageStarted()
            if not isinstance(event, allm.MessageStarted):
                yield event


class NeedsArguments(Right):
    """A call without them is no JSON."""

    def read(self, call_id, name, written):
        json.loads(written)
        return super().read(call_id, name, written)


class FailsWithoutArguments(Right):
    """After the call was begun."""

    async def events(self, answer, call):
        async for event in super().events(answer, call):
            if isinstance(event, allm.ToolCallCompleted) and not event.arguments:
                raise unreadable()
            yield event


class TakesBrokenArgumentsForNone(Right):
    """The tool knows what to do without."""

    def read(self, call_id, name, written):
        made = super().read(call_id, name, written)
        return msgspec.structs.replace(made, raw_arguments="", metadata={})


class FailsWithBrokenArguments(Right):
    """The answer is lost, and the model never hears why."""

    def read(self, call_id, name, written):
        made = super().read(call_id, name, written)
        if made.metadata:
            raise unreadable()
        return made


class DropsBrokenCalls(Right):
    """As if the model had not called."""

    def called(self, call):
        return [] if call.metadata else super().called(call)


class WritesToTheLastCall(Right):
    """It takes one call at a time."""

    def write(self, writing, call_id, piece):
        super().write(writing, [*writing][-1], piece)


class FailsAtItsEnd(Right):
    """Everything has come, but it is no answer."""

    def end(self, text, calls, reason, usage):
        *told, _ = super().end(text, calls, reason, usage)
        return [*told, allm.ErrorEvent(unreadable())]


class BeginsTwice(Right):
    """With the provider's answer, and with its first text."""

    async def events(self, answer, call):
        async for event in super().events(answer, call):
            if isinstance(event, allm.MessageStarted):
                yield event
            yield event


class TellsEmptyFragments(Right):
    """Whatever comes is a fragment."""

    async def events(self, answer, call):
        async for event in super().events(answer, call):
            if isinstance(event, allm.TextDelta):
                yield allm.TextDelta("")
            yield event


class NeverTellsTheWholeText(Right):
    """Who wants it can join the fragments."""

    def end(self, text, calls, reason, usage):
        told = super().end(text, calls, reason, usage)
        return [event for event in told if not isinstance(event, allm.TextCompleted)]


class LosesOddLineEnds(Right):
    """Which are none to JSON."""

    def end(self, text, calls, reason, usage):
        return super().end("\n".join(text.splitlines()), calls, reason, usage)


class KeepsConnections(Right):
    """Of calls that ended in one of these ways."""

    ways = ("answered", "failed")

    def __init__(self, provider):
        super().__init__(provider)
        self.kept = []

    @contextmanager
    def connection(self):
        kept, way = super().connection(), "failed"
        try:
            yield kept.__enter__()
            way = "answered"
        finally:
            if way in self.ways:
                self.kept.append(kept)
            else:
                kept.__exit__(None, None, None)


class KeepsConnectionsOfFailures(KeepsConnections):
    """Who cleans up at the end does not where it is never reached."""

    ways = ("failed",)


class TakesABreakForTheEnd(Right):
    """What came is all that there is."""

    def broken(self, text, call, why):
        if not text or isinstance(why, Refused):
            return super().broken(text, call, why)
        return self.end(text, [], "stop", None)


class TakesAnyEndForTheEnd(Right):
    """The bytes are over, so the answer is."""

    def cut_off(self, text, call):
        return self.end(text, [], "stop", None)


class SkipsGarbage(Right):
    """And goes on as if it had been nothing."""

    skips_garbage = True


class DropsUsage(Right):
    """Nobody knows what it cost."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, reason, None)


class LosesUsageOfNothing(Right):
    """What cost nothing is as good as not said."""

    def end(self, text, calls, reason, usage):
        return super().end(text, calls, reason, usage if usage and usage.output_tokens else None)


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


class CompletesWithItsTextStripped(CompletesWith):
    """Spaces say nothing."""

    def message(self, said):
        return msgspec.structs.replace(said, content=said.content.strip())


class TellsItsWholeTextStripped(Right):
    """But has told the fragments."""

    def end(self, text, calls, reason, usage):
        told = super().end(text, calls, reason, usage)
        return [allm.TextCompleted(text.strip()) if isinstance(e, allm.TextCompleted) else e for e in told]


class CompletesWithoutText(CompletesWith):
    """What was said is not in the conversation."""

    def message(self, said):
        return msgspec.structs.replace(said, content="")


class CompletesCallsWithoutText(CompletesWith):
    """What was said before them is not in the conversation."""

    def message(self, said):
        return msgspec.structs.replace(said, content="") if said.tool_calls else said


class CompletesWithAUsersMessage(CompletesWith):
    """As if the caller had said it."""

    def message(self, said):
        return msgspec.structs.replace(said, role="user")


class CompletesWithoutCalls(CompletesWith):
    """Their answers answer nothing."""

    def message(self, said):
        return msgspec.structs.replace(said, metadata={})


class CompletesBeforeItsError(Right):
    """What came was an answer, too."""

    async def attempts(self, body, call):
        async for event in super().attempts(body, call):
            if isinstance(event, allm.ErrorEvent):
                yield allm.MessageCompleted(allm.assistant("half of it"), None)
            yield event


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


class NumbersItsCalls(Right):
    """From one, in every answer."""

    def read(self, call_id, name, written):
        place = [call.id for call in self.provider.scene.tool_calls].index(call_id)
        return super().read(f"call_{place}", name, written)


class FailsAtLongLines(Right):
    """As `readline` does."""

    async def joined(self, answer):
        async for kind, value in super().joined(answer):
            if kind == "say" and len(value) > 65_536:
                raise unreadable()
            yield kind, value


class TellsWhatWasAsked(Right):
    """Its error has the body."""

    def body(self, request):
        self.asked = super().body(request)
        return self.asked

    def failure(self, call):
        failure = super().failure(call)
        failure.message = f"the provider will not answer {self.asked}"
        return failure


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


class TellsNoProvider(Right):
    """Whose failure is it?"""

    def failure(self, call):
        failure = super().failure(call)
        failure.provider = None
        return failure


class TakesAGatewayForGarbage(Right):
    """What refuses must do so in the provider's words."""

    def failure(self, call):
        return unreadable() if self.provider.scene.gateway else super().failure(call)


# --- what it waits for --------------------------------------------------------------------------------------------


class Hangs(Right):
    """Until it is let go."""

    let_go = None

    async def hang(self):
        await asyncio.to_thread(self.let_go.wait)


class HangsAfterItsEnd(Hangs):
    """It waits for the provider to say more."""

    async def events(self, answer, call):
        async for event in super().events(answer, call):
            yield event
        await self.hang()


class HangsBeforeItsError(Hangs):
    """It waits for nobody knows what."""

    async def attempts(self, body, call):
        async for event in super().attempts(body, call):
            if isinstance(event, allm.ErrorEvent):
                await self.hang()
            yield event
