"""The known providers, as data.

Rule of this file: a provider that speaks a known dialect is one row. What differs between servers of one
dialect is a quirk: a value in the row, never a branch on a name.

Source: each provider's API reference (2026-09), and recorded exchanges with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from allm_actors.data import EngineError
from allm_actors.engine.quirks import SAMPLING, Header, Quirks

__all__ = [
    "NEWER_CLAUDE",
    "NEWER_GEMINI",
    "NEWER_GPT",
    "OPENAI_WORDS",
    "PROVIDERS",
    "Provider",
    "near_names",
    "unknown_adapter",
]

OPENAI_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "reasoning_effort": ("none", "low", "medium", "high", "xhigh"),
        "reasoning_summary": ("auto", "concise", "detailed"),
        "verbosity": ("low", "medium", "high"),
    }
)
"""The values of OpenAI's options for reasoning models that both of its endpoints take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider: its name, its wire format, its base URL, and the environment variables of its key and base URL.

    `dialect` is a module of `engine/dialects`; `key_header` is the header that carries the key, as a bearer token when
    it is `authorization`. `dialects` are other dialects for models whose names match a pattern, see `routes`.
    `paths` are endpoints, by dialect, that differ from the dialect's own; `{model}` in them is the model's
    name. `signer` is a module of `engine` that signs requests where there is no key. A `{region}` or
    `{project}` in the base URL is taken from `adapter_opts`, or from the first of its environment variables
    in `places` that is set; the regions in `hosts` have another host. `headers` are filled from an option of
    `adapter_opts`, or from an environment variable.
    """

    name: str
    label: str
    dialect: str
    base_url: str | None
    key_names: tuple[str, ...]
    base_url_name: str
    key_header: str = "authorization"
    key_required: bool = True
    model_required: bool = True
    dialects: tuple[tuple[str, str], ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    signer: str | None = None
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()
    quirks: Quirks = field(default_factory=Quirks)


NEWER_CLAUDE = r"claude-(?:(?:fable|mythos)-|[a-z]+-(?:[5-9]|[1-9]\d)(?!\d))"
"""The beginning of the names of Claude 5 and newer; a longer number is the date of a snapshot."""
NEWER_GPT = r"gpt-(?:[5-9]|(?![34])[1-9]\d)"
"""The beginning of the names of `gpt-5` and newer. At Azure, GPT-3.5 is `gpt-35-turbo`, and deployments follow that."""
NEWER_GEMINI = r"gemini-(?:[3-9]|\d\d|[a-z-]+-latest)"
"""Gemini 3 and newer."""
# OpenAI's reasoning models, which OpenAI wants to be used through its Responses API.
_REASONING = rf"{NEWER_GPT}|o[1-9]"
# The chat variants do not reason, and refuse the options of those that do; fine-tuned models of these families reason.
# Only the newer models take `verbosity`.
_VERBOSE = rf"(?:ft:)?{NEWER_GPT}(?!.*-chat)"
_SEALED = rf"{_VERBOSE}|(?:ft:)?o[1-9]"
# An Azure deployment may have any name: only names of models known not to reason are excluded.
_PLAIN = r"gpt-(?:4|3\.?5|.*-chat)|chatgpt-"
_NONE = r"(?!)"
# The models that can be told how to sample unless they are told to reason. The others cannot at all (Claude), or only
# if they are told not to reason. Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide,
# https://developers.openai.com/api/docs/guides/latest-model, and what the models were seen to do, in profiles/openai.py
# and profiles/anthropic.py of https://github.com/pydantic/pydantic-ai.
_SAMPLED = rf"(?!(?:ft:)?(?:{_REASONING}))|(?:ft:)?gpt-5(?:-chat|\.[1-4](?!\d|.*-(?:pro|chat)))"
_SAMPLED_CLAUDE = rf"(?!.*(?:claude-[a-z]+-4-[7-9](?!\d)|{NEWER_CLAUDE}))"
# The models whose answers can be held to a JSON schema. Source: https://console.groq.com/docs/structured-outputs, now
# and before Kimi and Llama 4 were taken out of it.
_GROQ_SCHEMAS = r"openai/gpt-oss-|qwen/qwen3\.8-|moonshotai/kimi-k2-|meta-llama/llama-4-"
# At Bedrock, the others refuse the whole request, and so do newer Claude models, for now ("Extra inputs are not
# permitted"). A managed prompt takes no system message, in which to be told. Source:
# https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html and the models' own pages,
# https://github.com/vercel/ai/issues/17919, https://github.com/anthropics/anthropic-sdk-python/issues/1759.
_BEDROCK_CLAUDE = r"(?:haiku|opus|sonnet)-4-[56](?!\d)|sonnet-5(?!\d|-\d{1,2}(?!\d))"
_BEDROCK_SCHEMAS = (
    rf".*(?::prompt/|anthropic\.claude-(?:{_BEDROCK_CLAUDE})|deepseek\.v3|google\.gemma-3-(?:12|27)b"
    r"|minimax\.minimax-m2(?![.\d])|mistral\.(?:magistral|ministral-3|mistral-large-3|voxtral)|moonshot(?:ai)?\.kimi"
    r"|nvidia\.nemotron|openai\.gpt|qwen\.qwen3|zai\.glm)"
)
# Before Gemini 3: "Function calling with a response mime type: 'application/json' is unsupported"; of a call that is
# forced, that is what Gemini 3 says, too. Source: https://github.com/googleapis/python-genai/issues/867,
# https://github.com/simstudioai/sim/pull/4184.
_GEMINI_WITH_BOTH = rf".*{NEWER_GEMINI}"
# Which tool call ids providers accept, according to their error messages.
_SHORT_IDS, _WORD_IDS, _NINE_LETTERS = r".{1,40}", r"[a-zA-Z0-9_-]{1,64}", r"[a-zA-Z0-9]{9}"
_DOTTED_IDS = r"[a-zA-Z0-9_.:-]{1,64}"
# The thoughts of an answer without any, where a model that thinks refuses the conversation if one answer has none, or
# an empty text. Source: https://github.com/vercel/ai/pull/14740,
# https://github.com/NousResearch/hermes-agent/pull/18263 (DeepSeek), https://github.com/theopenco/llmgateway/pull/2093
# (Moonshot).
_NO_THOUGHTS = " "
# Whose names are taken. Source: https://console.groq.com/docs/openai ("messages[].name" among the refused fields),
# https://github.com/Gage-Technologies/mistral-go/issues/3, https://github.com/BerriAI/litellm/issues/9720 (xAI).
_NOBODY: frozenset[str] = frozenset()
_USERS = frozenset({"user"})

_ROWS = (
    Provider(
        name="openai",
        label="OpenAI",
        dialect="openai_chat",
        base_url="https://api.openai.com/v1",
        key_names=("OPENAI_API_KEY",),
        base_url_name="OPENAI_BASE_URL",
        headers=(
            Header(name="openai-organization", option="organization", names=("OPENAI_ORG_ID",)),
            Header(name="openai-project", option="project", names=("OPENAI_PROJECT_ID",)),
        ),
        # The last two are in `ResponsesModel` of openai 3.57.0, but not in its `ChatModel`.
        dialects=((rf"{_REASONING}|gpt-daybreak-|gpt-rosalind-", "openai_responses"),),
        quirks=Quirks(
            call_ids=_SHORT_IDS,
            max_tokens=None,
            prompt_cache=frozenset({"key", "retention"}),
            sealed_reasoning=_SEALED,
            documents="file",
            words=OPENAI_WORDS,
            only_for={
                "reasoning_effort": _SEALED,
                "reasoning_summary": _NONE,
                "verbosity": _VERBOSE,
                **dict.fromkeys(SAMPLING, _SAMPLED),
            },
        ),
    ),
    Provider(
        name="anthropic",
        label="Anthropic",
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        key_names=("ANTHROPIC_API_KEY",),
        base_url_name="ANTHROPIC_BASE_URL",
        key_header="x-api-key",
        quirks=Quirks(call_ids=_WORD_IDS, only_for=dict.fromkeys(SAMPLING, _SAMPLED_CLAUDE)),
    ),
    Provider(
        name="gemini",
        label="Gemini",
        dialect="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        key_names=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        base_url_name="GEMINI_BASE_URL",
        key_header="x-goog-api-key",
        quirks=Quirks(formats_beside_tools=_GEMINI_WITH_BOTH),
    ),
    Provider(
        name="groq",
        label="Groq",
        dialect="openai_chat",
        base_url="https://api.groq.com/openai/v1",
        key_names=("GROQ_API_KEY",),
        base_url_name="GROQ_BASE_URL",
        quirks=Quirks(
            names=_NOBODY,
            # "Streaming and tool use are not currently supported with Structured Outputs", and tools not with any JSON:
            # "json mode cannot be combined with tool/function calling".
            schemas=_GROQ_SCHEMAS,
            schemas_streamed=False,
            formats_beside_tools=_NONE,
            reasons={498: "provider_unavailable"},  # https://console.groq.com/docs/errors: no flex capacity
            refuses=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
            most={"stop": 4},
            words={"n": (1,)},
            ranges={"temperature": (0, 2)},
        ),
    ),
    Provider(
        name="deepseek",
        label="DeepSeek",
        dialect="openai_chat",
        base_url="https://api.deepseek.com/v1",
        key_names=("DEEPSEEK_API_KEY",),
        base_url_name="DEEPSEEK_BASE_URL",
        quirks=Quirks(
            thoughts_back="reasoning_content",
            no_thoughts=_NO_THOUGHTS,
            schemas=_NONE,  # https://github.com/UKGovernmentBEIS/inspect_ai/issues/4916: 400
        ),
    ),
    Provider(
        name="openrouter",
        label="OpenRouter",
        dialect="openai_chat",
        base_url="https://openrouter.ai/api/v1",
        key_names=("OPENROUTER_API_KEY",),
        base_url_name="OPENROUTER_BASE_URL",
        headers=(
            Header(name="http-referer", option="app_url", names=("OPENROUTER_APP_URL",)),
            Header(name="x-title", option="app_name", names=("OPENROUTER_APP_NAME",)),
        ),
        quirks=Quirks(thoughts_back="reasoning_details", many_vendors=True, documents="file or URL"),
    ),
    Provider(
        name="mistral",
        label="Mistral",
        dialect="openai_chat",
        base_url="https://api.mistral.ai/v1",
        key_names=("MISTRAL_API_KEY",),
        base_url_name="MISTRAL_BASE_URL",
        quirks=Quirks(
            call_ids=_NINE_LETTERS,
            # https://docs.mistral.ai/studio-api/conversations/reasoning, https://github.com/vercel/ai/issues/17930
            thoughts_back="content",
            after_answers="Noted.",
            blank_answers=False,
            system_first=True,
            names=_NOBODY,
            include_usage=False,
            prompt_cache=frozenset({"key"}),
            documents="document_url",
            renames={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
            refuses=frozenset({"logit_bias"}),  # not in mistralai 3.7.0's ChatCompletionRequest
        ),
    ),
    Provider(
        name="xai",
        label="xAI",
        dialect="openai_chat",
        base_url="https://api.x.ai/v1",
        key_names=("XAI_API_KEY",),
        base_url_name="XAI_BASE_URL",
        quirks=Quirks(names=_USERS),
    ),
    Provider(
        name="together",
        label="Together",
        dialect="openai_chat",
        base_url="https://api.together.xyz/v1",
        key_names=("TOGETHER_API_KEY",),
        base_url_name="TOGETHER_BASE_URL",
        quirks=Quirks(include_usage=False),
    ),
    Provider(
        name="cerebras",
        label="Cerebras",
        dialect="openai_chat",
        base_url="https://api.cerebras.ai/v1",
        key_names=("CEREBRAS_API_KEY",),
        base_url_name="CEREBRAS_BASE_URL",
        quirks=Quirks(
            include_usage=False,
            max_tokens="max_completion_tokens",
            formats_beside_tools=_NONE,  # 400: '"tools" is incompatible with "response_format"'
            thoughts_back="reasoning",  # https://github.com/vercel/ai/issues/15042
        ),
    ),
    Provider(
        name="azure",
        label="Azure",
        dialect="openai_chat",
        base_url=None,
        key_names=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        base_url_name="AZURE_OPENAI_ENDPOINT",
        key_header="api-key",
        paths={
            "openai_chat": "/openai/deployments/{model}/chat/completions?api-version=2024-10-21",
            "openai_responses": "/openai/v1/responses",
        },
        quirks=Quirks(
            call_ids=_SHORT_IDS,
            max_tokens=None,
            sealed_reasoning=_SEALED,
            documents="file",
            # A deployment may run an older version than OpenAI itself still offers.
            words={**OPENAI_WORDS, "reasoning_effort": ("minimal", *OPENAI_WORDS["reasoning_effort"])},
            only_for={
                "reasoning_effort": rf"(?!{_PLAIN})",
                "reasoning_summary": _NONE,
                "verbosity": rf"(?!{_PLAIN}|o[1-9])",
                **dict.fromkeys(SAMPLING, _SAMPLED),
            },
        ),
    ),
    Provider(
        name="perplexity",
        label="Perplexity",
        dialect="openai_chat",
        base_url="https://api.perplexity.ai",
        key_names=("PERPLEXITY_API_KEY",),
        base_url_name="PERPLEXITY_BASE_URL",
        # https://docs.perplexity.ai/docs/agent-api/openai-compatibility
        paths={"openai_responses": "/v1/responses"},
        quirks=Quirks(
            include_usage=False,
            blank_answers=False,
            system_first=True,
            alternating=True,
            most={"image_domain_filter": 10, "image_format_filter": 10},
            words={
                "search_mode": ("web", "academic", "sec", "news", "general"),
                "reasoning_effort": ("minimal", "low", "medium", "high"),
            },
        ),
    ),
    Provider(
        name="huggingface",
        label="Hugging Face",
        dialect="openai_chat",
        base_url="https://router.huggingface.co/v1",
        key_names=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        base_url_name="HUGGINGFACE_BASE_URL",
    ),
    Provider(
        name="moonshotai",
        label="Moonshot AI",
        dialect="openai_chat",
        base_url="https://api.moonshot.ai/v1",
        key_names=("MOONSHOT_API_KEY", "MOONSHOTAI_API_KEY"),
        base_url_name="MOONSHOT_BASE_URL",
        quirks=Quirks(
            thoughts_back="reasoning_content",
            no_thoughts=_NO_THOUGHTS,
            blank_answers=False,
        ),
    ),
    Provider(
        name="alibaba",
        label="Alibaba",
        dialect="openai_chat",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key_names=("DASHSCOPE_API_KEY", "ALIBABA_API_KEY"),
        base_url_name="DASHSCOPE_BASE_URL",
    ),
    Provider(
        name="zai",
        label="Z.AI",
        dialect="openai_chat",
        base_url="https://api.z.ai/api/paas/v4",
        key_names=("ZAI_API_KEY",),
        base_url_name="ZAI_BASE_URL",
        quirks=Quirks(
            thoughts_back="reasoning_content",
            blank_answers=False,  # https://github.com/agentscope-ai/QwenPaw/issues/287: "text cannot be empty"
            schemas=_NONE,  # https://docs.z.ai/guides/capabilities/struct-output: only json_object
            reasons={"1301": "content_filter"},  # https://github.com/langchain4j/langchain4j/issues/1079
        ),
    ),
    Provider(
        name="fireworks",
        label="Fireworks",
        dialect="openai_chat",
        base_url="https://api.fireworks.ai/inference/v1",
        key_names=("FIREWORKS_API_KEY",),
        base_url_name="FIREWORKS_BASE_URL",
    ),
    Provider(
        name="crusoe",
        label="Crusoe",
        dialect="openai_chat",
        base_url="https://api.inference.crusoecloud.com/v1",
        key_names=("CRUSOE_API_KEY",),
        base_url_name="CRUSOE_BASE_URL",
    ),
    Provider(
        name="snowflake",
        label="Snowflake",
        dialect="openai_chat",
        base_url=None,
        key_names=("SNOWFLAKE_PAT",),
        base_url_name="SNOWFLAKE_BASE_URL",
        quirks=Quirks(max_tokens="max_completion_tokens", thoughts_back="reasoning_details"),
    ),
    Provider(
        name="lmstudio",
        label="LM Studio",
        dialect="openai_chat",
        base_url="http://localhost:1234/v1",
        key_names=("LMSTUDIO_API_KEY",),
        base_url_name="LMSTUDIO_BASE_URL",
        key_required=False,
        model_required=False,
    ),
    Provider(
        name="llamacpp",
        label="llama.cpp",
        dialect="openai_chat",
        base_url="http://localhost:8080/v1",
        key_names=("LLAMACPP_API_KEY",),
        base_url_name="LLAMACPP_BASE_URL",
        key_required=False,
        model_required=False,
    ),
    Provider(
        name="vllm",
        label="vLLM",
        dialect="openai_chat",
        base_url="http://localhost:8000/v1",
        key_names=("VLLM_API_KEY",),
        base_url_name="VLLM_BASE_URL",
        key_required=False,
        model_required=False,
        # It binds each answer to the format, so that no tool is called: https://github.com/vllm-project/vllm/issues/39929.
        quirks=Quirks(formats_beside_tools=_NONE),
    ),
    Provider(
        name="ollama",
        label="Ollama",
        dialect="ollama",
        base_url="http://localhost:11434",
        key_names=("OLLAMA_API_KEY",),
        base_url_name="OLLAMA_BASE_URL",
        key_required=False,
        quirks=Quirks(formats_beside_tools=_NONE),  # as vLLM: https://github.com/ollama/ollama/issues/13750
    ),
    Provider(
        name="cohere",
        label="Cohere",
        dialect="cohere",
        base_url="https://api.cohere.com",
        key_names=("CO_API_KEY", "COHERE_API_KEY"),
        base_url_name="COHERE_BASE_URL",
        quirks=Quirks(
            reasons={498: "content_filter"},  # a word on its blocklist
            # https://docs.cohere.com/reference/chat: "not supported when used in combinations with" tools
            formats_beside_tools=_NONE,
        ),
    ),
    Provider(
        name="bedrock",
        label="Bedrock",
        dialect="bedrock",
        base_url="https://bedrock-runtime.{region}.amazonaws.com",
        key_names=("AWS_BEARER_TOKEN_BEDROCK",),
        base_url_name="AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
        key_required=False,
        signer="sigv4",
        places={"region": ("AWS_REGION", "AWS_DEFAULT_REGION")},
        quirks=Quirks(
            call_ids=_DOTTED_IDS,
            call_ids_of={"anthropic": _WORD_IDS},
            many_vendors=True,
            schemas=_BEDROCK_SCHEMAS,
            only_for=dict.fromkeys((*SAMPLING, "topP"), _SAMPLED_CLAUDE),
        ),
    ),
    Provider(
        name="vertex",
        label="Vertex AI",
        dialect="gemini",
        base_url="https://{region}-aiplatform.googleapis.com/v1/projects/{project}/locations/{region}/publishers/google",
        key_names=("VERTEX_ACCESS_TOKEN",),
        base_url_name="VERTEX_BASE_URL",
        places={"region": ("GOOGLE_CLOUD_LOCATION",), "project": ("GOOGLE_CLOUD_PROJECT",)},
        hosts={  # https://github.com/googleapis/python-genai/blob/main/google/genai/_api_client.py
            "global": "aiplatform.googleapis.com",
            "us": "aiplatform.us.rep.googleapis.com",
            "eu": "aiplatform.eu.rep.googleapis.com",
        },
        quirks=Quirks(formats_beside_tools=_GEMINI_WITH_BOTH),
    ),
    Provider(
        name="openai-compatible",
        label="The server",
        dialect="openai_chat",
        base_url=None,
        key_names=("OPENAI_COMPATIBLE_API_KEY",),
        base_url_name="OPENAI_COMPATIBLE_BASE_URL",
        headers=(
            Header(name="openai-organization", option="organization"),
            Header(name="openai-project", option="project"),
        ),
        key_required=False,
        model_required=False,
        quirks=Quirks(documents="file"),
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})


def unknown_adapter(name: str, known: Iterable[str]) -> EngineError:
    """The error for an unknown name, with the nearest known names."""
    names = sorted(known)
    near = near_names(name, names)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"a model is given as PROVIDER:MODEL, such as 'openai:gpt-4.1-mini'. The names are: {', '.join(names)}."
    )
    return EngineError(
        "unknown_adapter",
        provider=name,
        message=(
            f"no adapter is called {name!r}; {hint} For a server that speaks OpenAI's chat format, use "
            "'openai-compatible' and adapter_opts={'base_url': …}; other packages can add adapters under the "
            "entry-point group allm_actors.adapters"
        ),
        metadata={"near": near},
    )


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """What may be meant by an unknown name: one with a colon for `provider/model`, else the nearest known names."""
    names = list(known)
    provider, slash, model = name.partition("/")
    if slash and model and provider in names:
        return [f"{provider}:{model}"]
    return get_close_matches(name, names, n=3, cutoff=0.5)
