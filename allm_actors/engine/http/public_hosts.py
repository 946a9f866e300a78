"""Which addresses everybody can reach.

Rule of this file: for URLs that came from somewhere, and must not lead into the network of whoever fetches them. It is
addresses that are judged, where they are connected to, and never names: a name may have another address the next time.

Source: IANA's special-purpose address registries, as Python's `ipaddress` has them; RFC 4291 2.5.5.2, RFC 3056 2 and
RFC 6052 2.1 for the ways to write an IPv4 address as one of IPv6.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["NotPublicError", "check_public", "is_address", "is_public"]

_NAT64: Final = IPv6Network("64:ff9b::/96")


class NotPublicError(OSError):
    """A host has an address that is not for everybody, and the request was for such hosts only."""


def is_public(address: str) -> bool:
    """Whether an address, in figures, is one of the public network; False for what is no address."""
    try:
        told = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _written_in(told)
    return told.is_global and not told.is_multicast and (inner is None or is_public(str(inner)))


def is_address(host: str) -> bool:
    """Whether a host is named by an address, in figures."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def check_public(host: str) -> None:
    """Raises `NotPublicError` unless all addresses of `host` are public ones; OSError if it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    if not all(is_public(str(address[0])) for *_, address in found):
        raise NotPublicError(host)


def _written_in(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
