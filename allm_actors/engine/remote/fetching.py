"""Images given by URL, fetched for a provider that takes only their bytes.

Rule of this file: a URL's target is not trusted. It is requested without any key, at public addresses only,
with limits on redirects, seconds and bytes, and must have an image's content type. Nothing is fetched twice:
a retried call sends what its first attempt has fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from allm_actors.data import AdapterError, Image, ImageRequest
from allm_actors.engine.remote.answers import whole_body
from allm_actors.engine.services import Service
from allm_actors.engine.wire import Deadlines, HttpRequest, HttpResponse, Transport

__all__ = ["is_remote", "with_pictures", "without_pictures"]

SECONDS: Final = 30.0
MOST_BYTES: Final = 25 * 1024 * 1024
MOST_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_KINDS: Final = {f"image/{name}": f"image/{name}" for name in ("png", "jpeg", "webp", "gif")} | {
    "image/jpg": "image/jpeg"
}


def is_remote(image: Any) -> bool:
    """Whether it is an image given by URL."""
    return isinstance(image, Image) and image.source[0] == "url"


def without_pictures(request: ImageRequest) -> ImageRequest:
    """The request with empty images in place of those to be fetched, to check whether the rest can be sent."""
    nothing = Image.from_bytes(b"", "image/png")
    return msgspec.structs.replace(
        request,
        input_images=[nothing if is_remote(image) else image for image in request.input_images],
        mask=nothing if is_remote(request.mask) else request.mask,
    )


async def with_pictures(
    request: ImageRequest, row: Service, transport: Transport, kept: dict[Any, Any]
) -> ImageRequest:
    """The request with the bytes of its images and of its mask. Raises the capability's error.

    Fetched images are put into `kept`; those that are there are not fetched again.
    """
    places = [("input_images", image) for image in request.input_images]
    if request.operation == "edit" and request.mask is not None:
        places.append(("mask", request.mask))
    fields: dict[str, str] = {}  # where each URL is first
    for field, image in places:
        if is_remote(image):
            fields.setdefault(str(image.source[1]), field)
    await _together([_keep(url, field, row, transport, kept) for url, field in fields.items()])
    return msgspec.structs.replace(
        request,
        input_images=[_kept(image, kept) for image in request.input_images],
        mask=_kept(request.mask, kept),
    )


async def _together(wanted: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them concurrently. Raises the first exception and cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in wanted:
                group.create_task(each)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _kept(image: Any, kept: dict[Any, Any]) -> Any:
    """The image with the bytes that were fetched for it, if there are any."""
    had = kept.get(("picture", str(image.source[1]))) if is_remote(image) else None
    if had is None:
        return image
    kind, data = had
    return msgspec.structs.replace(image, source=("binary", data), mime_type=kind)


async def _keep(url: str, field: str, row: Service, transport: Transport, kept: dict[Any, Any]) -> None:
    try:
        if ("picture", url) not in kept:
            kept["picture", url] = await _fetch(url, transport)
    except AdapterError as error:
        failure = error
    else:
        return
    metadata = {**failure.metadata, "field": field, "cause": "unfetchable_image"}
    why = failure.message
    if (
        failure.reason == "timeout" and failure.metadata.get("phase") != "connect"
    ):  # whose text names options of calls
        why = f"it took longer than {SECONDS:g} s in all; fetch it yourself, and pass Image.from_bytes(…)"
    raise row.error(failure.reason, f"the picture in {field} cannot be fetched: {why}", metadata=metadata)


async def _fetch(url: str, transport: Transport) -> tuple[str, bytes]:
    """The MIME type and the bytes at the URL. Raises `AdapterError`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(MOST_REDIRECTS + 1):
        _check(url)
        asked = HttpRequest(url=url, body=b"", headers={"accept": "image/*"}, method="GET", public=True)
        left = Deadlines(first_byte=SECONDS, idle=SECONDS, total=SECONDS, spent=loop.time() - began)
        async with transport.open(asked, left) as response:
            moved = response.headers.get("location") if response.status in _MOVED else None
            if moved is None:
                return _kind(response), await whole_body(response, MOST_BYTES, _too_large)
        url = urljoin(url, moved)
    raise _refused(f"it was redirected more than {MOST_REDIRECTS} times")


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise _refused("its URL must begin with http:// or https:// and a host")
    if "@" in parts.netloc:  # httpx's stack would resolve the name again, after the check
        raise _refused("its URL has a user name, and pictures are fetched without credentials: leave it out")


def _kind(response: HttpResponse) -> str:
    if not 200 <= response.status < 300:
        raise _refused(f"the answer's status is {response.status}")
    told = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = _KINDS.get(told)
    if kind is None:
        raise _refused(f"the answer is {told[:40]!r}, and not one of {', '.join(_KINDS)}")
    return kind


def _too_large() -> AdapterError:
    return _refused(f"it is larger than {MOST_BYTES >> 20} MiB")


def _refused(why: str) -> AdapterError:
    return AdapterError("invalid_request", message=why)
