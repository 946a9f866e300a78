"""Every recorded answer of Gemini's decodes, whatever the network does to it, and its request is what we send."""

import json
import re

import pytest

from allm_actors.data import (
    Document,
    DocumentPart,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    Request,
    TextCompleted,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.gemini.chat import DIALECT
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
)

ROW = PROVIDERS["gemini"]


def is_generated(exchange):
    return re.search(r":(stream)?[gG]enerateContent", exchange.request["url"]) is not None


def is_stream(exchange):
    return exchange.body.startswith(b"data:")


answers = [exchange for exchange in exchanges(["google", "vertex"]) if is_generated(exchange)]
streams = list(filter(is_stream, answers))
every_stream = cases(streams)
every_answer = cases(exchange for exchange in answers if not is_stream(exchange))
every_request = cases(exchange for exchange in answers if isinstance(exchange.sent, dict))


def decoder_for(_exchange):
    return DIALECT.decoder(ROW)


@every_stream
def test_a_recorded_stream_says_what_its_json_says(exchange):
    made = decoder_for(exchange)
    events = made.feed(exchange.body) + made.end()
    lines = re.split(rb"\r?\n", exchange.body)
    said = read([json.loads(line[5:]) for line in lines if line.startswith(b"data:")])
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert_says(events, said)


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(exchange):
    if exchange.response["status"] >= 400:
        failure = HttpAnswer(status=exchange.response["status"], body=exchange.body)
        error = DIALECT.decode_error(failure, ROW)
        reasons = {404: "invalid_request", 429: "rate_limited", 400: "invalid_request"}
        assert (error.reason, error.status) == (reasons[failure.status], failure.status)
        assert (error.retry_after_ms == 34400) == (b"34.4s" in exchange.body)
        return
    assert_says(DIALECT.decode_body(exchange.body, ROW), read([json.loads(exchange.body)]))


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    sent = camel(exchange.sent)
    unknown = untold(sent)
    if unknown:
        pytest.skip(f"not applicable: the request has {unknown}, which our requests have no word for")
    encoded = json.loads(DIALECT.encode(request_of(sent), ROW, "https://x").body)
    assert normal(encoded) == normal(sent)


# --- reading, by somebody else ------------------------------------------------------------------------------------


def assert_says(events, said):
    last = events[-1]
    if said["blocked"]:
        assert isinstance(last, ErrorEvent)
        assert last.error.reason == "content_filter"
        return
    if said["finish"] is None:
        assert isinstance(last, ErrorEvent), last
        return
    assert isinstance(last, MessageCompleted), last
    assert thoughts(events) == said["thoughts"]
    assert last.metadata["raw_finish_reason"] == said["finish"]
    reason = {"STOP": "stop", "MAX_TOKENS": "length"}[said["finish"]]
    assert last.finish_reason == ("tool_calls" if reason == "stop" and said["calls"] else reason)
    assert last.metadata.get("id") == said["id"]
    assert last.metadata["model"] == said["model"]
    assert last.message.content == said["text"]
    assert [e.text for e in events if isinstance(e, TextCompleted)] == (
        [said["text"]] if said["text"] else []
    )
    assert [(call.name, call.arguments) for call in last.message.tool_calls] == said["calls"]
    assert [call.metadata.get("thoughtSignature") for call in last.message.tool_calls] == said["signatures"]
    assert len({call.id for call in last.message.tool_calls}) == len(said["calls"])
    assert_calls_are_told_consistently(events)
    usage, wire = last.metadata.get("usage"), said["usage"]
    assert (usage and usage.input_tokens) == wire.get("promptTokenCount")
    assert (usage and usage.output_tokens) == wire.get("candidatesTokenCount")
    assert (usage and usage.reasoning_tokens) == wire.get("thoughtsTokenCount")
    assert (usage and usage.total_tokens) == wire.get("totalTokenCount")


