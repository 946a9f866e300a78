"""Every recorded answer, of every dialect, folds into a response that has all of it, and is stored as it is."""

import random

import pytest

from allm_actors.data import ErrorEvent, MessageCompleted, ToolCallCompleted, Usage
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.routes import dialects_of
from allm_actors.execution.fold import Fold
from tests.conformance.ledger import exchanges_of, suites
from tests.conformance.traffic import TRAFFIC

ROWS = {dialect: row for row in reversed(PROVIDERS.values()) for dialect in dialects_of(row)}


def events_of(exchange, dialect):
    """What our decoder makes of the answer, streamed or whole."""
    row = PROVIDERS.get(exchange.provider, ROWS[dialect])
    row = row if dialect in dialects_of(row) else ROWS[dialect]
    found, body = find_dialect(dialect), exchange.body
    start = body.lstrip()
    streamed = b"data:" in start[:2000] or b"\n{" in start or not start.startswith((b"{", b"["))
    if not streamed:
        return list(found.decode_body(body, row))
    decoder = found.decoder(row)
    return decoder.feed(body) + decoder.end()


@pytest.mark.skipif(not TRAFFIC.exists(), reason="the recorded traffic is not here")
@pytest.mark.parametrize(
    "suite", [suite for suite in suites() if suite.dialect], ids=lambda suite: suite.dialect or ""
)
def test_a_recorded_answer_folds_into_its_response(suite):
    answers = [each for each in exchanges_of(suite) if each.response["status"] < 400]
    for exchange in answers:
        events = events_of(exchange, suite.dialect)
        response, last = Fold().apply_all(events).response(), events[-1]
        assert from_json(to_json(response)) == response, exchange.name
        assert from_msgpack(to_msgpack(response)) == response, exchange.name
        if isinstance(last, ErrorEvent):
            assert (response.finish_reason, response.metadata["error"]) == ("error", last.error), (
                exchange.name
            )
            continue
        said = last.message.content
        assert (response.output_text or "") == said or not isinstance(said, str), exchange.name
        assert response.tool_calls == last.message.tool_calls, exchange.name
        assert response.finish_reason == last.finish_reason, exchange.name
        assert response.usage == last.metadata.get("usage", Usage()), exchange.name
        for name in ("id", "model", "raw_finish_reason"):
            assert getattr(response, name) == last.metadata.get(name), exchange.name
    assert answers


def mutated(body, dice):
    """The answer with a byte flipped, or a line dropped, repeated or inserted."""
    lines = body.splitlines(keepends=True)
    at, kind = dice.randrange(len(lines)), dice.choice(["flip", "drop", "repeat", "insert"])
    if kind == "flip":
        place = dice.randrange(len(body))
        return body[:place] + bytes([body[place] ^ (1 << dice.randrange(8))]) + body[place + 1 :]
    new = {"drop": [], "repeat": [lines[at]] * 2, "insert": [b'data: {"odd": [1]}\n', lines[at]]}[kind]
    return b"".join([*lines[:at], *new, *lines[at + 1 :]])


@pytest.mark.skipif(not TRAFFIC.exists(), reason="the recorded traffic is not here")
@pytest.mark.parametrize(
    "suite", [suite for suite in suites() if suite.dialect], ids=lambda suite: suite.dialect or ""
)
def test_a_recorded_stream_that_was_damaged_ends_once_and_never_raises(suite):
    dice = random.Random(suite.dialect)
    for exchange in exchanges_of(suite):
        body = exchange.body
        if exchange.response["status"] >= 400 or not body.strip():
            continue
        for _ in range(12):
            decoder = find_dialect(suite.dialect).decoder(ROWS[suite.dialect])
            events = [*decoder.feed(mutated(body, dice)), *decoder.end()]
            ends = [event for event in events if isinstance(event, ErrorEvent | MessageCompleted)]
            assert len(ends) == 1, exchange.name
            assert events[-1] is ends[0], exchange.name
            if isinstance(ends[0], ErrorEvent):
                assert not any(isinstance(event, ToolCallCompleted) for event in events), exchange.name
