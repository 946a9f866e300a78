"""AWS's event stream, written and read by somebody else: with text headers only, as models send them."""

import struct
import zlib


def frame(headers, payload):
    """One frame with these headers, texts by name, around the payload."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\7" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", len(head) + len(payload) + 16, len(head))
    most = lengths + struct.pack(">I", zlib.crc32(lengths)) + head + payload
    return most + struct.pack(">I", zlib.crc32(most))


def event(kind, payload):
    """One event of this type."""
    about = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(about, payload)


def split(stream):
    """The stream's frames, as bytes; a rest that is none is the last."""
    frames = []
    while stream:
        length = struct.unpack(">I", stream[:4])[0] if len(stream) >= 4 else len(stream)
        frames.append(stream[:length])
        stream = stream[max(length, 1) :]
    return frames


def read(frame):
    """A frame's headers and payload."""
    (end,) = struct.unpack(">I", frame[4:8])
    head, headers = frame[12 : 12 + end], {}
    while head:
        name, rest = head[1 : 1 + head[0]].decode(), head[1 + head[0] :]
        assert rest[0] == 7
        (size,) = struct.unpack(">H", rest[1:3])
        headers[name] = rest[3 : 3 + size].decode()
        head = rest[3 + size :]
    return headers, frame[12 + end : -4]