def read(responses):
    said = {
        "text": "",
        "thoughts": "",
        "calls": [],
        "signatures": [],
        "finish": None,
        "usage": {},
        "id": None,
        "model": None,
        "blocked": False,
    }
    partial = None
    for response in responses:
        said["id"] = said["id"] or response.get("responseId")
        said["model"] = said["model"] or response.get("modelVersion")
        said["usage"] |= response.get("usageMetadata") or {}
        said["blocked"] = said["blocked"] or "blockReason" in (response.get("promptFeedback") or {})
        for candidate in (response.get("candidates") or [])[:1]:
            said["finish"] = candidate.get("finishReason") or said["finish"]
            for part in (candidate.get("content") or {}).get("parts") or []:
                said["thoughts" if part.get("thought") else "text"] += part.get("text") or ""
                call = part.get("functionCall")
                if call is None:
                    continue
                if "name" in call:
                    partial = dict(call.get("args") or {})
                    said["calls"].append((call["name"], partial))
                    said["signatures"].append(part.get("thoughtSignature"))
                for one in call.get("partialArgs") or []:
                    put(partial, one)
    return said


def put(holder, one):
    *path, last = [
        int(s[1:-1]) if s[0] == "[" else s for s in re.findall(r"\[\d+\]|[^.$\[\]]+", one["jsonPath"])
    ]
    steps = [*path, last]
    for step, following in zip(path, steps[1:], strict=True):
        empty = [] if isinstance(following, int) else {}
        if isinstance(step, int) and step == len(holder):
            holder.append(empty)
        holder = holder.setdefault(step, empty) if isinstance(holder, dict) else holder[step]
    value = next((one[name] for name in ("stringValue", "numberValue", "boolValue") if name in one), None)
    if isinstance(holder, list):
        if last == len(holder):
            holder.append(value)
        elif isinstance(value, str):
            holder[last] += value
    elif isinstance(value, str) and last in holder:
        holder[last] += value
    else:
        holder[last] = value


# --- the request that somebody sent, in our words -----------------------------------------------------------------


