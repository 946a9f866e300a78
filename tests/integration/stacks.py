"""The two HTTP stacks, for tests that hold on both: our own, and httpx's."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trustme

from allm_actors.engine.http import transport as door

CA = trustme.CA()


def server_tls(*names: str) -> ssl.SSLContext:
    """A server's context with a certificate for these names, by an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    """A client's context that knows that authority."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


@pytest.fixture(params=["own", "httpx"])
def stack(request, monkeypatch):
    """The name of the stack that every `HttpxTransport` of the test module is made with."""
    made = partial(door.HttpxTransport, own=request.param == "own")
    monkeypatch.setattr(request.module, "HttpxTransport", made)
    return request.param


@contextmanager
def no_descriptor_more() -> Iterator[None]:
    """As many open file descriptors at the end as at the beginning."""
    before = descriptors()
    yield
    assert descriptors() == before


def descriptors() -> list[str]:
    """What the process has open, sockets and pipes by kind only. Skips where /proc does not say."""
    here = Path("/proc/self/fd")
    if not here.exists():
        pytest.skip("this system has no /proc/self/fd")
    kinds = []
    for each in here.iterdir():
        try:
            kinds.append(str(each.readlink()).split(":")[0])
        except FileNotFoundError:
            continue  # the listing's own
    return sorted(kinds)
