"""Every recorded exchange of what is not chat: its answer is read as its JSON says, and its request is ours.

The rule of this file: an exchange whose endpoint no dialect of ours speaks is skipped by its name, and so is a request
that was not recorded. What our request has no word for goes through `options`, as a user would have it.
"""

import base64
import json
import math
import re
import struct

import pytest

from allm_actors.data import (
    AdapterError,
    Audio,
    EmbeddingRequest,
    ImageRequest,
    TranscriptionRequest,
)
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.ledger import Suite
from tests.conformance.traffic import cases, exchanges

FOLDERS = [
    "openai",
    "azure",
    "google",
    "vertex",
    "mistral",
    "ollama",
    "voyageai",
    "cohere",
    "bedrock",
    "replicate",
]
ENDPOINT = re.compile(
    r"/(embeddings|embed|images/\w+|audio/\w+|moderations|predictions)$|:(batchEmbedContents|embedContent|predict)$|embed.*/invoke$"
)
ROWS = {
    ("openai", "embeddings"): ("embed", "openai"),
    ("azure", "embeddings"): ("embed", "openai"),  # the same answer, at another address
    ("mistral", "embeddings"): ("embed", "mistral"),
    ("voyageai", "embeddings"): ("embed", "voyage"),
    ("google", "batchEmbedContents"): ("embed", "gemini"),
    ("cohere", "embed"): ("embed", "cohere"),
    ("ollama", "embed"): ("embed", "ollama"),
    ("openai", "images/generations"): ("image", "openai"),
    ("openai", "images/edits"): ("image", "openai"),
    ("openai", "audio/transcriptions"): ("transcribe", "openai"),
    ("openai", "moderations"): ("moderate", "openai"),
}
TASKS = {"document": "search_document", "query": "search_query", "search_query": "search_query"}


def endpoint(exchange):
    found = ENDPOINT.search(exchange.request["url"].split("?")[0])
    return None if found is None else found[1] or found[2] or "invoke"


asked = [exchange for exchange in exchanges(FOLDERS) if endpoint(exchange) is not None]
every = cases(asked)
answers = [
    exchange
    for exchange in exchanges(["google"])
    if exchange.request["url"].split("?")[0].endswith(":generateContent")
    and exchange.response["status"] == 200
]
every_gemini_answer = cases(answers)


def row_of(exchange):
    key = ROWS.get((exchange.provider, endpoint(exchange)))
    if key is None:
        pytest.skip(f"no dialect here speaks {endpoint(exchange)} of {exchange.provider}")
    return SERVICES[key]


def dialect_of(row):
    return remote_service(row)._dialect


def answer_of(exchange):
    headers = {name.lower(): value for name, value in exchange.response["headers"].items()}
    return HttpAnswer(status=exchange.response["status"], headers=headers, body=exchange.body, now=0.0)


def texts_of(sent):
    given = (
        sent.get("input") or sent.get("texts") or [r["content"]["parts"][0]["text"] for r in sent["requests"]]
    )
    return [given] if isinstance(given, str) else given


def request_of(exchange, row):
    """The request of ours that means what was sent; where nothing was recorded, one that fits the answer."""
    sent = exchange.sent
    if row.span == "image":
        return ImageRequest(prompt="a cat", model="gpt-image-1")
    if row.span == "transcribe":
        return TranscriptionRequest(audio=Audio.from_bytes(b"clip", "audio/mpeg"), model="whisper-1")
    if sent is None:
        return EmbeddingRequest(input=["a"] * len(json.loads(exchange.body)["data"]), model="m")
    common = sent["requests"][0] if "requests" in sent else sent
    task = common.get("input_type") or common.get("taskType")
    sizes = [common.get(name) for name in ("dimensions", "output_dimension", "outputDimensionality")]
    said = {"encoding_format": common.get("encoding_format")} if "encoding_format" in common else {}
    cut = common.get("truncation", common.get("truncate", True))
    return EmbeddingRequest(
        input=texts_of(sent),
        model=common["model"].removeprefix("models/"),
        dimensions=next((size for size in sizes if size is not None), None),
        task_type="search_query" if task == "RETRIEVAL_QUERY" else TASKS.get(task or ""),
        truncate=cut not in (False, "NONE"),
        options=said,
    )


# --- embeddings ---------------------------------------------------------------------------------------------


def numbers(value):
    """An independent reading of a vector."""
    if isinstance(value, str):
        data = base64.b64decode(value)
        return [number for (number,) in struct.iter_unpack("<f", data)]
    return [float(number) for number in value]


def recorded_vectors(wire, row):
    if "data" in wire:
        return {item["index"]: numbers(item["embedding"]) for item in wire["data"]}
    return {index: numbers(item["values"]) for index, item in enumerate(wire["embeddings"])}


@every
def test_a_recorded_answer_says_what_its_json_says(exchange):
    row = row_of(exchange)
    if exchange.response["status"] != 200:
        return refused(exchange, row)
    wire = json.loads(exchange.body)
    request = request_of(exchange, row)
    response = dialect_of(row).decode(answer_of(exchange), request, row)
    {"embed": embedded, "image": pictured, "transcribe": heard}[row.span](wire, request, response, row)
    return None


