"""What the provider of a scene makes, or is sent: vectors, verdicts, pictures, a clip, a transcript, a document.

Rule of this file: small values of which no two are alike, and which no adapter could guess. A suite compares with
these, never with the scene's: what it looked at itself would count as played.
"""

from __future__ import annotations

import struct
import zlib

from allm_actors.data import ClassificationAnswer, ModerationResult

__all__ = [
    "ANSWERS",
    "CLIP",
    "PDF",
    "TRANSCRIPT",
    "VECTORS",
    "VERDICTS",
    "answers_of",
    "pictures_of",
    "verdicts_of",
]

VECTORS = ((1.0, 0.0), (0.0, 1.0), (33 / 65, -56 / 65))
"""Of length one, for an adapter may make them so, and not to be rounded."""
CLIP = b"\xff\xfb\x90\x00 a clip of the suite \x00\x01\xfe\xff"
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
TRANSCRIPT = "The lighthouse of São João is dark."


def verdicts_of(*flags: bool) -> tuple[ModerationResult, ...]:
    """A verdict for each flag, at its place; what is flagged is violent."""
    return tuple(
        ModerationResult(
            flagged=flag,
            categories={"violence": flag, "hate": False},
            category_scores={"violence": 0.75 if flag else 0.125, "hate": 0.0625},
            index=index,
        )
        for index, flag in enumerate(flags)
    )


VERDICTS = verdicts_of(True, False)


def answers_of(team: str, mood: float, spam: float) -> dict[str, ClassificationAnswer]:
    """An answer to each of the questions of `ClassificationSuite`, by its id."""
    return {
        "team": ClassificationAnswer(type="choice", choice=team, confidence=0.75),
        "mood": ClassificationAnswer(type="score", score=mood, confidence=0.75),
        "spam": ClassificationAnswer(type="yes_no", yes_probability=spam),
    }


ANSWERS = answers_of("support", 0.75, 0.125)


def pictures_of(count: int) -> tuple[bytes, ...]:
    """So many PNGs of one pixel, each in a grey of its own."""
    return tuple(_png(grey % 256) for grey in range(1, count + 1))


def _png(grey: int) -> bytes:
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes([0, grey]))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
