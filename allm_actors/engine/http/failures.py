"""Network failures as errors whose text may be shown.

Rule of this file: every exception of httpx, its transports, TLS and the sockets becomes an `AdapterError` that names
the host and what to do. It quotes no header, path, proxy or key, and an exception's own text only if it
contains none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allm_actors.data import AdapterError
from allm_actors.engine.http.http1_errors import MalformedError
from allm_actors.engine.http.public_hosts import NotPublicError
from allm_actors.engine.wire import Deadlines

if TYPE_CHECKING:
    import httpx

__all__ = ["SettingsError", "failure_of"]

_QUOTED = re.compile(r"""\S*['"].*""", re.DOTALL)


class SettingsError(Exception):
    """The environment has an invalid network setting; the text says which, and may be shown."""


def failure_of(error: BaseException, host: str, deadlines: Deadlines, phase: str) -> AdapterError:
    """The `AdapterError` for `error`, with which a request to `host` ended.

    `phase` is what was waited for: `first_byte`, or in a body `idle`.
    """
    kind = type(error).__name__
    if isinstance(error, AdapterError):
        return error
    if isinstance(error, BaseExceptionGroup):  # one exception for each address that was tried
        return failure_of(error.exceptions[0], host, deadlines, phase)
    if isinstance(error, SettingsError | ImportError):
        return AdapterError("invalid_request", message=_setting(error), cause=kind)
    import httpx

    if isinstance(error, NotPublicError):
        message = (
            f"{host} is not a host on the public network; a transport with private_urls=True can reach it"
        )
        return AdapterError("invalid_request", message=message, cause=kind, metadata={"phase": "address"})
    if isinstance(error, httpx.TimeoutException):
        return _timed_out(error, host, deadlines.connect or 0.0, phase)
    if isinstance(error, httpx.UnsupportedProtocol):
        message = "base_url must begin with http:// or https://"
        return AdapterError("invalid_request", message=message, cause=kind)
    if isinstance(error, httpx.InvalidURL | OverflowError) or _is_of_a_name(error):
        message = "the URL has an invalid host or port; check base_url and proxy settings"
        return AdapterError("invalid_request", message=message, cause=kind)
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        why = str(error) or kind
        message = f"cannot connect to {host} ({why}); check the network, base_url and proxy settings"
        if "WRONG_VERSION_NUMBER" in why:  # OpenSSL's words for an answer that is not TLS
            message += "; the server probably speaks http:// and not https://"
        return AdapterError("network_error", message=message, cause=kind, metadata={"phase": "connect"})
    if isinstance(error, MalformedError) or _is_malformed(error):
        why = "it redirects to an invalid URL" if "location header" in str(error) else _unquoted(error)
        message = f"{host} did not answer with valid HTTP ({why}); check base_url"
        return AdapterError("malformed_response", message=message, cause=kind)
    if isinstance(error, httpx.LocalProtocolError | UnicodeEncodeError):
        message = f"the request to {host} cannot be written: a header, or the key, has a character that is not allowed"
        return AdapterError("invalid_request", message=message, cause=kind)
    return _broken(kind, host, phase)


def _setting(error: SettingsError | ImportError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    # As `ssl`, of a Python without OpenSSL. The exception's own text may have a path.
    return f"this Python cannot import {error.name or 'a module'}, which HTTP needs; repair or replace it"


def _unquoted(error: BaseException) -> str:
    """Its text up to the first quotation: h11 and h2 quote what is wrong with a header."""
    return _QUOTED.sub("", str(error)).rstrip(" :") or type(error).__name__


def _broken(kind: str, host: str, phase: str) -> AdapterError:
    if phase == "first_byte":
        message = f"the connection to {host} broke before the answer began ({kind})"
        return AdapterError("network_error", message=message, cause=kind)
    message = f"the connection to {host} broke ({kind}); the answer is not complete"
    return AdapterError("network_error", message=message, cause=kind, metadata={"partial": True})


def _timed_out(error: httpx.TimeoutException, host: str, limit: float, phase: str) -> AdapterError:
    import httpx

    kind = type(error).__name__
    if isinstance(error, httpx.PoolTimeout):
        phase = "connect"
        message = (
            f"no connection to {host} became free within {limit:g} s; raise max_connections to allow more of "
            "them, or connect_timeout to wait longer"
        )
    elif isinstance(error, httpx.ConnectTimeout):
        phase = "connect"
        message = (
            f"no connection to {host} within {limit:g} s; check the network, base_url and proxy settings"
        )
    else:  # of a transport with timeouts of its own
        message = f"{host} was silent for longer than its transport allows ({kind}); raise its timeout there"
    return AdapterError("timeout", message=message, cause=kind, metadata={"phase": phase})


def _is_of_a_name(error: BaseException) -> bool:
    """Whether it is a host name that cannot be encoded, rather than a header: both raise UnicodeError."""
    return isinstance(error, UnicodeError) and getattr(error, "encoding", "idna") == "idna"


def _is_malformed(error: BaseException) -> bool:
    """Whether httpx means a malformed answer, rather than one that broke off: it has one exception for both."""
    import httpx

    broke_off = ("peer closed connection", "server disconnected", "<connectionterminated", "<streamreset")
    return isinstance(error, httpx.RemoteProtocolError) and not str(error).lower().startswith(broke_off)
