"""Images in messages: which can be sent, and how they are encoded.

Rule of this file: the same for every provider. A URL is passed on, never fetched.
"""

from __future__ import annotations

from allm_actors.data import Image

__all__ = ["picture_data", "picture_failure", "picture_url"]

_FORMATS = ("image/png", "image/jpeg", "image/webp", "image/gif")
_MAX_BYTES = 20 * 1024 * 1024


def picture_url(image: Image) -> str:
    """The URL of an image, or a data URI of its bytes."""
    kind, value = image.source
    return str(value) if kind == "url" else image.to_data_uri()


def picture_data(image: Image) -> tuple[str, str]:
    """The MIME type and the Base64 of an image that is no URL. Base64 that was given is passed on unchanged."""
    head, _, data = image.to_data_uri().partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), data


def picture_failure(image: Image) -> str | None:
    """Why an image cannot be sent, or None."""
    kind, _ = image.source
    if image.mime_type is None:
        return None if kind == "url" else "missing_mime_type"
    if image.mime_type not in _FORMATS:
        return "unsupported_image_format"
    if kind == "url":
        return None
    try:
        return "image_too_large" if len(image.to_bytes()) > _MAX_BYTES else None
    except (ValueError, OSError):
        return "unresolvable_image"
