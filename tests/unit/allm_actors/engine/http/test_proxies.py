"""Who is asked through a proxy: as httpx has it, and never directly where httpx would not."""

import itertools
from urllib.request import getproxies

import httpx
import pytest

from allm_actors.engine.http.proxies import is_proxied

PROXIES = [{}, {"HTTPS_PROXY": "http://p:1"}, {"http_proxy": "http://p:1"}, {"ALL_PROXY": "http://p:1"}]
EXEMPT = [
    *("", "*", "example.com", ".example.com", "EXAMPLE.com", "localhost", "127.0.0.1", "::1", "10.0.0.0/8"),
    *("other.org, api.example.com", "https://api.example.com", "api.example.com:443", "ample.com", " , "),
]
URLS = [
    *(
        "https://api.example.com/v1",
        "http://example.com",
        "http://localhost:8000",
        "https://127.0.0.1",
        "http://[::1]:1",
    ),
    *("https://notexample.com", "https://10.0.0.1", "https://EXAMPLE.COM"),
]
CERTAIN = {entry for entry in EXEMPT if "://" not in entry and not entry.endswith(":443")}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(("proxies", "exempt"), [*itertools.product(PROXIES, EXEMPT)])
def test_it_says_what_httpx_does(monkeypatch, proxies, exempt):
    for name, value in {**proxies, "NO_PROXY": exempt}.items():
        monkeypatch.setenv(name, value)
    client = httpx.Client(verify=False)  # it asks nobody, and reading authorities takes long
    for text in URLS:
        url = httpx.URL(text)
        theirs = client._transport_for_url(url) is not client._transport
        ours = is_proxied(url.scheme, url.host, getproxies())
        assert ours or not theirs, f"{text} would go past its proxy"
        if exempt in CERTAIN:
            assert ours == theirs, text
