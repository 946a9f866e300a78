"""Lines of JSON, whatever their chunks: to the byte of the limit, and nothing after it."""

import pytest

from allm_actors.engine.lines import LineDecoder


def told(stream, step, most=8):
    decoder = LineDecoder(max_line_bytes=most)
    lines = [line for at in range(0, len(stream), step) for line in decoder.feed(stream[at : at + step])]
    return lines + decoder.end(), decoder.broken


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("ended", [True, False])
def test_the_limit_is_to_the_byte_and_what_came_before_is_told_in_any_chunking(size, ended):
    stream = b"ok\n" + b"x" * size + (b"\nok\n" if ended else b"")
    for step in range(1, len(stream) + 1):
        if size > 8:
            assert told(stream, step) == ([b"ok"], "a line is larger than 8 bytes")
        else:
            assert told(stream, step) == ([b"ok", b"x" * size] + [b"ok"] * ended, None)


def test_what_is_empty_is_no_line():
    for step in range(1, 12):
        assert told(b"\n{}\r\n \r\n\n{}\n \t", step) == ([b"{}\r", b"{}"], None)


def test_the_end_gives_the_last_line_once():
    decoder = LineDecoder()
    assert decoder.feed(b"{") == []
    assert decoder.feed(b"") == []
    assert decoder.end() == [b"{"]
    assert decoder.end() == []
