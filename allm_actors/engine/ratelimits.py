"""Rate limits from a response's headers.

Rule of this file: pure and total; an invalid value is left out. Units: seconds, counts. A moment is read by
the clock of whoever named it, if its answer says what time it is there: ours may be wrong by minutes.

Source: the providers' API references (2026-09): OpenAI, Azure, Groq, xAI and Mistral `x-ratelimit-<what>-<of what>`,
Anthropic `anthropic-ratelimit-<of what>-<what>`, OpenRouter and Together `x-ratelimit-<what>`; IETF
draft-ietf-httpapi-ratelimit-headers, `RateLimit` (Hugging Face); RFC 9110 6.6.1 (Date).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

__all__ = ["date_of", "rate_limits", "server_time"]

_NAME = re.compile(r"(?:x-|anthropic-)?ratelimit-(.+)")
_WHAT = ("limit", "remaining", "reset")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SCALE = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z")
_DRAFT = re.compile(r'"[^"]*"\s*;\s*r=(\d+)(?:\s*;\s*t=(\d+))?')
_EPOCH = 1e9  # larger numbers are a date, not a wait
_EPOCH_MS = 1e12


def rate_limits(headers: Mapping[str, str], now: float) -> dict[str, dict[str, float]]:
    """By the limited resource (`requests`, `tokens`, …): its `limit`, `remaining`, and seconds until `reset`.

    `now` is our wall clock in seconds since the epoch. Empty if the headers have no limits.
    """
    now = server_time(headers, now)
    found: dict[str, dict[str, float]] = {}
    for raw_name, value in headers.items():
        name = raw_name.lower()
        if name == "ratelimit" and (draft := _DRAFT.match(value)):
            said = {"remaining": float(draft[1])} | ({"reset": float(draft[2])} if draft[2] else {})
            found.setdefault("requests", {}).update(said)
            continue
        match = _NAME.fullmatch(name)
        words = match[1].split("-") if match is not None else []
        what = next((word for word in _WHAT if word in words), None)
        if what is None:
            continue
        number = _seconds(value, now) if what == "reset" else _number(value)
        if number is not None:
            words.remove(what)
            found.setdefault(_resource(words), {})[what] = number
    return found


def server_time(headers: Mapping[str, str], now: float) -> float:
    """What time it was at the server that answered with these `headers`, as seconds since the epoch; else `now`."""
    dates = (date_of(value) for name, value in headers.items() if name.lower() == "date")
    return next((date for date in dates if date is not None), now)


def date_of(text: str) -> float | None:
    """The moment of an HTTP date, as seconds since the epoch; None if it is none.

    Source: RFC 9110 5.6.7; a date without a time zone is in UTC.
    """
    try:
        return calendar.timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, TypeError, OverflowError):
        return None


def _resource(words: list[str]) -> str:
    if words[:1] == ["req"]:
        words = ["requests", *words[1:]]
    return "_".join(words) or "requests"


def _seconds(text: str, now: float) -> float | None:
    """Seconds until then: `6m0s`, `20ms`, `1.5`, a date, or an epoch in seconds or milliseconds."""
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_MS:
            number /= 1000
        return max(0.0, number - now) if number >= _EPOCH else number
    date = _DATE.fullmatch(text.strip())
    if date is not None:
        return _until(tuple(map(int, date.groups())), now)
    duration = _DURATION.fullmatch(text.strip())
    if duration is None or not any(duration.groups()):
        return None
    parts = zip(duration.groups(), _SCALE, strict=True)
    return sum(float(part) * scale for part, scale in parts if part)


def _until(date: tuple[int, ...], now: float) -> float | None:
    try:
        return max(0.0, calendar.timegm(date) - now)
    except ValueError:  # there is no such month
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None
