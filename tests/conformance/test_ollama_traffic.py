"""Every recorded chat of Ollama's own format decodes, whatever the network does to it, and its request is ours."""

import json

from allm_actors.data import Message, MessageCompleted, Request, TextDelta, Tool, ToolCall
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.ollama.chat import DIALECT
from tests.conformance.ledger import Suite
from tests.conformance.traffic import cases, exchanges

ROW = PROVIDERS["ollama"]


def is_stream(exchange):
    return b"\n" in exchange.body.strip()


chats = [exchange for exchange in exchanges(["ollama"]) if exchange.request["url"].endswith("/api/chat")]
streams = list(filter(is_stream, chats))
every_chat = cases(chats)


def decoder_for(_exchange):
    return DIALECT.decoder(ROW)


def lines_of(body):
    return body.splitlines(keepends=True)


@every_chat
def test_a_recorded_answer_says_what_its_json_says(exchange):
    lines = [json.loads(line) for line in exchange.body.splitlines()]
    if is_stream(exchange):
        made = decoder_for(exchange)
        events = made.feed(exchange.body) + made.end()
    else:
        events = DIALECT.decode_body(exchange.body, ROW)
    text = "".join(line["message"]["content"] for line in lines)
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == last.message.content == text
    assert last.metadata.get("raw_finish_reason") == lines[-1].get("done_reason")
    assert last.finish_reason == lines[-1].get("done_reason", "stop")
    assert last.metadata["model"] == lines[0]["model"]
    usage = last.metadata["usage"]
    assert usage.output_tokens == lines[-1]["eval_count"]
    assert usage.input_tokens == lines[-1].get("prompt_eval_count")


@every_chat
def test_what_we_send_is_what_was_sent(exchange):
    sent = exchange.sent
    encoded = json.loads(DIALECT.encode(request_of(sent), ROW, "http://x").body)
    assert normal(encoded) == normal(sent)


def request_of(sent):
    """`temperature` beside `options` is what one recorded client sent, and Ollama ignores it there."""
    options = dict(sent.get("options") or {})
    return Request(
        messages=[message_of(message) for message in sent["messages"]],
        model=sent["model"],
        max_tokens=options.pop("num_predict", None),
        options=options,
        tools=[Tool(**tool["function"]) for tool in sent.get("tools") or ()],
    )


def message_of(message):
    calls = [
        ToolCall(id=str(n), **call["function"]) for n, call in enumerate(message.get("tool_calls") or ())
    ]
    metadata = {"tool_calls": calls} if calls else {}
    call_id = "0" if message["role"] == "tool" else None
    return Message(role=message["role"], content=message["content"], tool_call_id=call_id, metadata=metadata)


def normal(body):
    """Documented differences: we always stream, name the tool that answers, and send nothing that is empty."""
    made = {name: value for name, value in body.items() if name not in ("stream", "temperature") and value}
    made["messages"] = [{k: v for k, v in m.items() if k != "tool_name"} for m in body["messages"]]
    return made


SUITE = Suite(
    endpoint="chat",
    dialect="ollama",
    streams=streams,
    decoder=decoder_for,
    frames=lines_of,
    reads=(test_a_recorded_answer_says_what_its_json_says,),
    sends=test_what_we_send_is_what_was_sent,
)
