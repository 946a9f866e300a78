"""What the strategies draw can be sent, says all that a request can say, and is not built anew for each draw."""

import pytest
from hypothesis import Phase, find, given, settings

import allm_actors as allm
from allm_actors.testing import strategies

SENT = [
    strategies.messages,
    strategies.tools,
    strategies.threads,
    strategies.sessions,
    strategies.requests,
    strategies.image_requests,
    strategies.embedding_requests,
    strategies.moderation_requests,
    strategies.speech_requests,
    strategies.transcription_requests,
    strategies.classification_requests,
]
WITH_ARGUMENTS = {"embedding_requests", "scripts", "threads", "tool_calls", "tools"}
PLAIN = sorted(set(strategies.__all__) - WITH_ARGUMENTS)


@pytest.mark.parametrize("drawn", SENT, ids=lambda drawn: drawn.__name__)
def test_what_is_drawn_can_be_sent(drawn):
    @given(drawn())
    def holds(value):
        allm.validate(value)

    holds()


@pytest.mark.parametrize(
    "has",
    [
        lambda request: request.structured_finalize and request.response_format["type"] == "json_schema",
        lambda request: (
            not request.structured_finalize and request.response_format == {"type": "json_object"}
        ),
        lambda request: request.prompt_cache == {"key": None, "retention": "long"},
        lambda request: any(message.name and message.role == "user" for message in request.messages),
        lambda request: any(message.name and message.role == "assistant" for message in request.messages),
    ],
    ids=["a second pass", "a shape", "a prompt cache", "a user's name", "an assistant's name"],
)
def test_a_request_says_all_that_one_can(has):
    found = find(
        strategies.requests(),
        has,
        settings=settings(max_examples=2000, database=None, phases=[Phase.generate]),
    )
    allm.validate(found)
    assert allm.from_json(allm.to_json(found)) == found


@pytest.mark.parametrize("name", PLAIN)
def test_a_strategy_without_arguments_is_built_once(name):
    drawn = getattr(strategies, name)
    assert drawn() is drawn()
