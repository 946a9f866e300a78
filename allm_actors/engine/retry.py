"""When to retry a call.

Rule of this file: it says how long to wait, and never waits. A call is retried only while no part of the
answer has arrived, so what a reader has seen never changes. If a server asks for a longer wait than
`max_delay`, its error is returned instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from allm_actors.data import AdapterError
from allm_actors.data.predicates import is_count, is_number

__all__ = ["DEFAULT", "NEVER", "RetryPolicy", "next_delay", "policy_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to retry, and after which delays, in seconds. `retry_on` holds HTTP statuses, error reasons,
    and phases such as `connect`, for a connection that could not be opened. An error at the beginning of a
    stream with status 200 counts by its reason: `rate_limited` as 429, `provider_unavailable` as 503.
    """

    max_attempts: int = 3
    base_delay: float = 0.5
    max_delay: float = 30.0
    jitter: float = 0.25
    retry_on: tuple[int | str, ...] = (429, 500, 502, 503, 504, 529, "connect")
    respect_retry_after: bool = True


_STATUSES = {
    "rate_limited": 429,
    "provider_unavailable": 503,
}  # what these count as without an HTTP status, and with a 4xx
# What `retry_on` may name: reasons of adapters' errors, and the phase of a call that failed.
_PHASES = ("connect", "first_byte", "idle", "total")
_KINDS: tuple[type[AdapterError], ...] = (AdapterError, *AdapterError.__subclasses__())
_WORDS = frozenset(_PHASES).union(*(kind.reasons for kind in _KINDS))
DEFAULT = RetryPolicy()
NEVER = RetryPolicy(max_attempts=1)


def policy_of(value: Any) -> RetryPolicy:
    """The policy for an engine's `retry`: `default`, False, a mapping that overrides the default, or a policy.

    Raises TypeError for an unknown name and ValueError for an invalid value.
    """
    if isinstance(value, RetryPolicy):
        return value
    if value is False:
        return NEVER
    if value is None or value is True or (isinstance(value, str) and value == "default"):
        return DEFAULT
    if not isinstance(value, Mapping):
        raise TypeError(f"retry must be 'default', False or a mapping, got: {value!r}")
    return _checked(dict(value))


def next_delay(policy: RetryPolicy, attempt: int, error: AdapterError, jitter: float) -> float | None:
    """Seconds to wait before attempt `attempt + 1`, or None to give up. `attempt` counts from 1; `jitter` is in [0, 1].

    The delay doubles from `base_delay`; with jitter it stays within `max_delay`. `Retry-After` is waited for in full.
    """
    if attempt >= policy.max_attempts or not _retryable(policy, error):
        return None
    asked = (error.retry_after_ms or 0) / 1000 if policy.respect_retry_after else 0.0
    if asked > policy.max_delay:
        return None
    backoff = asked or policy.base_delay * 2.0 ** min(attempt - 1, 64)
    return min(policy.max_delay, backoff + policy.jitter * jitter)


def _retryable(policy: RetryPolicy, error: AdapterError) -> bool:
    if error.metadata.get("retry") is False:
        # The error itself says that a retry is useless: an empty account stays empty.
        return False
    status = error.status
    unsaid = not error.metadata.get("partial") if status is None else status < 500
    like = _STATUSES.get(error.reason) if unsaid else None
    marks = (status, like, error.reason, error.metadata.get("phase"))
    return any(mark in policy.retry_on for mark in marks)


def _marks(given: Any) -> tuple[int | str, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError(f"retry retry_on must be a list, such as [429, 'timeout'], got: {given!r}")
    for mark in given:
        if isinstance(mark, str) and mark not in _WORDS:
            near = get_close_matches(mark, _WORDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(
                f"retry_on has {mark!r}, which is not the reason of any error{hint} The reasons are: "
                f"{', '.join(sorted(_WORDS))}"
            )
        if not isinstance(mark, str) and (not isinstance(mark, int) or isinstance(mark, bool)):
            raise TypeError(f"retry_on must hold HTTP statuses and reasons, got: {mark!r}")
    return tuple(given)


def _checked(given: dict[str, Any]) -> RetryPolicy:
    names = [field.name for field in fields(RetryPolicy)]
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r} (delays are seconds)?" if near else ""
            raise TypeError(f"retry has no setting {name!r}{hint} It has: {', '.join(names)}")
    if "retry_on" in given:
        given["retry_on"] = _marks(given["retry_on"])
    attempts = given.get("max_attempts", 1)
    if not is_count(attempts):
        raise ValueError(f"retry max_attempts must be a whole number >= 0, got: {attempts!r}")
    for name in ("base_delay", "max_delay", "jitter"):
        delay = given.get(name, 0)
        if not is_number(delay) or not delay >= 0:
            raise ValueError(f"retry {name} must be seconds >= 0, got: {delay!r}")
    return RetryPolicy(**given)
