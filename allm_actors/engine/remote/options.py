"""The options of a call to a provider behind HTTP: base URL, headers, key, deadlines.

Rule of this file: what can never work is refused here, before anything is sent, naming the option.

`adapter_opts`: `base_url`, `region`, `project`, `organization`, `app_name`, `app_url` (each of those whose row has it),
`headers`, `query`, `endpoint` (see `routes`), `transport` (a `Transport`, or an httpx transport), `max_response_bytes`
(256 MiB, of a streamed answer), and in seconds `connect_timeout`, `first_byte_timeout`, `stream_timeout`,
`request_timeout`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from allm_actors.data import EngineError
from allm_actors.data.predicates import is_number, is_positive
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.catalog import Provider
from allm_actors.engine.http.transport import HttpxTransport, default_transport, is_httpx
from allm_actors.engine.secret import Secret
from allm_actors.engine.wire import Deadlines, HttpRequest, Transport

__all__ = [
    "answers_by_itself",
    "base_url_of",
    "completed",
    "deadlines_of",
    "key_for",
    "keys_in_headers",
    "most_bytes_of",
    "place_of",
    "refuse_unknown",
    "transport_for",
]

_OWN = ("region", "project", "organization", "app_name", "app_url")  # not every provider has them
_OPTIONS = (
    *("base_url", *_OWN, "headers", "query", "endpoint", "transport", "max_response_bytes"),
    *("stream_timeout", "request_timeout"),
    *("connect_timeout", "first_byte_timeout", "receive_timeout", "pool_timeout"),
)
_KEY_HEADERS = ("authorization", "x-api-key")  # of gateways, whatever the provider's own is
# They belong to the body: with another length, the rest of it would be the next request.
_FRAMING = ("content-length", "transfer-encoding")
_MOST_BYTES = 256 * 1024 * 1024  # more than any answer needs, with all its framing
# Restricted, because they become parts of a host name and of a path.
_PLACES = {"region": re.compile(r"[a-z0-9-]+"), "project": re.compile(r"[a-z0-9.:-]+")}
_IN_A_URL = re.compile(r"[^\s\x00-\x1f\x7f<>\"\\^`{|}]+")
_EXAMPLES = {"region": "us-east-1", "project": "my-project"}


def refuse_unknown(row: Provider, options: Mapping[str, Any]) -> None:
    """Raises TypeError for an adapter option that does not exist, naming the nearest one, or is of the wrong kind."""
    # A misspelt base_url would send a request to another server than the one meant.
    for name in options:
        if name not in _OPTIONS:
            # Of all that end in `timeout`, the nearest name is none of what is probably meant.
            near = ["request_timeout"] if name == "timeout" else get_close_matches(name, _OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise TypeError(f"adapter_opts has no option {name!r}{hint} It takes: {', '.join(_OPTIONS)}")
    filled = [header.option for header in row.headers]
    for name in _OWN:
        if options.get(name) and name not in (*row.places, *filled):
            article = "an" if name[0] in "ao" else "a"
            raise TypeError(
                f"adapter_opts has {article} {name}, which {row.name} does not take; leave it out"
            )
    for name in filled:
        if not isinstance(options.get(name) or "", str):
            raise TypeError(f"adapter_opts {name} must be a text, got: {options[name]!r}")
    for name in ("headers", "query"):
        given = options.get(name) or {}
        if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in chain(*given.items())):
            raise TypeError(f"adapter_opts {name} must be a mapping of texts to texts")
    for name in options.get("headers") or {}:
        if name.strip().lower() in _FRAMING:
            raise TypeError(
                f"adapter_opts headers must not have {name!r}; leave it out: it comes from the body"
            )
    _check_transport(options.get("transport"))


def _check_transport(given: Any) -> None:
    if given is None or (not isinstance(given, type) and (is_httpx(given) or hasattr(given, "open"))):
        return
    # Not quoted, because a proxy's URL may contain a password.
    got = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    raise TypeError(
        "adapter_opts transport must be an allm.HttpxTransport, an asynchronous transport of httpx "
        f"(httpx.AsyncHTTPTransport), or have open(request, deadlines), got: {got}"
    )


def base_url_of(row: Provider, options: Mapping[str, Any]) -> str:
    """The base URL, without a trailing slash. Raises `EngineError("invalid_engine")`."""
    url = options.get("base_url") or os.environ.get(row.base_url_name) or row.base_url
    if url is None:
        message = f"{row.name} needs adapter_opts={{'base_url': 'http://…/v1'}}, or {row.base_url_name}"
        raise EngineError("invalid_engine", provider=row.name, message=message)
    if url is row.base_url and row.base_url is not None:
        places = {place: place_of(row, place, options) for place in row.places}
        parts = urlsplit(row.base_url.format(**places))
        url = urlunsplit(parts._replace(netloc=row.hosts.get(places.get("region", ""), parts.netloc)))
    wrong = _misfit(url)
    if wrong:
        # The URL is not quoted, because it may contain a password.
        message = f"base_url of {row.name} must be like 'https://host:8080/v1': {wrong}"
        raise EngineError("invalid_engine", provider=row.name, message=message)
    return str(url).strip().rstrip("/")


def _misfit(url: object) -> str:
    """Why this is not a valid base URL; empty if it is."""
    if not isinstance(url, str):
        return f"it must be a text, not {type(url).__name__}"
    if not url.strip().lower().startswith(("http://", "https://")):
        return "it must begin with http:// or https://"
    try:
        host = urlsplit(url.strip()).hostname
    except ValueError:  # its text may quote a password
        return "its host is neither a name nor an address"
    try:
        _port = urlsplit(url.strip()).port
    except ValueError:
        return "its port must be a number up to 65535"
    if not host:
        return "it names no host"
    if not _IN_A_URL.fullmatch(url.strip()):
        return "it has a space or another character that is not allowed in a URL"
    if "?" in url or "#" in url:
        return "put the part after '?' into adapter_opts query={…}, and leave out a part after '#'"
    return ""


def place_of(row: Provider, place: str, options: Mapping[str, Any]) -> str:
    """The region or project for a row that needs one, else an empty text. Raises `EngineError("invalid_engine")`."""
    names = row.places.get(place, ())
    found = options.get(place) or next(filter(None, map(os.environ.get, names)), "")
    if not names or (isinstance(found, str) and _PLACES[place].fullmatch(found)):
        return str(found)
    named = " or ".join(names)
    message = f"{row.name} needs adapter_opts={{{place!r}: '{_EXAMPLES[place]}'}}, or {named}; got: {found!r}"
    raise EngineError("invalid_engine", provider=row.name, message=message)


def completed(
    http: HttpRequest, row: Provider, options: Mapping[str, Any], key: Secret | None
) -> HttpRequest:
    """The request with its key, the headers that the row's options fill, and the call's `query` and `headers`."""
    headers = _headers(row, options, key)
    for name in http.headers.keys() & headers.keys():
        if name.endswith("-beta"):  # a list of features, of which the dialect needs some
            headers[name] = f"{http.headers[name]},{headers[name]}"
    return _with_query(http, options.get("query") or {}).with_headers(headers)


def _with_query(http: HttpRequest, given: Mapping[str, str]) -> HttpRequest:
    if not given:
        return http
    url = urlsplit(http.url)
    query = urlencode({**dict(parse_qsl(url.query, keep_blank_values=True)), **given})
    return replace(http, url=urlunsplit(url._replace(query=query)))


def _headers(row: Provider, options: Mapping[str, Any], key: Secret | None) -> dict[str, str]:
    headers = {}
    if key is not None:
        scheme = "Bearer " if row.key_header == "authorization" else ""
        headers[row.key_header] = scheme + key.reveal().strip()
    for header in row.headers:
        value = options.get(header.option) or next(filter(None, map(os.environ.get, header.names)), None)
        if value:
            headers[header.name] = value
    given: Mapping[str, str] = options.get("headers") or {}
    return headers | {name.lower(): value for name, value in given.items()}


def key_for(row: Provider, call: Call) -> Secret | None:
    """The key, or None where none is needed. Raises `EngineError("missing_key")`."""
    if row.key_required and not answers_by_itself(call) and not keys_in_headers(row, call.options):
        return keys.fetch(row.name, row.key_names, call.api_key)
    found = keys.find(row.name, row.key_names, call.api_key)
    return found[0] if found is not None else None


def keys_in_headers(row: Provider, options: Mapping[str, Any]) -> set[str]:
    """The names of the caller's own headers that carry a key: then no other one is needed."""
    given: Mapping[str, str] = options.get("headers") or {}
    return {name.lower() for name, value in given.items() if value.strip()} & {row.key_header, *_KEY_HEADERS}


