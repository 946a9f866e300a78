"""Pictures behind URLs, whose bytes a provider wants: fetched over real sockets, and not from everywhere."""

import asyncio
import math
import socket

import httpx
import pytest

import allm_actors as allm
from allm_actors.data import Image, ImageAdapterError, ImageRequest
from allm_actors.engine.adapter import Call
from allm_actors.engine.http import public_hosts
from allm_actors.engine.http import transport as door
from allm_actors.engine.http.http1_dial import connected_socket
from allm_actors.engine.remote import fetching
from allm_actors.engine.remote.calls import remote_service
from allm_actors.testing import script
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply
from tests.conformance.services import ROWS, SECRET, answered

from .stacks import client_tls, server_tls, stack  # noqa: F401 - a fixture

HttpxTransport = door.HttpxTransport
OPENAI, GEMINI = (
    next(row for row in ROWS if (row.span, row.provider.name) == ("image", name))
    for name in ("openai", "gemini")
)
PNG = {"content-type": "image/png"}
PICTURE = Image.from_bytes(b"x", "image/png")


def edit(server, picture, *, row=OPENAI, transport=None, operation="edit", scripted=None, **fields):
    """What becomes of an edit of `picture`, or of pictures, by a provider at `server`."""
    pictures = picture if isinstance(picture, list) else [picture]
    request = ImageRequest(
        operation=operation,
        prompt="a hat" if operation == "edit" else None,
        input_images=pictures,
        **{"model": "gpt-image-1" if row is OPENAI else None, **fields},
    )

    async def run():
        reach = transport or HttpxTransport(private_urls=True)
        options = {"base_url": server.url, **(scripted or {})}
        call = Call(request_id="r", api_key=SECRET, transport=reach, options=options)
        try:
            return await remote_service(row).generate(request, call)
        finally:
            await reach.aclose()

    return asyncio.run(run())


def refused(server, picture, **options):
    with pytest.raises(ImageAdapterError) as raised:
        edit(server, picture, **options)
    assert SECRET not in repr(raised.value.to_fields())
    return raised.value


def serving(pages, row=OPENAI):
    """A server of these pages, by path, and of the provider's answers at all other places."""
    return LoopbackServer(lambda request: pages.get(request.target) or answered(row))


def asked_for(server):
    return [(request.method, request.target) for request in server.requests]


@pytest.mark.usefixtures("stack")
def test_what_is_to_be_changed_is_fetched_without_the_key_and_sent():
    pages = {
        "/cat.png": Reply(status=302, headers={"location": "/there/cat"}),
        "/there/cat": Reply(body=b"the cat", headers={"content-type": "image/jpg; q=1"}),
        "/mask": Reply(chunks=[b"the ", b"mask"], headers=PNG),
    }
    with serving(pages) as server:
        cat, mask = (Image.from_url(f"{server.url}/{name}") for name in ("cat.png", "mask"))
        edit(server, cat, mask=mask)
        *fetched, (sent) = server.requests
    assert sorted(request.target for request in fetched) == ["/cat.png", "/mask", "/there/cat"]
    for request in fetched:
        assert (request.method, request.body) == ("GET", b"")
        assert SECRET not in repr(request.headers)
    assert b"image/jpeg\r\n\r\nthe cat\r\n" in sent.body
    assert b"image/png\r\n\r\nthe mask\r\n" in sent.body


@pytest.mark.parametrize("row", [OPENAI, GEMINI], ids=lambda row: row.provider.name)
def test_every_picture_of_an_edit_is_fetched(row):
    pages = {f"/{name}": Reply(body=name.encode(), headers=PNG) for name in ("one", "two")}
    with serving(pages, row) as server:
        edit(server, [Image.from_url(f"{server.url}/{name}") for name in ("one", "two")], row=row)
        assert sorted(target for method, target in asked_for(server) if method == "GET") == ["/one", "/two"]


def test_a_picture_that_is_given_more_than_once_is_fetched_once():
    with serving({"/cat": Reply(body=b"the cat", headers=PNG)}) as server:
        cat = Image.from_url(f"{server.url}/cat")
        edit(server, [cat, PICTURE, cat], mask=cat)
        assert asked_for(server) == [("GET", "/cat"), ("POST", "/images/edits")]
        assert server.requests[-1].body.count(b"the cat") == 3


