"""Which of a provider's endpoints a request goes to, and so which dialect it is written in.

Rule of this file: pure. The endpoint is the one that the caller names, else the one of the row's pattern that
the model's name matches, else that of the row's own dialect.

Source: OpenAI fully supports tools and thoughts of its reasoning models only at `/responses`; other servers
that have this endpoint have it in addition to the one for chat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from allm_actors.data import EngineError
from allm_actors.engine.catalog import Provider

__all__ = ["ENDPOINTS", "dialect_of", "dialects_of", "endpoint_url"]

ENDPOINTS: Mapping[str, str] = MappingProxyType(
    {"chat_completions": "openai_chat", "responses": "openai_responses"}
)
"""The endpoints of a provider with OpenAI's formats, and the dialect of each."""


def dialect_of(row: Provider, model: Any = None, endpoint: str | None = None) -> str:
    """The dialect for `model` of this row. Raises `EngineError` for an endpoint that the row does not have."""
    if endpoint is not None:
        return _named(row, endpoint)
    name = model if isinstance(model, str) else ""
    matching = (dialect for pattern, dialect in row.dialects if re.match(pattern, name, re.IGNORECASE))
    return next(matching, row.dialect)


def dialects_of(row: Provider) -> frozenset[str]:
    """All dialects that this row may use."""
    own = {row.dialect, *(dialect for _, dialect in row.dialects)}
    known = set(ENDPOINTS.values())
    return frozenset(own | known if own & known else own)


def endpoint_url(base_url: str, row: Provider, dialect: str, path: str, model: str | None) -> str:
    """The URL of the dialect's endpoint: at `path`, unless the row has another one."""
    own = row.paths.get(dialect, path)
    return base_url + own.replace("{model}", quote(model or "", safe=""))


def _named(row: Provider, endpoint: Any) -> str:
    known = dialects_of(row) & set(ENDPOINTS.values())
    if endpoint in ENDPOINTS and known:
        return ENDPOINTS[endpoint]
    names = " or ".join(map(repr, ENDPOINTS))
    problem = (
        f"must be {names}, got: {endpoint!r}"
        if known
        else f"is only for providers that use OpenAI's format, not for {row.name}"
    )
    raise EngineError(
        "invalid_engine",
        provider=row.name,
        message=f"adapter_opts endpoint {problem}; leave it out for the default",
    )
