"""The scripted providers of everything that is not chat: their answers are written in advance.

Rule of this package: as in `fake`: no network, no keys, nothing that waits. A script has an entry for each call, from
`allm_actors.testing.script`:

    ok(value, **fields)         the response: a whole one, or a value that the fake makes one from (see each class)
    error(reason, **fields)     the capability's error, or one of yours
    retry_until_call(n)         `rate_limited` for the first n - 1 visits, then the next entry

A script that is used up raises `unknown` with `metadata["cause"] == "no_scripted_…"`. Without a script the fakes
have default answers, except `FakeImages`. `adapter_opts`: the script's name, `capture` (a list or a callable
that gets each request), `record` (the same, for each `Recorded` call), `script_cursor` (a `Counter` that
several engines share) and `cursor_key` (default: the engine's id).
"""

from collections.abc import Mapping
from typing import Any

from .audio import FakeSpeech, FakeTranscription
from .embeddings import FakeEmbeddings
from .images import FakeImages
from .scripted import ScriptedFake
from .verdicts import FakeClassification, FakeModeration

__all__ = [
    "FAKES",
    "FakeClassification",
    "FakeEmbeddings",
    "FakeImages",
    "FakeModeration",
    "FakeSpeech",
    "FakeTranscription",
]

FAKES: Mapping[str, type[ScriptedFake[Any]]] = {
    "image": FakeImages,
    "embed": FakeEmbeddings,
    "moderate": FakeModeration,
    "speech": FakeSpeech,
    "transcribe": FakeTranscription,
    "classify": FakeClassification,
}
"""By the span of their capability."""
