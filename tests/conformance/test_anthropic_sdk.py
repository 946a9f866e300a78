"""Anthropic's own SDK puts the recorded answers together as we do. It is no dependency: `make oracles` brings it."""

import warnings

import pytest

from allm_actors.data import ErrorEvent
from tests.conformance.oracles import answering, is_stream, ours
from tests.conformance.traffic import cases, exchanges

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what somebody else's import warns of is not our finding
    anthropic = pytest.importorskip("anthropic", reason="Anthropic's SDK is not installed: make oracles")

pytestmark = pytest.mark.filterwarnings("ignore")
ASK = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
FORCED = "respond_with_json_"

# Several responses in one recording: the SDK reads on after the first one's end, or puts two of them into one.
SEVERAL = (
    "anthropic/vercel-anthropic-programmatic-tool-calling-1-stream",
    "anthropic/vercel-spliced-message-start-stream",
)

answers = [
    exchange
    for exchange in exchanges(["anthropic"])
    if exchange.request["url"].split("?")[0].endswith("/v1/messages") and exchange.response["status"] < 400
]


def theirs(exchange):
    """The message that the SDK makes of it, or what it raised."""
    with (
        answering(exchange) as url,
        anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client,
    ):
        if not is_stream(exchange):
            return client.messages.create(**ASK)
        with client.messages.stream(**ASK) as stream:
            return stream.get_final_message()


@cases(answers)
def test_a_message(exchange):
    if exchange.name in SEVERAL:
        pytest.skip("not applicable: several responses in one recording, which the SDK makes one message of")
    last = ours(exchange, "anthropic", "anthropic")
    assert not isinstance(last, ErrorEvent), last
    message = theirs(exchange)
    calls = [block for block in message.content if block.type == "tool_use"]
    forced = any(call.name.startswith(FORCED) for call in calls)
    if not forced:  # ours is the object that the forced tool was given
        assert last.message.content == "".join(
            block.text for block in message.content if block.type == "text"
        )
        assert [(c.id, c.name, c.arguments) for c in last.message.tool_calls] == [
            (call.id, call.name, call.input) for call in calls
        ]
    assert last.metadata["id"] == message.id
    assert last.metadata["model"] == message.model
    assert last.metadata["raw_finish_reason"] == message.stop_reason
    usage = last.metadata["usage"]
    assert usage.output_tokens == message.usage.output_tokens
    cached = (message.usage.cache_read_input_tokens or 0) + (message.usage.cache_creation_input_tokens or 0)
    assert usage.input_tokens == message.usage.input_tokens + cached
