"""Images as values: where the bytes are, not necessarily the bytes themselves.

Rule of this file: a URL is never fetched here. `to_bytes` reads a local file when the source is one; nothing else does
I/O.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from .sources import bytes_of, check_given, check_url, data_uri_of, repr_of

__all__ = ["Image", "ImageRequest", "ImageResponse", "ImageSource", "ImageUsage"]

ImageSource = tuple[Literal["binary", "base64", "url", "file"], str | bytes]
_MIME = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image: `source` is `(kind, value)` with kind `binary`, `base64`, `url` or `file`. Sizes are in pixels."""

    source: ImageSource
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    prompt: str | None = None
    revised_prompt: str | None = None
    metadata: dict[str, Any] = {}

    def __repr__(self) -> str:
        return repr_of(self)

    @classmethod
    def from_file(cls, path: str | Path) -> Image:
        """The picture in a local file, read when it is needed; the MIME type comes from the extension."""
        return cls(source=("file", str(path)), mime_type=_MIME.get(Path(path).suffix.lower()))

    @classmethod
    def from_bytes(cls, data: bytes, mime_type: str) -> Image:
        """The picture in `data`. Raises TypeError unless they are bytes with a MIME type."""
        check_given("Image.from_bytes", data, bytes, mime_type, "image/png")
        return cls(source=("binary", data), mime_type=mime_type)

    @classmethod
    def from_base64(cls, text: str, mime_type: str) -> Image:
        """The picture in Base64 `text`, kept undecoded. Raises TypeError unless it is text with a MIME type."""
        check_given("Image.from_base64", text, str, mime_type, "image/png")
        return cls(source=("base64", text), mime_type=mime_type)

    @classmethod
    def from_url(cls, url: str) -> Image:
        """The image at `url`, which the provider fetches; to edit it you may have to download it first.

        Raises TypeError for what is no text.
        """
        check_url("Image.from_url", url)
        return cls(source=("url", url))

    @classmethod
    def from_data_uri(cls, uri: str) -> Image:
        """The picture in a `data:<mime>;base64,<payload>` URI, kept as it is.

        Raises TypeError for what is no text, and ValueError for any other text, also for a URI without a MIME
        type, which RFC 2397 takes for `text/plain`.
        """
        if not isinstance(uri, str):
            raise TypeError(f"Image.from_data_uri takes text, got {type(uri).__name__}")
        head, comma, payload = uri.partition(",")
        mime_type = head[5:-7]
        if not (comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64"):
            raise ValueError("not a data URI of the form data:<mime>;base64,<payload>")
        if "/" not in mime_type.partition(";")[0]:
            raise ValueError(
                "missing_mime_type: the data URI has no MIME type, as in data:image/png;base64,<payload>; add "
                "it, or use Image.from_base64(payload, 'image/png')"
            )
        return cls.from_base64(payload, mime_type)

    def to_bytes(self) -> bytes:
        """The bytes. Raises ValueError (`invalid_source`, `invalid_base64`, `remote_source`), or OSError for an
        unreadable file.
        """
        return bytes_of(self.source, "image")

    def to_data_uri(self) -> str:
        """The picture as a data URI. Raises ValueError (`invalid_source`, `remote_source`, `missing_mime_type`) or
        OSError.
        """
        return data_uri_of(self.source, self.mime_type, "image")


class ImageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What an image call consumed. Tokens are counts, costs are in USD; None means that the provider did not say."""

    images: int = 0
    size: str | None = None
    quality: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    total_cost: float | None = None


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for images; `size` is `(width, height)` in pixels, a word that the provider knows, or `auto`."""

    operation: Literal["generate", "edit", "variation"] = "generate"
    model: str | None = None
    prompt: str | None = None
    n: int = 1
    size: tuple[int, int] | str | None = None
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    response_format: Literal["binary", "base64", "url"] = "binary"
    input_images: list[Image] = []
    mask: Image | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class ImageResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The images that a provider returned."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    images: list[Image] = []
    usage: ImageUsage = msgspec.field(default_factory=ImageUsage)
    raw: Any = None
    metadata: dict[str, Any] = {}
