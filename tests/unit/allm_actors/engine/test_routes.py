"""Which endpoint a model is asked through, and where that is."""

import pytest

from allm_actors.data import EngineError, Message, Request
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.routes import ENDPOINTS, dialect_of, dialects_of

OPENAI = PROVIDERS["openai"]


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        *(
            (m, "responses")
            for m in (
                "gpt-daybreak-blue-latest",
                "gpt-rosalind-research",
                "gpt-5",
                "gpt-5.6-luna",
                "gpt-6-sol",
                "gpt-10-x",
                "GPT-5",
                "o1",
                "o3",
                "o4-mini",
            )
        ),
        *(
            (m, "chat_completions")
            for m in (
                "gpt-4o",
                "gpt-4.1",
                "gpt-3.5-turbo",
                "gpt-oss-120b",
                "gpt-image-2",
                "chatgpt-4o",
                "omni",
                None,
                5,
            )
        ),
    ],
)
def test_openais_reasoning_models_are_asked_through_responses(model, endpoint):
    assert dialect_of(OPENAI, model) == ENDPOINTS[endpoint]


def test_the_caller_has_the_last_word():
    assert dialect_of(OPENAI, "gpt-5", "chat_completions") == "openai_chat"
    assert dialect_of(OPENAI, "gpt-4o", "responses") == "openai_responses"
    for name in ("deepseek", "xai", "azure", "lmstudio", "openai-compatible"):
        row = PROVIDERS[name]
        assert dialect_of(row, "gpt-5") == "openai_chat"
        assert dialect_of(row, "m", "responses") == "openai_responses"


@pytest.mark.parametrize("endpoint", ["response", "", 3])
def test_an_endpoint_that_there_is_not_is_refused(endpoint):
    with pytest.raises(EngineError, match="'chat_completions' or 'responses', got: ") as refused:
        dialect_of(OPENAI, "gpt-5", endpoint)
    assert (refused.value.reason, refused.value.provider) == ("invalid_engine", "openai")


def test_those_who_speak_another_format_have_no_such_endpoints():
    with pytest.raises(EngineError, match="not for anthropic"):
        dialect_of(PROVIDERS["anthropic"], "m", "responses")
    assert dialects_of(PROVIDERS["anthropic"]) == {"anthropic"}


def test_every_dialect_of_every_row_is_there():
    for row in PROVIDERS.values():
        for name in dialects_of(row):
            assert find_dialect(name).stream_types


@pytest.mark.parametrize(
    ("name", "dialect", "path"),
    [
        ("azure", "openai_chat", "/openai/deployments/my%2Fgpt%3F/chat/completions?api-version=2024-10-21"),
        ("azure", "openai_responses", "/openai/v1/responses"),
        ("perplexity", "openai_chat", "/chat/completions"),
        ("perplexity", "openai_responses", "/v1/responses"),
    ],
)
def test_a_providers_endpoints_are_where_its_row_says(name, dialect, path):
    request = Request(messages=[Message(role="user", content="hi")], model="my/gpt?")
    assert find_dialect(dialect).encode(request, PROVIDERS[name], "https://r").url == f"https://r{path}"
