"""What the official SDKs have in common when they are asked for a recorded answer: a server that gives it to them.

Rule of this file: an SDK asks over a real socket, so that its own HTTP client, whichever that is, reads the bytes.
"""

from contextlib import contextmanager

from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.testing.loopback import LoopbackServer, Reply


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


@contextmanager
def answering(exchange):
    """The URL of a server that answers whatever it is asked with this recorded answer."""
    kind = "text/event-stream" if is_stream(exchange) else "application/json"
    reply = Reply(headers={"content-type": kind}, body=exchange.body)
    with LoopbackServer(lambda _request: reply) as server:
        yield server.url


def ours(exchange, dialect, row):
    """Our last event."""
    found, row = find_dialect(dialect), PROVIDERS[row]
    if not is_stream(exchange):
        return found.decode_body(exchange.body, row)[-1]
    decoder = found.decoder(row)
    return (decoder.feed(exchange.body) + decoder.end())[-1]
