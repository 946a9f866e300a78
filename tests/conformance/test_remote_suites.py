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
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.services import ROWS, SECRET, answer, answered, pictures, refused, vectors

MODELS = {("image", "openai"): "dall-e-2", ("embed", "gemini"): "gemini-embedding-001"}
PIECE = b"\xff\xfb some of the clip"


def reply(row, scene):
    streamed = {"headers": answer(row.dialect).headers, "chunks": [PIECE, PIECE]}
    match scene.reason:
        case None:
            if row.span == "image":
                return pictures(row, scene.images)
            if row.span == "embed":
                return vectors(row, scene.vectors)
            return Reply(**streamed) if scene.streamed else answered(row)
        case "timeout":
            return Reply(first_byte_delay=math.inf)
        case "network_error":
            return Reply(**streamed, then="reset") if scene.streamed else answered(row, then="reset")
        case "malformed_response":
            return Reply(headers={"content-type": "text/plain"}, body=b"It works!")
        case reason:
            return refused(row, reason, scene.retry_after_ms)


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
                    sent=lambda: [request.body for request in server.requests],
                )
            finally:
                keys.delete(row.provider.name)
            for request in server.requests:
                said = request.headers.get(row.provider.key_header)
                assert said == (f"Bearer {SECRET}" if row.provider.key_header == "authorization" else SECRET)


SUITES = {
    "image": conformance.ImageSuite,
    "embed": conformance.EmbeddingSuite,
    "moderate": conformance.ModerationSuite,
    "speech": conformance.SpeechSuite,
    "transcribe": conformance.TranscriptionSuite,
}
for _row in ROWS:
    _name = f"Test{_row.provider.label}{_row.span.title()}"
    globals()[_name] = type(_name, (Served, SUITES[_row.span]), {"row": (_row.span, _row.provider.name)})
