"""Which providers have capabilities besides chat, as data.

Rule of this file: a capability of a provider is one row. It names the dialect and the provider's limits; what
differs between servers of one dialect is a value in the row, never a branch on a name.

Source: each provider's API reference (2026-09), and recorded exchanges with it. Mistral's and Ollama's
references give no maximum of inputs: Mistral refuses the 257th ("Too many inputs in request"), Ollama's
number is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from allm_actors.data import AdapterError, SpeechCompleted, SpeechRequest, SpeechStarted
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS, Provider
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["SERVICES", "Service", "ServiceDialect", "SpeechDialect", "Vectors", "services_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """How a server of OpenAI's embeddings format differs: which fields it has, and their names.

    `task_types` maps our task types to its own; without `task_field` it has none. With `truncation` it can be
    told not to truncate a text that is too long. `fixed` are models whose vectors have only one length.
    """

    dimensions: str = "dimensions"
    task_field: str | None = None
    task_types: Mapping[str, str] = field(default_factory=dict)
    truncation: bool = False
    fixed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One capability of one provider: `span` names the capability, `dialect` is a module of `engine/dialects`.

    `model` is the default model; None leaves it to the server. `most` is how many inputs one request may
    have, `operations` are the image operations. `streamed` says whether the answer can be streamed.
    """

    provider: Provider
    span: str
    dialect: str
    model: str | None = None
    most: int | None = None
    operations: tuple[str, ...] = ()
    streamed: bool = False
    vectors: Vectors = field(default_factory=Vectors)

    def error(
        self,
        reason: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_ms: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AdapterError:
        """The capability's error; a reason that it does not have becomes `unknown`."""
        kind = CAPABILITIES[self.span].error
        return kind(
            reason if reason in kind.reasons else "unknown",
            provider=self.provider.name,
            status=status,
            retry_after_ms=retry_after_ms,
            message=message,
            metadata=dict(metadata or {}),
        )

    def malformed(self, what: str) -> AdapterError:
        """The `malformed_response` error for an answer; `what` says what is wrong with it."""
        return self.error("malformed_response", f"{self.provider.label}'s answer cannot be read: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDialect:
    """A wire format for one capability: the `DIALECT` of a module. It is pure, and knows no key.

    `encode(request, row, base_url)` returns the request without its key, and raises the capability's error for
    what cannot be sent. `decode(answer, request, row)` returns the response in a whole answer of status 2xx,
    and raises the capability's error and nothing else. `decode_error(failure, row)` returns the capability's
    error for an error response.
    """

    encode: Callable[..., HttpRequest]
    decode: Callable[[HttpAnswer, Any, Service], Any]
    decode_error: Callable[[HttpAnswer, Service], AdapterError]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechDialect(ServiceDialect):
    """One that can be streamed: then `encode` is called with `streamed=True`.

    `started(answer, request, row)` returns the first event, from the head of an answer, and raises
    `malformed_response`; `completed(answer, request)` returns the last one.
    """

    started: Callable[[HttpAnswer, SpeechRequest, Service], SpeechStarted]
    completed: Callable[[HttpAnswer, SpeechRequest], SpeechCompleted]


# Providers without chat in this library.
_VOYAGE = Provider(
    name="voyage",
    label="Voyage",
    dialect="",
    base_url="https://api.voyageai.com/v1",
    key_names=("VOYAGE_API_KEY",),
    base_url_name="VOYAGE_BASE_URL",
)
_ELEVENLABS = Provider(
    name="elevenlabs",
    label="ElevenLabs",
    dialect="",
    base_url="https://api.elevenlabs.io",
    key_names=("ELEVENLABS_API_KEY",),
    base_url_name="ELEVENLABS_BASE_URL",
    key_header="xi-api-key",
)
_OPENAI, _GEMINI, _COHERE = (PROVIDERS[name] for name in ("openai", "gemini", "cohere"))
_MISTRAL, _OLLAMA = (PROVIDERS[name] for name in ("mistral", "ollama"))

_ROWS = (
    Service(
        provider=_OPENAI,
        span="image",
        dialect="openai_images",
        model="gpt-image-2.6-flare",
        operations=("generate", "edit", "variation"),
    ),
    Service(
        provider=_GEMINI,
        span="image",
        dialect="gemini_images",
        model="gemini-3.1-flash-image",
        operations=("generate", "edit"),
    ),
    Service(
        provider=_OPENAI,
        span="embed",
        dialect="openai_embeddings",
        most=2048,
        vectors=Vectors(fixed=frozenset({"text-embedding-ada-002"})),
    ),
    Service(provider=_GEMINI, span="embed", dialect="gemini_embeddings", most=100),
    Service(
        provider=_VOYAGE,
        span="embed",
        dialect="openai_embeddings",
        most=1000,
        vectors=Vectors(
            dimensions="output_dimension",
            task_field="input_type",
            task_types={"search_document": "document", "search_query": "query"},
            truncation=True,
        ),
    ),
    Service(provider=_COHERE, span="embed", dialect="cohere_embeddings", most=96),
    Service(
        provider=_MISTRAL,
        span="embed",
        dialect="openai_embeddings",
        most=256,
        vectors=Vectors(dimensions="output_dimension"),
    ),
    Service(provider=_OLLAMA, span="embed", dialect="ollama_embeddings", most=512),
    Service(provider=_OPENAI, span="moderate", dialect="openai_moderation", most=1000),
    Service(provider=_OPENAI, span="speech", dialect="openai_speech", model="gpt-4o-mini-tts", streamed=True),
    Service(
        provider=_ELEVENLABS,
        span="speech",
        dialect="elevenlabs_speech",
        model="eleven_flash_v2_5",
        streamed=True,
    ),
    Service(provider=_OPENAI, span="transcribe", dialect="openai_transcription", model="gpt-transcribe"),
    Service(provider=_GEMINI, span="transcribe", dialect="gemini_transcription", model="gemini-flash-latest"),
    Service(provider=_ELEVENLABS, span="transcribe", dialect="elevenlabs_transcription", model="scribe_v2"),
)
SERVICES: Mapping[tuple[str, str], Service] = MappingProxyType(
    {(row.span, row.provider.name): row for row in _ROWS}
)


def services_for(span: str) -> Mapping[str, Service]:
    """The rows of one capability, by the name of the provider."""
    return {row.provider.name: row for row in _ROWS if row.span == span}
