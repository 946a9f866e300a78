"""A picture in a question. Its bytes go along, over real HTTP; a loopback server plays the provider that sees."""

import struct
import zlib

import allm_actors as allm
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply
from provider import MODEL, said


def png(width: int, height: int, red: int, green: int, blue: int) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes((red, green, blue)) * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


picture = allm.Image.from_bytes(png(64, 64, 220, 30, 30), "image/png")  # or Image.from_file("cat.png")
question = allm.user([allm.TextPart(text="Which colour is this?"), allm.ImagePart(image=picture)])

with LoopbackServer([Reply(chunks=chat_completions(text="Red."))]) as server:
    loopback = {"base_url": f"{server.url}/v1"}
    engine = allm.Engine(
        adapter=MODEL or "openai-compatible:any-model", adapter_opts={} if MODEL else loopback
    )
    answer = allm.unwrap(allm.generate(engine, [question]))
    print(answer)
    said(answer, "Red.")
    if MODEL is None:
        text, sent = server.requests[0].json["messages"][0]["content"]
        assert text == {"type": "text", "text": "Which colour is this?"}
        assert sent["image_url"]["url"] == picture.to_data_uri()

assert picture.to_bytes() == allm.Image.from_data_uri(picture.to_data_uri()).to_bytes()