def answers_by_itself(call: Call) -> bool:
    """Whether the transport needs no key, as one that plays a recording."""
    given = call.options.get("transport")
    return getattr(call.transport if given is None else given, "needs_no_key", False)


def most_bytes_of(options: Mapping[str, Any]) -> int:
    """How many bytes a streamed answer may have. Raises ValueError for what is no number of bytes."""
    most = options.get("max_response_bytes")
    if most is None:
        return _MOST_BYTES
    if not is_positive(most):
        raise ValueError(f"max_response_bytes must be a whole number of bytes > 0, got: {most!r}")
    return most


def deadlines_of(call: Call, *, streamed: bool = True, patience: float | None = None) -> Deadlines:
    """How long each phase of a call may take; all of it by default `patience` seconds.

    A silence before or within an answer is limited by default only if the answer is `streamed`. Raises
    ValueError for what is no time.
    """
    said = call.options.get
    idle = _seconds("stream_timeout", call.stream_timeout, said("stream_timeout"), 60.0 if streamed else None)
    first = (said("first_byte_timeout"), said("receive_timeout"), idle if streamed else None)
    return Deadlines(
        connect=_seconds("connect_timeout", said("connect_timeout"), said("pool_timeout"), 10.0),
        first_byte=_seconds("first_byte_timeout", *first),
        idle=idle,
        total=_seconds("request_timeout", call.request_timeout, said("request_timeout"), patience),
    )


def _seconds(name: str, *values: Any) -> float | None:
    """The first value that is not None, in seconds; infinity gives None, no deadline."""
    value = next((value for value in values if value is not None), None)
    if value is None:
        return None
    if not is_number(value) or not value > 0:
        raise ValueError(f"{name} must be seconds > 0, got: {value!r}")
    return None if value == float("inf") else float(value)


def transport_for(call: Call) -> Transport:
    """The transport of a call: its option, else its host's, else the process's."""
    given = call.options.get("transport")
    if given is None:
        return call.transport if call.transport is not None else default_transport()
    if not is_httpx(given):
        return cast(Transport, given)
    return HttpxTransport(given)  # not cached, or the given one would live for ever
