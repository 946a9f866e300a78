"""Every dialect of what is not chat meets a hostile server and a careless caller: a response, or the typed error.

The answers are those of `tests/exchanges/services`, changed in every way.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import AdapterError
from allm_actors.data.codec import from_json, to_json
from allm_actors.data.rules.validate import validate
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.wire import HttpAnswer, HttpRequest
from allm_actors.testing.strategies import (
    embedding_requests,
    image_requests,
    moderation_requests,
    speech_requests,
    transcription_requests,
)
from tests.conformance.services import REQUESTS, ROWS, answer, refused, title

pytestmark = pytest.mark.timeout(600)  # whole requests are slow to draw, and `thorough` draws thousands
EVERY = pytest.mark.parametrize("row", ROWS, ids=title)
# Most dialects of a capability read refusals with the same function.
READERS = {(row.span, find_dialect(row.dialect).decode_error): row for row in ROWS}
EVERY_REFUSAL = pytest.mark.parametrize("row", READERS.values(), ids=title)
WILD = {
    "image": image_requests,
    "embed": embedding_requests,
    "moderate": moderation_requests,
    "speech": speech_requests,
    "transcribe": transcription_requests,
}
texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
headers = st.dictionaries(
    st.sampled_from(
        ["content-type", "retry-after", "retry-after-ms", "x-request-id", "request-id", "character-cost"]
    ),
    texts | st.sampled_from(["audio/mpeg", "text/plain", "1e400", "-1", "Fri, 31 Dec 9999 23:59:59 GMT"]),
)


def places(value, path=()):
    """The path of every value in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = changed(value[first], rest, new)
    return copy


def decode(row, said, request=None):
    """What comes of an answer. Whatever it is, it is lawful and can be stored."""
    capability = CAPABILITIES[row.span]
    try:
        response = remote_service(row)._dialect.decode(said, request or REQUESTS[row.span], row)
    except AdapterError as error:
        assert_lawful(error, row, said.body)
        return error
    assert isinstance(response, capability.response)
    assert to_json(response)
    return response


def assert_lawful(error, row, body):
    assert type(error) is CAPABILITIES[row.span].error
    assert error.provider == row.provider.name
    assert from_json(to_json(error)) == error
    assert len(body) < 600 or body.decode("utf-8", "replace") not in error.message


@EVERY
@given(data=st.data())
def test_an_answer_that_was_changed_in_one_place(row, data):
    said = answer(row.dialect)
    try:
        wire = json.loads(said.body)
    except ValueError:
        pytest.skip("its answer is no JSON")
    path = data.draw(st.sampled_from(list(places(wire))))
    body = json.dumps(changed(wire, path, data.draw(json_values))).encode()
    decode(row, HttpAnswer(status=200, headers=data.draw(headers), body=body))


@EVERY
@given(body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()), said=headers)
def test_an_answer_of_anything(row, body, said):
    decode(row, HttpAnswer(status=200, headers=said, body=body))


@EVERY
def test_an_answer_that_was_cut_short(row):
    said = answer(row.dialect)
    if said.headers["content-type"] != "application/json":
        pytest.skip("a clip may end anywhere")
    for end in range(len(said.body)):
        error = decode(row, HttpAnswer(status=200, headers=said.headers, body=said.body[:end]))
        assert error.reason == "malformed_response"


@EVERY_REFUSAL
@given(
    status=st.integers(300, 599),
    body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    said=headers,
)
def test_a_refusal_of_anything(row, status, body, said):
    error = remote_service(row)._dialect.decode_error(HttpAnswer(status=status, headers=said, body=body), row)
    assert_lawful(error, row, body)
    assert error.status == status


@EVERY_REFUSAL
@given(data=st.data())
def test_a_refusal_that_was_changed_in_one_place(row, data):
    reply = refused(
        row, data.draw(st.sampled_from(["authentication_failed", "invalid_request", "rate_limited"]))
    )
    wire = json.loads(reply.body)
    path = data.draw(st.sampled_from(list(places(wire))))
    body = json.dumps(changed(wire, path, data.draw(json_values))).encode()
    failure = HttpAnswer(status=reply.status, headers={}, body=body)
    assert_lawful(remote_service(row)._dialect.decode_error(failure, row), row, body)


@EVERY
@given(data=st.data())
def test_a_request_of_anything_is_sent_or_refused_and_an_answer_to_it_is_read(row, data):
    request = data.draw(WILD[row.span]())
    decode(row, answer(row.dialect), request)
    capability = CAPABILITIES[row.span]
    try:
        http = remote_service(row)._dialect.encode(request, row, "http://x")
    except capability.error as error:
        assert_lawful(error, row, b"")
        return
    assert isinstance(http, HttpRequest)
    assert http.url.startswith("http://x/")
    assert http.url.isascii()
    assert not {" ", "\n", "\r"} & set(http.url)
    assert all(name == name.lower() and value.isascii() for name, value in http.headers.items())
    if capability.validated:
        validate(request)