def test_pictures_that_would_not_be_sent_are_not_fetched():
    pages = {f"/{name}": Reply(body=name.encode(), headers=PNG) for name in ("one", "two")}
    with serving(pages, OPENAI) as server:
        pictures = [Image.from_url(f"{server.url}/{name}") for name in ("one", "two")]
        with pytest.raises(ImageAdapterError, match="takes one picture"):
            edit(server, pictures, model="dall-e-2")
        assert asked_for(server) == []


def test_where_a_script_answers_nothing_is_fetched():
    with serving({"/cat": Reply(body=b"x", headers=PNG)}) as server:
        scripted = {"image_script": [script.ok([PICTURE])]}
        response = edit(server, Image.from_url(f"{server.url}/cat"), scripted=scripted)
        assert response.images == [PICTURE]
        assert server.requests == ()


def test_a_picture_may_be_as_many_redirects_away_as_are_followed():
    steps = range(fetching.MOST_REDIRECTS)
    pages = {f"/{step}": Reply(status=303, headers={"location": f"{step + 1}"}) for step in steps}
    with serving({**pages, f"/{len(steps)}": Reply(body=b"the cat", headers=PNG)}) as server:
        edit(server, Image.from_url(f"{server.url}/0"))
        *_, sent = server.requests
    assert b"the cat" in sent.body


def test_a_call_that_is_tried_again_fetches_nothing_again():
    pages = {"/cat": Reply(body=b"the cat", headers=PNG), "/mask": Reply(body=b"the mask", headers=PNG)}
    answers = iter([Reply(status=500), Reply(status=503), answered(OPENAI)])
    with LoopbackServer(lambda request: pages.get(request.target) or next(answers)) as server:
        engine = allm.Engine(
            image_adapter="openai:gpt-image-1",
            adapter_opts={"base_url": server.url, "transport": HttpxTransport(private_urls=True)},
            retry={"base_delay": 0.01, "jitter": 0},
        )
        cat, mask = (Image.from_url(f"{server.url}/{name}") for name in ("cat", "mask"))
        for tries in (3, 1):
            answers = iter([*[Reply(status=500)] * (tries - 1), answered(OPENAI)])
            seen = len(server.requests)
            allm.edit_image(engine, cat, "a hat", mask=mask, api_key=SECRET)
            *fetched, last = server.requests[seen:]
            assert sorted(r.target for r in fetched if r.method == "GET") == ["/cat", "/mask"]
            assert len([r for r in (*fetched, last) if r.method == "POST"]) == tries
            assert b"the cat" in last.body


def test_a_picture_that_could_not_be_had_is_asked_for_again():
    broken = Reply(body=b"x" * 900, headers=PNG, then="half_close")
    replies = iter([broken, Reply(body=b"the cat", headers=PNG)])
    with LoopbackServer(
        lambda request: next(replies) if request.target == "/cat" else answered(OPENAI)
    ) as server:
        engine = allm.Engine(
            image_adapter="openai:gpt-image-1",
            adapter_opts={"base_url": server.url, "transport": HttpxTransport(private_urls=True)},
            retry={"base_delay": 0.01, "jitter": 0},
        )
        allm.edit_image(engine, Image.from_url(f"{server.url}/cat"), "a hat", api_key=SECRET)
        assert [method for method, _ in asked_for(server)] == ["GET", "GET", "POST"]


def test_what_cannot_be_had_ends_what_is_still_fetched():
    gone, slow = Gate(), Reply(first_byte_delay=math.inf)

    def page(request):
        return slow if request.target == "/slow" else Reply(chunks=[gone], status=404)

    async def scenario(server):
        reach = HttpxTransport(private_urls=True)
        call = Call(request_id="r", api_key=SECRET, transport=reach, options={"base_url": server.url})
        pictures = [Image.from_url(f"{server.url}/{name}") for name in ("slow", "gone")]
        asked = ImageRequest(operation="edit", prompt="a hat", input_images=pictures)
        edited = asyncio.create_task(remote_service(GEMINI).generate(asked, call))
        await asyncio.to_thread(server.wait_for, lambda s: len(s.requests) == 2)
        gone.open()
        with pytest.raises(ImageAdapterError, match="status is 404"):
            await edited
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await reach.aclose()

    with LoopbackServer(page) as server:
        asyncio.run(scenario(server))