def camel(value):
    """The names as the API's reference has them; it takes both."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"_(\w)", lambda m: m[1].upper(), k) if k.islower() else k: keep(k, v)
        for k, v in value.items()
    }


def keep(name, value):
    plain = (
        "args",
        "response",
        "parameters",
        "parameters_json_schema",
        "parametersJsonSchema",
        "responseJsonSchema",
    )
    return value if name in plain or name == "response_json_schema" else camel(value)


def untold(sent):
    text = json.dumps(sent)
    if "SCRUBBED" in text:
        return "scrubbed parts"
    known = {"text", "functionCall", "functionResponse", "thoughtSignature", "thought"}
    known |= {"inlineData", "fileData"}
    for content in sent["contents"]:
        for part in content["parts"]:
            others = set(part) - known
            if others and content["role"] == "user":
                return f"a part with {', '.join(sorted(others))}"
            if "functionResponse" in part and not isinstance(part["functionResponse"]["response"], dict):
                return "an answer that is no object"
            mime_type = part.get("inlineData", {}).get("mimeType", "")
            if mime_type.startswith(("audio/", "video/")):
                return f"data of type {mime_type}"
            where = normal_file(part).get("fileData", {})
            if where.get("mimeType", "").startswith(("audio/", "video/", "image/")):
                return f"a file of type {where['mimeType']}"
        kinds = {"functionResponse" in part for part in content["parts"]}
        if len(kinds) > 1:
            return "an answer of a tool and other content in one message"
    if any(set(tool) != {"functionDeclarations"} for tool in sent.get("tools", ())):
        return "the provider's own tools"
    system = sent.get("systemInstruction")
    if system and len(system["parts"]) > 1:
        return "a system prompt in parts"
    return ""


def request_of(sent):
    known = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig")
    config = sent.get("generationConfig") or {}
    choice = sent.get("toolConfig", {}).get("functionCallingConfig")
    system = sent.get("systemInstruction")
    first = [Message(role="system", content=system["parts"][0]["text"])] if system else []
    told = [message for content in sent["contents"] for message in messages_of(content)]
    tools = [t for tool in sent.get("tools", ()) for t in tool["functionDeclarations"]]
    return Request(
        messages=[*first, *told],
        model="gemini",
        tools=[
            Tool(
                name=t["name"],
                description=t.get("description", ""),
                schema=t.get("parameters") or t.get("parametersJsonSchema") or {},
            )
            for t in tools
        ],
        tool_choice=choice,
        options={**config, **{name: value for name, value in sent.items() if name not in known}},
    )


def messages_of(content):
    parts = content["parts"]
    if any("functionResponse" in part for part in parts):
        for part in parts:
            answer = part["functionResponse"]
            text = json.dumps(answer["response"], sort_keys=True)
            yield Message(
                role="tool", content=text, tool_call_id=answer.get("id", answer["name"]), name=answer["name"]
            )
    elif content.get("role") == "model":
        calls = [
            ToolCall(id=part["functionCall"].get("id", part["functionCall"]["name"]), name="x", arguments={})
            for part in parts
            if "functionCall" in part
        ]
        metadata = {"provider_state": {"gemini": parts}} | ({"tool_calls": calls} if calls else {})
        yield Message(role="assistant", content="", metadata=metadata)
    else:
        yield Message(role="user", content=[part_of(part) for part in parts])


def part_of(part):
    if "text" in part:
        return TextPart(text=part["text"])
    if "fileData" in part:
        where = normal_file(part)["fileData"]
        return DocumentPart(document=Document.from_url(where["fileUri"], where.get("mimeType")))
    data = normal_file(part)["inlineData"]
    if not data["mimeType"].startswith("image/"):
        return DocumentPart(document=Document.from_base64(data["data"], data["mimeType"]))
    return ImagePart(image=Image.from_base64(data["data"], data["mimeType"]))


def normal_file(part):
    """Both spellings of a field, and of Base64, are read by this provider; ours is the one of its reference."""
    made = dict(part)
    if "fileData" in part:
        names = {"file_uri": "fileUri", "mime_type": "mimeType"}
        made["fileData"] = {names.get(name, name): value for name, value in part["fileData"].items()}
    if "inlineData" in part:
        data = part["inlineData"]["data"].replace("-", "+").replace("_", "/")
        made["inlineData"] = part["inlineData"] | {"data": data}
    return made


def normal(body):
    """Documented differences: schemas may be in either field; an answer is text; ids that we made are not sent."""
    made = {name: value for name, value in body.items() if value not in (None, {}, [])}
    made["contents"] = [normal_content(content) for content in body["contents"]]
    if "systemInstruction" in made:
        made["systemInstruction"] = [part["text"] for part in made["systemInstruction"]["parts"]]
    made["tools"] = [
        {
            "description": "",
            "name": t["name"],
            **({"description": t["description"]} if "description" in t else {}),
        }
        | {"schema": without(t.get("parameters") or t.get("parametersJsonSchema") or {})}
        for tool in body.get("tools", ())
        for t in tool["functionDeclarations"]
    ]
    return made


def without(schema):
    if isinstance(schema, list):
        return [without(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("additionalProperties", "$schema")
    return {name: without(value) for name, value in schema.items() if name not in dropped}


def normal_content(content):
    parts = []
    for part in content["parts"]:
        answer = part.get("functionResponse")
        if answer is not None:
            response = answer["response"]
            text = response["output"] if set(response) == {"output"} else json.dumps(response, sort_keys=True)
            parts.append((answer["name"], text))
        else:
            parts.append(normal_file(part))
    return content.get("role", "user"), parts


SUITE = Suite(
    endpoint="generateContent",
    dialect="gemini",
    streams=streams,
    decoder=decoder_for,
    reads=(
        test_a_recorded_stream_says_what_its_json_says,
        test_an_answer_that_came_whole_becomes_the_same_events,
    ),
    sends=test_what_we_send_is_what_was_sent,
)
