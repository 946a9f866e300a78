"""Every provider of what is not chat keeps the laws that are shipped for others, over real sockets."""

import math
from contextlib import contextmanager
from itertools import repeat

import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.services import SERVICES
from allm_actors.testing import conformance
from allm_actors.testing.conformance.calls import KEY, TENANTS, key_of_tenant
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.services import (
    ROWS,
    SECRET,
    answer,
    answered,
    pictures,
    refused,
    transcript,
    vectors,
    verdicts,
)

MODELS = {("image", "openai"): "dall-e-2", ("embed", "gemini"): "gemini-embedding-001"}
WITHOUT = {
    ("embed", "openai"): ("task_type", "truncate"),
    ("embed", "mistral"): ("task_type", "truncate"),
    ("embed", "ollama"): ("task_type",),
    ("image", "openai"): ("quality", "style", "background"),
    ("image", "gemini"): ("quality", "style", "background"),
}
"""What these do without, as the reference of services says; of OpenAI's images, those of `dall-e-2`."""


def reply(row, scene):
    half = len(scene.clip) // 2
    streamed = {"headers": answer(row.dialect).headers, "chunks": [scene.clip[:half], scene.clip[half:]]}
    match scene.reason:
        case None:
            return Reply(**streamed) if scene.streamed else said(row, scene)
        case "timeout":
            return Reply(first_byte_delay=math.inf)
        case "network_error":
            return Reply(**streamed, then="reset") if scene.streamed else answered(row, then="reset")
        case "malformed_response":
            return Reply(headers={"content-type": "text/plain"}, body=b"It works!")
        case reason:
            return refused(row, reason, scene.retry_after_ms)


def said(row, scene):
    """The whole answer of a provider that makes what the scene says."""
    match row.span:
        case "image":
            return pictures(row, scene.pictures)
        case "embed":
            return vectors(row, scene.vectors)
        case "moderate":
            return verdicts(row, scene.verdicts)
        case "speech":
            return answered(row, body=scene.clip)
        case _:
            return transcript(row, scene.transcript)


def key_of(row, request):
    """The key that has arrived, without the scheme that it must have where it is in `authorization`."""
    header = row.provider.key_header
    given = request.headers.get(header, "")
    scheme = "Bearer " if header == "authorization" else ""
    assert given.startswith(scheme)
    return given.removeprefix(scheme)


class Served:
    """A stage on which a loopback server plays the provider of one row."""

    row: tuple[str, str]

    @contextmanager
    def stage(self, scene):
        row = SERVICES[self.row]
        if scene.streamed and row.span == "transcribe":
            pytest.skip("transcripts come whole: the streamed ones are WebSockets")
        slot = CAPABILITIES[row.span].slot.removesuffix("_adapter")
        with LoopbackServer(repeat(reply(row, scene))) as server:
            opts = {"base_url": server.url}
            if scene.reason == "timeout":
                opts["first_byte_timeout"] = 0.2
            fields = {f"{slot}_adapter": row.provider.name, f"{slot}_model": MODELS.get(self.row)}
            keys.put(row.provider.name, SECRET)
            try:
                yield conformance.Stage(
                    engine=allm.Engine(**fields, adapter_opts=opts),
                    sent=lambda: [b"%b\n%b" % (each.target.encode(), each.body) for each in server.requests],
                    keys=lambda: [key_of(row, each) for each in server.requests],
                )
            finally:
                keys.delete(row.provider.name)
            assert {key_of(row, each) for each in server.requests} <= {
                SECRET,
                KEY,
                *map(key_of_tenant, TENANTS),
            }


SUITES = {
    "image": conformance.ImageSuite,
    "embed": conformance.EmbeddingSuite,
    "moderate": conformance.ModerationSuite,
    "speech": conformance.SpeechSuite,
    "transcribe": conformance.TranscriptionSuite,
}
for _row in ROWS:
    _name = f"Test{_row.provider.label}{_row.span.title()}"
    _fields = {"row": (_row.span, _row.provider.name)}
    _fields["without"] = WITHOUT.get((_row.span, _row.provider.name), ())
    globals()[_name] = type(_name, (Served, SUITES[_row.span]), _fields)