def test_nothing_is_fetched_for_a_request_that_cannot_be_sent():
    with serving({}) as server:
        error = refused(server, Image.from_url(f"{server.url}/cat"), response_format="url")
        assert "returns no URLs" in error.message
        error = refused(server, Image.from_url(f"{server.url}/cat"), row=GEMINI, operation="variation")
        assert error.reason == "unsupported_operation"
        error = refused(server, PICTURE, row=GEMINI, mask=Image.from_url(f"{server.url}/mask"))
        assert error.reason == "unsupported_feature"
        assert server.requests == ()


@pytest.mark.parametrize(
    ("reply", "reason", "why"),
    [
        (Reply(status=404), "invalid_request", "status is 404"),
        (Reply(status=503), "invalid_request", "status is 503"),
        (Reply(body=b"<html>", headers={"content-type": "text/html"}), "invalid_request", "'text/html'"),
        (Reply(body=b"<svg>", headers={"content-type": "image/svg+xml"}), "invalid_request", "'image/svg"),
        (Reply(body=b"x" * 2000, headers=PNG), "invalid_request", "larger than"),
        (Reply(status=302, headers={"location": "/cat"}), "invalid_request", "redirected more than 5 times"),
        (Reply(status=301, headers={"location": "file:///etc/passwd"}), "invalid_request", "must begin with"),
        (Reply(body=b"x" * 900, headers=PNG, then="half_close"), "network_error", "not complete"),
        (
            Reply(first_byte_delay=math.inf),
            "timeout",
            "fetched: it took longer than 0.3 s in all; fetch it yourself",
        ),
    ],
    ids=["gone", "broken", "page", "svg", "large", "circle", "file", "cut", "silent"],
)
def test_what_cannot_be_had_is_a_typed_error_and_nothing_is_sent(monkeypatch, reply, reason, why):
    monkeypatch.setattr(fetching, "MOST_BYTES", 1000)
    monkeypatch.setattr(fetching, "SECONDS", 0.3)
    with serving({"/cat": reply}) as server:
        error = refused(server, Image.from_url(f"{server.url}/cat"))
        assert {target for _, target in asked_for(server)} == {"/cat"}
    assert (error.reason, error.metadata["field"]) == (reason, "input_images")
    assert error.metadata["cause"] == "unfetchable_image"
    assert why in error.message


@pytest.mark.parametrize(
    "url", ["ftp://x/cat.png", "http://", "cat.png", "http://[::1", "data:image/png;base64,AA"]
)
def test_what_is_no_url_of_the_web_is_refused(url):
    with serving({}) as server:
        assert "must begin with http" in refused(server, Image.from_url(url)).message
        assert server.requests == ()


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_host_of_ones_own_network_is_not_asked_unless_that_is_allowed(host):
    with serving({"/cat": Reply(body=b"x", headers=PNG)}) as server:
        url = f"{server.url}/cat".replace("127.0.0.1", host)
        error = refused(server, Image.from_url(url), transport=HttpxTransport())
        assert (error.reason, error.metadata["phase"]) == ("invalid_request", "address")
        assert "private_urls=True" in error.message
        assert server.requests == ()


def test_a_redirect_does_not_lead_there_either(monkeypatch):
    """The first host counts as public here; the second, an address of this machine too, does not."""
    monkeypatch.setattr(
        "allm_actors.engine.http.http1_dial.is_public", lambda address: address == "127.0.0.1"
    )
    with serving({"/cat": Reply(status=302, headers={"location": "http://127.0.0.2/cat"})}) as server:
        error = refused(server, Image.from_url(f"{server.url}/cat"), transport=HttpxTransport())
        assert error.metadata["phase"] == "address"
        assert asked_for(server) == [("GET", "/cat")]


def test_a_connection_to_a_private_host_is_not_used_again_for_a_url():
    with serving({"/cat": Reply(body=b"x", headers=PNG)}) as server:
        reach = HttpxTransport()

        async def scenario():
            call = Call(request_id="r", api_key=SECRET, transport=reach, options={"base_url": server.url})
            ask = remote_service(OPENAI).generate
            of = {"operation": "edit", "prompt": "a hat", "model": "gpt-image-1"}
            await ask(ImageRequest(**of, input_images=[PICTURE]), call)
            with pytest.raises(ImageAdapterError, match="not a host on the public network"):
                await ask(ImageRequest(**of, input_images=[Image.from_url(f"{server.url}/cat")]), call)
            await reach.aclose()

        asyncio.run(scenario())
        assert asked_for(server) == [("POST", "/images/edits")]


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.169.254.", "2130706433", "0x7f.1", "127.1", "localhost", "[::ffff:7f00:1]"],
)
def test_a_proxy_is_asked_for_names_and_not_for_private_addresses(monkeypatch, host):
    with serving({"http://cats.test/cat": Reply(body=b"x", headers=PNG)}) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        edit(server, Image.from_url("http://cats.test/cat"), transport=HttpxTransport())
        error = refused(server, Image.from_url(f"http://{host}/cat"), transport=HttpxTransport())
        assert error.metadata["phase"] == "address"
        assert asked_for(server) == [("GET", "http://cats.test/cat"), ("POST", "/images/edits")]