def embedded(wire, request, response, row):
    expected = recorded_vectors(wire, row)
    got = {each.index: each.vector for each in response.embeddings}
    assert set(got) == set(expected) == set(range(len(request.input)))
    for index, vector in expected.items():
        if row.provider.name == "gemini" and request.dimensions == 768:
            assert math.isclose(math.hypot(*got[index]), 1.0, rel_tol=1e-9)
            scale = math.hypot(*vector)
            assert got[index] == pytest.approx([number / scale for number in vector])
        else:
            assert got[index] == vector
    assert response.model == wire.get("model", request.model)
    usage = wire.get("usage", {})
    if "usageMetadata" in wire:
        usage = {
            name: wire["usageMetadata"].get("promptTokenCount") for name in ("prompt_tokens", "total_tokens")
        }
    assert response.usage.input_tokens == usage.get("prompt_tokens")
    assert response.usage.total_tokens == usage.get("total_tokens")


def pictured(wire, request, response, row):
    assert [image.to_bytes() for image in response.images] == [
        base64.b64decode(item["b64_json"]) for item in wire["data"]
    ]
    assert {image.mime_type for image in response.images} == {f"image/{wire['output_format']}"}
    assert response.usage.images == len(wire["data"])
    assert (response.usage.size, response.usage.quality) == (wire["size"], wire["quality"])
    assert all("b64_json" not in item for item in response.raw["data"])


def heard(wire, request, response, row):
    assert response.text == wire["text"]
    assert response.language == wire["language"]
    assert response.duration_seconds == wire["usage"]["seconds"]
    assert response.usage.total_tokens is None


def refused(exchange, row):
    error = dialect_of(row).decode_error(answer_of(exchange), row)
    assert type(error) is CAPABILITIES[row.span].error
    assert (
        error.reason
        in {400: ("invalid_request",), 401: ("authentication_failed",), 404: ("invalid_request",)}[
            exchange.response["status"]
        ]
    )
    wire = json.loads(exchange.body)
    words = wire.get("detail") or wire.get("message") or wire["error"]["message"]
    assert words[:60] in error.message
    assert exchange.body.decode() not in str(error.to_fields())


@every
def test_what_we_send_is_what_was_sent(exchange):
    row = row_of(exchange)
    sent = exchange.sent
    if sent is None:
        pytest.skip("no request was recorded")
    http = dialect_of(row).encode(request_of(exchange, row), row, row.provider.base_url)
    if exchange.provider != "azure":
        assert http.url == exchange.request["url"]
    expected = {
        name: value for name, value in sent.items() if value is not None
    }  # we leave out what others null
    if expected.get("truncation") is True:
        del expected["truncation"]  # it is the default
    if isinstance(expected.get("input"), str):
        expected["input"] = [expected["input"]]
    assert json.loads(http.body) == expected
    assert http.headers["content-type"] == "application/json"


@every_gemini_answer
def test_gemini_writes_down_what_it_says(exchange):
    """Its transcripts come in the format of its chat; there are recordings of that."""
    row = SERVICES["transcribe", "gemini"]
    wire = json.loads(exchange.body)
    parts = wire["candidates"][0].get("content", {}).get("parts", []) if wire.get("candidates") else []
    text = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
    request = TranscriptionRequest(audio=Audio.from_bytes(b"clip", "audio/mpeg"))
    if not text and wire.get("promptFeedback", {}).get("blockReason"):
        with pytest.raises(AdapterError) as withheld:
            dialect_of(row).decode(answer_of(exchange), request, row)
        assert withheld.value.reason == "content_filter"
        return
    response = dialect_of(row).decode(answer_of(exchange), request, row)
    assert response.text == text.strip()
    usage = wire["usageMetadata"]
    assert response.usage.input_tokens == usage.get("promptTokenCount")
    assert response.usage.total_tokens == usage.get("totalTokenCount")
    cut = wire["candidates"][0].get("finishReason") == "MAX_TOKENS"
    assert response.metadata == ({"finish_reason": "length"} if cut else {})


@every_gemini_answer
def test_an_answer_without_a_picture_is_none(exchange):
    row = SERVICES["image", "gemini"]
    with pytest.raises(AdapterError) as refused:
        dialect_of(row).decode(answer_of(exchange), ImageRequest(prompt="a cat"), row)
    assert refused.value.reason in ("malformed_response", "content_filter")


@every
def test_a_recorded_answer_that_is_cut_short_is_one_error(exchange):
    row = row_of(exchange)
    said, request = answer_of(exchange), request_of(exchange, row)
    whole = said.body.rstrip()
    for end in range(0, len(whole), max(1, len(whole) // 100)):
        cut = HttpAnswer(status=200, headers=said.headers, body=whole[:end])
        with pytest.raises(CAPABILITIES[row.span].error) as refused:
            dialect_of(row).decode(cut, request, row)
        assert refused.value.reason == "malformed_response"


def called(exchange):
    """What its endpoint is called in the page of all recorded traffic."""
    span, _ = ROWS.get((exchange.provider, endpoint(exchange)), (None, None))
    spans = {
        "embed": "embeddings",
        "image": "pictures",
        "transcribe": "transcription",
        "moderate": "moderation",
    }
    return spans[span] if span else endpoint(exchange)


def is_scaled(exchange):
    return exchange.provider == "google" and request_of(exchange, row_of(exchange)).dimensions == 768


SUITE = Suite(
    endpoint=called,
    reads=(test_a_recorded_answer_says_what_its_json_says,),
    sends=test_what_we_send_is_what_was_sent,
    differs={each.name: "vectors that were cut are scaled to length 1" for each in filter(is_scaled, asked)},
)
