"""Google's own SDK reads the recorded answers as we do. It is no dependency: `make oracles` brings it."""

import re
import warnings

import pytest

from allm_actors.data import ErrorEvent
from tests.conformance.oracles import answering, is_stream, ours
from tests.conformance.traffic import cases, exchanges

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what somebody else's import warns of is not our finding
    genai = pytest.importorskip("google.genai", reason="Google's SDK is not installed: make oracles")

pytestmark = pytest.mark.filterwarnings("ignore")

answers = [
    exchange
    for exchange in exchanges(["google", "vertex"])
    if re.search(r":(stream)?[gG]enerateContent", exchange.request["url"])
    and exchange.response["status"] < 400
]


def theirs(exchange):
    """The responses that the SDK makes of it: one, or one for each event."""
    with answering(exchange) as url:
        client = genai.Client(api_key="none", vertexai=False, http_options={"base_url": url})
        ask = {"model": "gemini", "contents": "hi"}
        if is_stream(exchange):
            return list(client.models.generate_content_stream(**ask))
        return [client.models.generate_content(**ask)]


def parts_of(response):
    candidates = response.candidates or []
    content = candidates[0].content if candidates else None
    return (content.parts if content else None) or []


def latest(told, name):
    """A count as the last event has it that has it at all: one recorded stream leaves one out at its end."""
    return next((count for each in reversed(told) if (count := getattr(each, name)) is not None), None)


@cases(answers)
def test_an_answer(exchange):
    responses = theirs(exchange)
    last = ours(exchange, "gemini", "gemini")
    finishes = [
        each.candidates[0].finish_reason.value
        for each in responses
        if each.candidates and each.candidates[0].finish_reason
    ]
    if isinstance(last, ErrorEvent):
        blocked = any(each.prompt_feedback and each.prompt_feedback.block_reason for each in responses)
        assert blocked or not finishes
        return
    parts = [part for response in responses for part in parts_of(response)]
    assert last.message.content == "".join(part.text or "" for part in parts if not part.thought)
    calls = [part.function_call for part in parts if part.function_call is not None]
    pieces = any(call.partial_args or call.will_continue for call in calls)
    assert [call.name for call in last.message.tool_calls] == [call.name for call in calls if call.name]
    if not pieces:  # the SDK leaves it to others to put the pieces together
        assert [call.arguments for call in last.message.tool_calls] == [call.args or {} for call in calls]
    assert last.metadata["raw_finish_reason"] == finishes[-1]
    assert last.metadata.get("id") == next((each.response_id for each in responses if each.response_id), None)
    assert last.metadata["model"] == next(each.model_version for each in responses if each.model_version)
    told = [each.usage_metadata for each in responses if each.usage_metadata]
    usage = last.metadata.get("usage")
    if told:
        assert usage.input_tokens == latest(told, "prompt_token_count")
        assert usage.output_tokens == latest(told, "candidates_token_count")
        assert usage.reasoning_tokens == latest(told, "thoughts_token_count")
        assert usage.total_tokens == latest(told, "total_token_count")