def test_a_name_that_may_be_exempt_from_the_proxy_is_judged_by_its_addresses(monkeypatch):
    look_up = socket.getaddrinfo

    def found(host, *args, **options):
        return look_up("127.0.0.1" if host in ("cats.test", b"cats.test") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with serving({"/cat": Reply(body=b"x", headers=PNG)}) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1, http://cats.test")
        url = f"{server.url}/cat".replace("127.0.0.1", "cats.test")
        error = refused(server, Image.from_url(url), transport=HttpxTransport())
        assert error.metadata["phase"] == "address"
        assert server.requests == ()


def test_over_tls_the_certificate_counts():
    with (
        LoopbackServer([Reply(body=b"x", headers=PNG)] * 2, tls=server_tls()) as pictures,
        serving({}) as server,
    ):
        url = Image.from_url(f"{pictures.url}/cat")
        edit(server, url, transport=HttpxTransport(private_urls=True, verify=client_tls()))
        assert refused(server, url).reason == "network_error"


def test_a_transport_of_ones_own_is_asked_as_it_is():
    def answer(request):
        if request.method == "GET":
            return httpx.Response(200, content=b"x", headers=PNG)
        return httpx.Response(200, content=answered(OPENAI).body)

    with serving({}) as server:
        reach = HttpxTransport(httpx.MockTransport(answer))
        assert edit(server, Image.from_url("http://10.0.0.1/cat"), transport=reach).images
        assert server.requests == ()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[(address, True) for address in ("1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::101:101")],
        *[(address, False) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "0.0.0.0")],
        *[(address, False) for address in ("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255")],
        *[(address, False) for address in ("::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1")],
        *[
            (address, False)
            for address in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "no address")
        ],
        *[
            (address, False)
            for address in ("192.0.0.192", "192.88.99.1", "168.63.129.16", "::8.8.8.8", "fec0::1")
        ],
        *[(address, False) for address in ("::ffff:0:808:808", "64:ff9b:1::808:808")],
        *[(address, False) for address in ("3fff::1", "3fff:fff:ffff::1", "5f00::1", "100:0:0:1::1")],
    ],
)
def test_which_addresses_are_public(address, public):
    assert public_hosts.is_public(address) is public


@pytest.mark.parametrize("addresses", [("8.8.8.8", "10.1.2.3"), ("10.1.2.3", "8.8.8.8")])
@pytest.mark.parametrize(
    "reach",
    [lambda host: connected_socket(host, 80, public=True), public_hosts.check_public],
    ids=["own", "httpx"],
)
def test_a_name_is_public_with_all_its_addresses_or_not_at_all(monkeypatch, addresses, reach):
    async def main():
        async def getaddrinfo(_host, port, *, type):
            return [(socket.AF_INET, type, 0, "", (address, port)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        await reach("cats.test")

    with pytest.raises(public_hosts.NotPublicError):
        asyncio.run(main())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "127.0.0.1.", "LOCALHOST", "a.localhost.", "[::1]", "::1"],
)
def test_which_hosts_need_no_name_to_be_looked_up(host):
    """Behind a proxy names are the proxy's business, and these are none."""
    assert public_hosts.is_address(host)


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "1.example", "a"])
def test_which_hosts_are_names(host):
    assert not public_hosts.is_address(host)


def test_a_picture_is_fetched_as_nobody():
    with serving({}) as server, pytest.raises(allm.ImageAdapterError, match="has a user name") as caught:
        edit(server, Image.from_url("http://somebody@pictures.example/cat.png"))
    assert caught.value.metadata["cause"] == "unfetchable_image"


def test_a_redirect_may_not_bring_a_user_name():
    there = {"location": "http://somebody@pictures.example/cat.png"}
    with (
        serving({"/cat": Reply(status=302, headers=there)}) as server,
        pytest.raises(allm.ImageAdapterError, match="has a user name"),
    ):
        edit(server, Image.from_url(f"{server.url}/cat"))
