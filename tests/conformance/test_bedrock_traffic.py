"""Every recorded Converse of Bedrock's decodes, whatever the network does to it, and its request is what we send."""

import json

import pytest

from allm_actors.data import (
    Document,
    DocumentPart,
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
from allm_actors.engine.dialects.bedrock.chat import DIALECT
from allm_actors.engine.eventstream import EventStreamDecoder
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.aws_frames import read, split
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
    unknown,
)

ROW = PROVIDERS["bedrock"]
REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
}
OTHERS = {  # what else was recorded under Bedrock's name, and why it is not read here
    "invoke": "each vendor's own format, whole",
    "invoke-with-response-stream": "each vendor's own format, in frames",
    "count-tokens": "counts, and answers nothing",
    "responses": "OpenAI's format, of another host",
    "completions": "OpenAI's format, of another host",
}


def operation(exchange):
    return exchange.request["url"].split("?")[0].rpartition("/")[2]


def is_stream(exchange):
    return "eventstream" in exchange.response["headers"].get("content-type", "")


recorded = list(exchanges(["bedrock"]))
converse = [exchange for exchange in recorded if operation(exchange) in ("converse", "converse-stream")]
every_refusal = cases(exchange for exchange in converse if exchange.response["status"] >= 400)
every_answer = cases(exchange for exchange in converse if exchange.response["status"] < 400)
streams = list(filter(is_stream, converse))
every_request = cases(converse)
every_other = cases(exchange for exchange in recorded if exchange not in converse)


def decoder_for(_exchange):
    return DIALECT.decoder(ROW)


@every_other
def test_what_is_another_endpoints(exchange):
    pytest.skip(f"not applicable: {operation(exchange)} is {OTHERS[operation(exchange)]}")


@every_answer
def test_a_recorded_answer_says_what_its_json_says(exchange):
    if is_stream(exchange):
        made = decoder_for(exchange)
        events = made.feed(exchange.body) + made.end()
        wire = read_stream(exchange.body)
    else:
        events = DIALECT.decode_body(exchange.body, ROW)
        wire = json.loads(exchange.body)
    content = wire["output"]["message"]["content"]
    calls = [block["toolUse"] for block in content if "toolUse" in block]
    calls = [call for call in calls if call.get("type") != "server_tool_use"]
    text = "".join(block.get("text", "") for block in content)
    last = events[-1]
    assert isinstance(last, MessageCompleted), last
    assert last.message.content == text
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == text
    assert [e.text for e in events if isinstance(e, TextCompleted)] == ([text] if text else [])
    reasoned = [b["reasoningContent"]["reasoningText"] for b in content if "reasoningContent" in b]
    assert thoughts(events) == "".join(each["text"] for each in reasoned)
    assert not unknown(events)
    assert [(c.id, c.name, c.arguments) for c in last.message.tool_calls] == [
        (call["toolUseId"], call["name"], call["input"]) for call in calls
    ]
    assert_calls_are_told_consistently(events)
    assert last.metadata["raw_finish_reason"] == wire["stopReason"]
    assert last.finish_reason == REASONS[wire["stopReason"]]
    assert last.metadata["metrics"] == wire["metrics"]
    assert last.metadata.get("trace") == wire.get("trace")
    usage, counted = last.metadata["usage"], wire["usage"]
    assert usage.output_tokens == counted["outputTokens"]
    assert usage.total_tokens == counted["totalTokens"] == usage.input_tokens + usage.output_tokens
    assert usage.cached_input_tokens == counted.get("cacheReadInputTokens")
    state = last.message.metadata.get("provider_state", {}).get("bedrock")
    if all(set(block) <= {"text"} or block.get("toolUse") in calls for block in content):
        assert state is None
    else:
        assert state == [told_again(block) for block in content if block.get("text") != ""]


@cases(exchange for exchange in recorded if is_stream(exchange))
def test_botocore_reads_the_same_frames(exchange):
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is an extra")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(exchange.body)
    ours = EventStreamDecoder()
    frames = [(dict(frame.headers), frame.data) for frame in ours.feed(exchange.body)]
    assert frames == [(dict(event.headers), event.payload) for event in buffer]
    assert frames
    assert ours.broken is None


@every_refusal
def test_a_recorded_refusal_says_why(exchange):
    response = exchange.response
    failure = HttpAnswer(status=response["status"], headers=response["headers"], body=exchange.body)
    error = DIALECT.decode_error(failure, ROW)
    assert (error.reason, error.status, error.provider) == ("invalid_request", 400, "bedrock")
    assert json.loads(exchange.body)["message"].rstrip(".") in error.message


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    sent = exchange.sent
    unknown = untold(sent)
    if unknown:
        pytest.skip(f"not applicable: the request has {unknown}, which our requests have no word for")
    url = exchange.request["url"]
    base, _, model = url.partition("/model/")
    http = DIALECT.encode(request_of(sent, model.partition("/")[0].replace("%3A", ":")), ROW, base)
    assert http.url == url.removesuffix("-stream") + "-stream"
    assert normal(json.loads(http.body)) == normal(sent)


# --- reading, by somebody else ------------------------------------------------------------------------------------


