"""Every recorded answer, of every dialect, folds into a response that has all of it, and is stored as it is."""

import pytest

from allm_actors.data import ErrorEvent, Usage
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.remote import find_dialect
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
