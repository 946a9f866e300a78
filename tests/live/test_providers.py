"""Every provider of the catalogue, asked for real: a text, a tool call, and a stream that its reader leaves.

Left out unless asked for: `make live`. A provider whose key is neither in the environment nor in `.env` is skipped,
and says which variable it waits for. `ALLM_LIVE_MODEL_<PROVIDER>` names another model than the one below.
"""

import os
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.data import ErrorEvent, TextDelta
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.keys import parse_dotenv
from allm_actors.testing.loopback import LoopbackServer
from tests.integration.obliging import answer

DOTENV = Path(__file__).parents[2] / ".env"
MODELS = {
    "alibaba": "qwen-turbo",
    "anthropic": "claude-haiku-4-5",
    "azure": "gpt-4.1-mini",
    "bedrock": "us.amazon.nova-micro-v1:0",
    "cerebras": "gpt-oss-120b",
    "cohere": "command-r7b-12-2024",
    "crusoe": "meta-llama/Llama-3.3-70B-Instruct",
    "deepseek": "deepseek-chat",
    "fireworks": "accounts/fireworks/models/llama-v3p3-70b-instruct",
    "gemini": "gemini-3.5-flash-lite",
    "groq": "openai/gpt-oss-120b",
    "huggingface": "meta-llama/Llama-3.3-70B-Instruct",
    "mistral": "mistral-small-latest",
    "moonshotai": "moonshot-v1-8k",
    "ollama": "llama3.2",
    "openai": "gpt-4.1-mini",
    "openrouter": "openai/gpt-4.1-mini",
    "perplexity": "sonar",
    "snowflake": "claude-3-5-sonnet",
    "vertex": "gemini-3.5-flash-lite",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "xai": "grok-3-mini",
    "zai": "glm-4.5-air",
}
NO_TOOLS = ("perplexity",)  # whose models call none of ours
SIGNED = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")

every_provider = pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)


def waits_for(row, environment):
    """What is missing to ask this provider, in words; empty when nothing is."""
    has = environment.get
    if row.base_url is None and not has(row.base_url_name):
        return f"{row.base_url_name} is not set"
    names = (*row.key_names, *(SIGNED if row.signer else ()))
    if row.key_required or row.signer:
        if not any(map(has, names)):
            return f"none of {', '.join(names)} is set"
    elif not has(row.base_url_name):  # a server of one's own, which may not be there
        return f"{row.base_url_name} is not set"
    for names in row.places.values():
        if not any(map(has, names)):
            return f"none of {', '.join(names)} is set"
    if row.model_required and model_of(row, environment) is None:
        return f"no model is known; {variable(row)} names one"
    return ""


def variable(row):
    return "ALLM_LIVE_MODEL_" + row.name.upper().replace("-", "_")


def model_of(row, environment):
    return environment.get(variable(row)) or MODELS.get(row.name)


@pytest.fixture
def from_dotenv(monkeypatch):
    if DOTENV.exists():
        for name, value in parse_dotenv(DOTENV.read_text()).items():
            if name not in os.environ:
                monkeypatch.setenv(name, value)


@pytest.fixture
def model(row, from_dotenv):
    missing = waits_for(row, os.environ)
    if missing:
        pytest.skip(f"{row.name} is not asked: {missing}")
    return model_of(row, os.environ)


@allm.tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Rain in {city}, 11 degrees."


def engine_of(row, model, **fields):
    return allm.Engine(adapter=row.name, model=model, params={"max_tokens": 1000}, **fields)


def a_text_comes(row, model):
    response = allm.generate(engine_of(row, model), [allm.user("Reply with one word: pong")])
    assert response.metadata.get("error") is None, response.metadata["error"]
    assert response.text().strip()
    assert response.finish_reason in ("stop", "length")


def a_tool_is_called(row, model):
    engine = engine_of(row, model, tools=[get_weather])
    result = allm.chat(engine, [allm.user("What is the weather in Lisbon? Use the tool.")])
    assert result.halted_reason == "completed", result.metadata
    assert any(message.role == "tool" for message in result.thread.messages)
    assert result.final_response.text().strip()


def a_stream_can_be_left(row, model):
    with allm.stream(engine_of(row, model), [allm.user("Count from 1 to 200, in words.")]) as stream:
        for event in stream:
            assert not isinstance(event, ErrorEvent), event.error
            if isinstance(event, TextDelta):
                break
        else:
            pytest.fail("it ended without a text")


@pytest.mark.live
@pytest.mark.timeout(180)
@every_provider
def test_a_text(row, model):
    a_text_comes(row, model)


@pytest.mark.live
@pytest.mark.timeout(180)
@every_provider
def test_a_tool_call(row, model):
    if row.name in NO_TOOLS:
        pytest.skip(f"{row.name} has models without tools")
    a_tool_is_called(row, model)


@pytest.mark.live
@pytest.mark.timeout(180)
@every_provider
def test_a_stream_that_is_left(row, model):
    a_stream_can_be_left(row, model)


# --- that these can hold, and skip for a reason, without anybody's key ---------------------------------------------


@pytest.mark.parametrize("check", [a_text_comes, a_tool_is_called, a_stream_can_be_left])
def test_the_checks_hold_with_a_provider_that_obliges(check, monkeypatch):
    with LoopbackServer(answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "no-key-of-anybody")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        check(PROVIDERS["openai"], MODELS["openai"])
        assert server.requests


@every_provider
def test_without_keys_a_provider_says_which_variable_it_waits_for(row):
    missing = waits_for(row, {})
    assert any(name in missing for name in (*row.key_names, row.base_url_name))


@every_provider
def test_with_its_variables_a_provider_would_be_asked(row):
    names = (*row.key_names[:1], row.base_url_name, *(names[0] for names in row.places.values()))
    assert waits_for(row, dict.fromkeys(names, "x") | {variable(row): "m"}) == ""