def read_stream(body):
    blocks, wire = {}, {}
    for frame in split(body):
        headers, payload = read(frame)
        event = json.loads(payload)
        index = event.get("contentBlockIndex")
        match headers[":event-type"]:
            case "contentBlockStart":
                ((kind, start),) = event["start"].items()
                blocks[index] = {kind: {**start, "json": ""}}
            case "contentBlockDelta":
                ((kind, delta),) = event["delta"].items()
                if kind == "text":
                    block = blocks.setdefault(index, {"text": ""})
                    block["text"] += delta
                elif kind == "reasoningContent":
                    block = blocks.setdefault(index, {kind: {"reasoningText": {"text": ""}}})
                    ((name, piece),) = delta.items()
                    block[kind]["reasoningText"][name] = block[kind]["reasoningText"].get(name, "") + piece
                elif kind == "toolUse":
                    blocks[index][kind]["json"] += delta["input"]
                else:
                    blocks[index][kind]["content"] = delta
            case "messageStop" | "metadata":
                wire |= {name: value for name, value in event.items() if name != "p"}
    for block in blocks.values():
        for kind in ("toolUse", "toolResult"):
            fragments = block.get(kind, {}).pop("json", "")
            if kind in block and "content" not in block[kind]:
                block[kind]["input"] = json.loads(fragments or "{}")
    return {**wire, "output": {"message": {"content": [blocks[index] for index in sorted(blocks)]}}}


def told_again(block):
    """A block as it is sent back: `tool_use` is a type that only answers have."""
    use = block.get("toolUse")
    if use is None or use.get("type") != "tool_use":
        return block
    return {"toolUse": {name: value for name, value in use.items() if name != "type"}}


# --- the request that somebody sent, in our words -----------------------------------------------------------------


def untold(sent):
    blocks = [block for message in sent["messages"] for block in message["content"]]
    for block in blocks:
        for kind in ("guardContent", "video"):
            if kind in block:
                return f"a block of kind {kind}"
        if "cachePoint" in block:
            return "a cachePoint inside of a message"
    if "s3Location" in json.dumps(blocks):
        return "a file by its place in S3"
    return ""


def request_of(sent, model):
    tools = [tool["toolSpec"] for tool in sent.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
    own = any("systemTool" in tool for tool in sent.get("toolConfig", {}).get("tools", ()))
    inference = sent.get("inferenceConfig", {})
    known = (
        "messages",
        "system",
        "toolConfig",
        "inferenceConfig",
        "outputConfig",
        "additionalModelRequestFields",
    )
    system = [block["text"] for block in sent.get("system", ()) if "text" in block]
    wanted = sent.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")
    return Request(
        model=model,
        messages=[
            *[Message(role="system", content=text) for text in system],
            *[told for message in sent["messages"] for told in messages_of(message)],
        ],
        tools=[
            Tool(
                name=tool["name"],
                description=tool.get("description", ""),
                schema=tool["inputSchema"]["json"],
            )
            for tool in tools
        ],
        tool_choice=sent.get("toolConfig", {}).get("toolChoice"),
        max_tokens=inference.get("maxTokens"),
        temperature=inference.get("temperature"),
        response_format=None
        if wanted is None
        else {"type": "json_schema", "name": wanted["name"], "schema": json.loads(wanted["schema"])},
        options={
            **({"toolConfig": sent["toolConfig"]} if own else {}),
            **{name: value for name, value in sent.items() if name not in known},
            **sent.get("additionalModelRequestFields", {}),
        },
    )


def messages_of(message):
    if message["role"] == "assistant":
        blocks = message["content"]
        calls = [
            ToolCall(id=b["toolUse"]["toolUseId"], name=b["toolUse"]["name"], arguments=b["toolUse"]["input"])
            for b in blocks
            if "toolUse" in b
        ]
        metadata = {"tool_calls": calls} if calls else {}
        if not all(set(block) <= {"text", "toolUse"} for block in blocks):
            metadata["provider_state"] = {"bedrock": blocks}
        text = "".join(block.get("text", "") for block in blocks)
        yield Message(role="assistant", content=text, metadata=metadata)
        return
    for block in message["content"]:
        if "toolResult" in block:
            result = block["toolResult"]
            parts = [part_of(part) for part in result["content"]]
            yield Message(role="tool", content=parts, tool_call_id=result["toolUseId"])
    parts = [part_of(block) for block in message["content"] if "toolResult" not in block]
    if parts:
        yield Message(role="user", content=parts)


def part_of(block):
    if "text" in block:
        return TextPart(text=block["text"])
    if "document" in block:
        return DocumentPart(document=document_of(block["document"]))
    image = block["image"]
    return ImagePart(image=Image.from_base64(image["source"]["bytes"], "image/" + image["format"]))


def document_of(document):
    name = f"a.{document['format']}"
    return Document.from_base64(
        document["source"]["bytes"], Document.from_file(name).mime_type, document["name"]
    )


def normal(body):
    """Documented differences: messages in a row are one, what is empty is not sent, the status of a result and what
    describes a format neither; a choice of `auto` is none."""
    made = {name: value for name, value in body.items() if value not in ({}, [])}
    messages = []
    for message in body["messages"]:
        content = [normal_block(block) for block in message["content"]]
        if messages and messages[-1][0] == message["role"]:
            messages[-1][1].extend(content)
        else:
            messages.append((message["role"], content))
    made["messages"] = messages
    config = dict(made.get("toolConfig", {}))
    if config.get("toolChoice") == {"auto": {}}:
        del config["toolChoice"]
    made["toolConfig"] = config
    if "outputConfig" in made:
        structure = made["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        made["outputConfig"] = structure["name"], json.loads(structure["schema"])
    return made


def normal_block(block):
    result = block.get("toolResult")
    return block if result is None else (result["toolUseId"], result["content"])


SUITE = Suite(
    endpoint="Converse",
    dialect="bedrock",
    streams=streams,
    decoder=decoder_for,
    frames=split,
    reads=(
        test_a_recorded_answer_says_what_its_json_says,
        test_a_recorded_refusal_says_why,
    ),
    sends=test_what_we_send_is_what_was_sent,
)
