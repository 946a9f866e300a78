"""What a provider wants of the fields of a chat completion is in its row; the rest is refused before it is sent."""

import json

import pytest

from allm_actors.data import Message, Request, ValidationError
from allm_actors.engine.catalog import OPENAI_WORDS, PROVIDERS
from allm_actors.engine.dialects.openai.chat import encode

HI = Message(role="user", content="hi")


def body(provider, model="m", most=None, **options):
    request = Request(messages=[HI], model=model, max_tokens=most, options=options)
    return json.loads(encode(request, PROVIDERS[provider], "https://host/v1").body)


def refused(provider, **options):
    with pytest.raises(ValidationError, match=f"{PROVIDERS[provider].label} would refuse this: ") as caught:
        body(provider, **options)
    assert caught.value.reason == "invalid_request"
    return caught.value.errors


def test_mistrals_names():
    wire = body("mistral", seed=7, max_completion_tokens=5, safe_prompt=True, most=4)
    assert (wire["random_seed"], wire["max_tokens"], wire["safe_prompt"]) == (7, 5, True)
    assert not {"seed", "max_completion_tokens"} & wire.keys()
    assert body("openai", seed=7)["seed"] == 7


@pytest.mark.parametrize(
    ("provider", "name"),
    [("mistral", "logit_bias"), *(("groq", name) for name in ("logprobs", "top_logprobs", "logit_bias"))],
)
def test_what_a_server_does_not_know(provider, name):
    assert refused(provider, **{name: 1}) == [(name, "not_supported")]
    assert name not in body(provider, **{name: None})
    assert body("openai", **{name: 1})[name] == 1


def test_what_mistral_takes():
    taken = {
        "n": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "frequency_penalty": 0.25,
        "presence_penalty": 0.5,
        "stop": ["Paris"],
    }
    assert taken.items() <= body("mistral", **taken).items()


def test_groqs_limits():
    four = ["a", "b", "c", "d"]
    assert body("groq", stop=four, n=1, temperature=2)["stop"] == four
    assert body("groq", stop="a lot of one text")["stop"] == "a lot of one text"
    assert refused("groq", stop=[*four, "e"]) == [("stop", "too_many")]
    assert refused("groq", n=2) == [("n", "invalid_value")]
    for wrong in (-0.1, 2.1, "hot"):
        assert refused("groq", temperature=wrong) == [("temperature", "out_of_range")]
    assert body("openai", stop=[*four, "e"], n=2)["n"] == 2


def test_all_that_is_wrong_is_listed():
    wrong = refused("groq", n=2, temperature=3, logprobs=True)
    assert sorted(name for name, _ in wrong) == ["logprobs", "n", "temperature"]


def test_perplexitys_words():
    for word in ("academic", "news", "general", "web", "sec"):
        assert body("perplexity", search_mode=word)["search_mode"] == word
    assert refused("perplexity", search_mode="deep") == [("search_mode", "invalid_value")]
    assert refused("perplexity", reasoning_effort="none") == [("reasoning_effort", "invalid_value")]
    assert refused("perplexity", image_domain_filter=["x"] * 11) == [("image_domain_filter", "too_many")]


EFFORT, SUMMARY, VERBOSITY = {"reasoning_effort": "low"}, {"reasoning_summary": "auto"}, {"verbosity": "low"}
WORDED = EFFORT | SUMMARY | VERBOSITY


