"""Whether the environment sets a proxy for a URL.

Rule of this file: it answers as httpx does, or errs on the side of a proxy: then httpx's stack is used, which
decides exactly. `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` (or the system's settings) set proxies,
`NO_PROXY` exempts hosts.

Source: https://www.python-httpx.org/environment_variables/, and `httpx` 0.28 for what that leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

__all__ = ["is_proxied", "may_be_exempt"]


def is_proxied(scheme: str, host: str, settings: Mapping[str, str]) -> bool:
    """Whether requests to `host` go through a proxy. `settings` is what `urllib.request.getproxies()` returns."""
    if not any(settings.get(kind) for kind in (scheme, "all")):
        return False
    exempt = [entry.strip() for entry in settings.get("no", "").split(",")]
    return "*" not in exempt and not any(_names(entry, host.lower()) for entry in exempt if entry)


def may_be_exempt(host: str, settings: Mapping[str, str]) -> bool:
    """Whether an entry of `NO_PROXY`, with any scheme or port, may match this host. Then the request may go
    without a proxy, and the host's addresses must be checked here.
    """
    entries = (entry.strip().lower() for entry in settings.get("no", "").split(","))
    names = (entry.rpartition("://")[2].rpartition("@")[2] for entry in entries if entry)
    bare = (name if _is_address(name) else name.partition(":")[0] for name in names)
    return any(name == "*" or _names(name, host.lower()) for name in bare)


def _names(entry: str, host: str) -> bool:
    """Whether an entry of `NO_PROXY` certainly matches this host."""
    if "://" in entry or (":" in entry and not _is_address(entry)):
        return False  # with a scheme or a port it competes with the proxies' patterns: left to httpx
    wanted = entry.lower()
    if _is_address(wanted) or wanted == "localhost":
        return host.strip("[]") == wanted.strip("[]")
    name = wanted.removeprefix(".")
    return host.endswith("." + name) or (host == name and not wanted.startswith("."))


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]").partition("/")[0])
    except ValueError:
        return False
    return True
