"""Which addresses belong to the public network.

Rule of this file: for untrusted URLs, which must not reach into the network of the process that fetches them
(SSRF). Addresses are checked, at the time of connecting, and never names: a name may resolve to another
address the next time.

Source: IANA's special-purpose address registries, as Python's `ipaddress` has them, and what that leaves out; RFC 4291
2.5.5, RFC 3056 2, RFC 6052 2.1, RFC 7915 and RFC 8215 for the ways to write an IPv4 address as one of IPv6.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["NotPublicError", "check_public", "is_address", "is_public"]

_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_FOR_EVERYBODY: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments; some clouds' metadata service, too
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, deprecated
    IPv4Network("168.63.129.16/32"),  # Azure's host, as its virtual machines see it
    IPv6Network("::/96"),  # IPv4 as IPv6, in deprecated forms
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b:1::/48"),  # local NAT64
    IPv6Network("100:0:0:1::/64"),  # dummies; Python learnt of this and the next two late, or not at all
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
    IPv6Network("fec0::/10"),  # site-local
)


class NotPublicError(OSError):
    """A host has a non-public address, and the request was limited to public hosts."""


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public network; False for what is no address."""
    try:
        told = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(told in network for network in _NOT_FOR_EVERYBODY):
        return False
    inner = _written_in(told)
    return told.is_global and not told.is_multicast and (inner is None or is_public(str(inner)))


def is_address(host: str) -> bool:
    """Whether a host is an address, in any form that is accepted as one, or `localhost`: no name to resolve."""
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return _is_in_c(name)
    return True


async def check_public(host: str) -> None:
    """Raises `NotPublicError` unless all addresses of `host` are public ones; OSError if it has none."""
    # A proxy may accept an address with a trailing dot, but our own resolver does not.
    name = host.rstrip(".") if is_address(host) else host
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    if not all(is_public(str(address[0])) for *_, address in found):
        raise NotPublicError(host)


def _is_in_c(name: str) -> bool:
    """Whether C's `inet_aton` accepts it: fewer than four numbers, octal and hexadecimal ones."""
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


def _written_in(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is embedded in an IPv6 address, or None."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