@pytest.mark.parametrize(
    ("provider", "model", "kept"),
    [
        *[
            ("openai", model, EFFORT | VERBOSITY)
            for model in ("gpt-5", "GPT-5-nano", "gpt-10-x", "ft:gpt-5:a::1")
        ],
        *[("openai", model, EFFORT) for model in ("o1", "o3-mini", "ft:o4-mini-2025-04-16:acme::1")],
        *[
            ("openai", model, {})
            for model in ("gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "ft:gpt-4o:a::1", None)
        ],
        ("azure", "gpt-5-nano", EFFORT | VERBOSITY),
        ("azure", "o3", EFFORT),
        *[("azure", model, {}) for model in ("gpt-4o", "gpt-35-turbo", "gpt-5-chat")],
        ("azure", "our-deployment", EFFORT | VERBOSITY),
        ("xai", "grok-3-mini", WORDED),
    ],
)
def test_a_models_words_are_left_out_for_those_that_do_not_reason(provider, model, kept):
    wire = body(provider, model, **WORDED)
    assert {name: wire[name] for name in WORDED if name in wire} == kept


SAMPLING = {"temperature": 0.2, "top_p": 0.5, "top_k": 3}


@pytest.mark.parametrize(
    ("provider", "model", "effort", "takes"),
    [
        *[
            ("openai", model, None, True)
            for model in ("gpt-4o", "ft:gpt-4.1:a::1", "gpt-5-chat-latest", None)
        ],
        *[("openai", model, None, True) for model in ("gpt-5.1", "gpt-5.4-mini", "gpt-5.3-codex")],
        *[("openai", model, None, False) for model in ("gpt-5", "gpt-5-nano", "ft:gpt-5:a::1", "gpt-5.5")],
        *[("openai", model, None, False) for model in ("gpt-5.6-sol", "gpt-6-luna", "o3", "ft:o4-mini:a::1")],
        *[("openai", model, None, False) for model in ("gpt-5.4-pro", "gpt-5.3-chat-latest", "gpt-5.10")],
        *[("openai", model, "none", True) for model in ("gpt-5.4", "gpt-5.6-sol", "gpt-6-luna")],
        *[("openai", model, "low", False) for model in ("gpt-5.4", "gpt-6-luna")],
        *[("openai", model, "low", True) for model in ("gpt-4o", "gpt-5-chat-latest")],
        *[("azure", model, None, True) for model in ("our-deployment", "gpt-4o", "gpt-41", "gpt-5.4")],
        *[("azure", model, None, False) for model in ("gpt-5-nano", "gpt-6-luna")],
        ("azure", "our-deployment", "low", False),
        ("xai", "grok-4", "low", True),
        ("openrouter", "anthropic/claude-opus-5", None, True),
    ],
)
def test_a_model_that_reasons_is_not_told_how_to_sample(provider, model, effort, takes):
    wire = body(provider, model, **SAMPLING, reasoning_effort=effort)
    assert {name: wire[name] for name in SAMPLING if name in wire} == (SAMPLING if takes else {})


@pytest.mark.parametrize("name", OPENAI_WORDS)
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_a_word_that_nobody_knows_is_refused_for_every_model(provider, name):
    for model in ("gpt-5", "gpt-4o"):
        assert refused(provider, model=model, **{name: "much"}) == [(name, "invalid_value")]
    assert body("xai", **{name: "much"})[name] == "much"


def test_the_most_effort_is_for_responses_only():
    with pytest.raises(ValidationError, match="reasoning_effort must be one of"):
        body("openai", model="gpt-6-luna", reasoning_effort="max")


def test_a_deployment_may_be_older_than_what_openai_has():
    assert body("azure", model="ours", reasoning_effort="minimal")["reasoning_effort"] == "minimal"
    assert refused("openai", model="gpt-5", reasoning_effort="minimal") == [
        ("reasoning_effort", "invalid_value")
    ]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *[
            (model, "max_completion_tokens")
            for model in ("ft:o4-mini-2025-04-16:acme::1", "ft:gpt-4o-mini:a::1")
        ],
        *[(model, "max_completion_tokens") for model in ("o3", "gpt-4.1", "gpt-5")],
        *[(model, "max_tokens") for model in ("ft:gpt-3.5-turbo:acme::1", "gpt-4", "davinci-002", None)],
    ],
)
def test_what_the_most_tokens_are_called_goes_by_the_model_also_by_a_tuned_one(model, name):
    assert body("openai", model, most=9)[name] == 9
