"""What is sent for vectors, and what is made of the answers where no recording shows it."""

import base64
import json
import struct

import pytest

from allm_actors.data import EmbeddingAdapterError, EmbeddingRequest
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES, services_for
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.services import REQUESTS, answer

NAMES = sorted(services_for("embed"))
EVERY = pytest.mark.parametrize("name", NAMES)


def row(name):
    return SERVICES["embed", name]


def dialect(name):
    return remote_service(row(name))._dialect


def sent(name, *texts, **fields):
    request = EmbeddingRequest(input=list(texts) or ["a"], **{"model": "m", **fields})
    http = dialect(name).encode(request, row(name), "http://x")
    return http.url, json.loads(http.body)


def read(name, wire, count=1, **fields):
    request = EmbeddingRequest(input=["a"] * count, model="m", **fields)
    return dialect(name).decode(HttpAnswer(status=200, body=json.dumps(wire).encode()), request, row(name))


def test_what_each_is_sent():
    said = {
        "dimensions": 8,
        "task_type": "search_query",
        "truncate": False,
        "options": {"user": "u", "model": "no"},
    }
    assert sent("openai", "a", "b", **said) == (
        "http://x/embeddings",
        {"input": ["a", "b"], "model": "m", "dimensions": 8, "user": "u"},
    )
    assert sent("mistral", **said)[1] == {"input": ["a"], "model": "m", "output_dimension": 8, "user": "u"}
    assert sent("voyage", **said)[1] == {
        "input": ["a"],
        "model": "m",
        "output_dimension": 8,
        "input_type": "query",
        "truncation": False,
        "user": "u",
    }
    assert sent("cohere", **said) == (
        "http://x/v2/embed",
        {
            "texts": ["a"],
            "model": "m",
            "output_dimension": 8,
            "input_type": "search_query",
            "embedding_types": ["float"],
            "truncate": "NONE",
            "user": "u",
        },
    )
    assert sent("gemini", **said) == (
        "http://x/models/m:batchEmbedContents",
        {
            "requests": [
                {
                    "model": "models/m",
                    "content": {"parts": [{"text": "a"}]},
                    "outputDimensionality": 8,
                    "taskType": "RETRIEVAL_QUERY",
                    "embedContentConfig": {"autoTruncate": False},
                    "user": "u",
                }
            ]
        },
    )
    assert sent("ollama", dimensions=8, truncate=False, options={"num_ctx": 9, "keep_alive": "5m"}) == (
        "http://x/api/embed",
        {
            "input": ["a"],
            "model": "m",
            "dimensions": 8,
            "truncate": False,
            "keep_alive": "5m",
            "options": {"num_ctx": 9},
        },
    )


@EVERY
def test_the_plainest_request_says_no_more_than_it_must(name):
    body = sent(name)[1]
    plain = {"input": ["a"], "model": "m"}
    assert body == {
        "gemini": {"requests": [{"model": "models/m", "content": {"parts": [{"text": "a"}]}}]},
        "cohere": {
            "texts": ["a"],
            "model": "m",
            "input_type": "search_document",
            "embedding_types": ["float"],
        },
    }.get(name, plain)


@pytest.mark.parametrize(
    ("task", "voyage", "cohere", "gemini"),
    [
        ("search_document", "document", "search_document", "RETRIEVAL_DOCUMENT"),
        ("classification", None, "classification", "CLASSIFICATION"),
        ("clustering", None, "clustering", "CLUSTERING"),
        ("similarity", None, "search_document", "SEMANTIC_SIMILARITY"),
    ],
)
def test_what_vectors_are_for_is_said_in_each_ones_words(task, voyage, cohere, gemini):
    assert sent("voyage", task_type=task)[1].get("input_type") == voyage
    assert sent("cohere", task_type=task)[1]["input_type"] == cohere
    assert sent("gemini", task_type=task)[1]["requests"][0]["taskType"] == gemini
    assert "input_type" not in sent("openai", task_type=task)[1]


@pytest.mark.parametrize("task", ["bogus", ["clustering"]])
def test_a_purpose_that_gemini_has_no_word_for_is_refused(task):
    with pytest.raises(EmbeddingAdapterError, match="search_document") as refused:
        sent("gemini", task_type=task)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("invalid_request", "task_type")


@EVERY
def test_a_model_that_is_not_named_is_the_servers_or_a_refusal(name):
    if name != "gemini":
        assert "model" not in sent(name, model=None)[1]
        return
    with pytest.raises(EmbeddingAdapterError, match="no model is named") as refused:
        sent(name, model=None)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("invalid_request", "model")


@EVERY
@pytest.mark.parametrize("wrong", [[], "a", None, [1]], ids=["none", "text", "null", "number"])
def test_what_cannot_be_embedded_is_refused(name, wrong):
    request = EmbeddingRequest(input=wrong, model="m")
    with pytest.raises(EmbeddingAdapterError) as refused:
        dialect(name).encode(request, row(name), "http://x")
    assert (refused.value.reason, refused.value.metadata["field"]) == ("invalid_request", "input")


@EVERY
def test_too_many_at_once_are_refused_with_both_numbers(name):
    most = row(name).most
    sent(name, *["a"] * most)
    with pytest.raises(EmbeddingAdapterError) as refused:
        sent(name, *["a"] * (most + 1))
    assert refused.value.reason == "batch_too_large"
    assert refused.value.metadata == {"count": most + 1, "max": most}


def test_vectors_of_one_length_are_not_asked_for_another():
    with pytest.raises(EmbeddingAdapterError, match="text-embedding-ada-002") as refused:
        sent("openai", model="text-embedding-ada-002", dimensions=8)
    assert refused.value.reason == "unsupported_feature"
    sent("openai", model="text-embedding-ada-002")


@EVERY
def test_broken_text_is_refused(name):
    with pytest.raises(EmbeddingAdapterError, match="Unicode") as refused:
        sent(name, "\ud800")
    assert refused.value.reason == "invalid_request"


@EVERY
def test_our_own_exchange_is_read(name):
    response = dialect(name).decode(answer(row(name).dialect), REQUESTS["embed"], row(name))
    first = {"openai": [0.5, 0.5], "gemini": [3.0, 4.0], "cohere": [0.1, 0.2], "ollama": [0.1, -0.2]}
    assert response.vectors()[0] == first.get(name, [0.5, 0.5])
    assert [each.index for each in response.embeddings] == [0, 1, 2]
    tokens = {"gemini": None, "cohere": 6, "ollama": 8}.get(name, 7)
    assert response.usage.total_tokens == tokens


def test_base64_is_read_as_numbers():
    response = dialect("openai").decode(answer("openai_embeddings"), REQUESTS["embed"], row("openai"))
    assert response.vectors()[1] == [1.0, -2.0]


@pytest.mark.parametrize("name", ["voyage", "mistral"])
@pytest.mark.parametrize(
    ("kind", "packed", "numbers"),
    [
        (None, struct.pack("<2f", 1, -2), [1, -2]),
        ("float", struct.pack("<2f", 1, -2), [1, -2]),
        ("int8", bytes([1, 255, 3, 128]), [1, -1, 3, -128]),
        ("binary", bytes([1, 255, 3, 128]), [1, -1, 3, -128]),
        ("uint8", bytes([1, 255, 3, 128]), [1, 255, 3, 128]),
        ("ubinary", bytes([1, 255, 3, 128, 5]), [1, 255, 3, 128, 5]),
    ],
)
def test_base64_is_read_as_numbers_of_the_type_that_was_asked_for(name, kind, packed, numbers):
    wire = {"data": [{"index": 0, "embedding": base64.b64encode(packed).decode()}]}
    options = {"encoding_format": "base64", "output_dtype": kind}
    assert read(name, wire, options=options).vectors() == [numbers]


@pytest.mark.parametrize("kind", ["float64", ["int8"], 8])
def test_base64_of_an_unknown_type_is_not_guessed(kind):
    wire = {"data": [{"index": 0, "embedding": "AAAAAAAAAAA="}]}
    with pytest.raises(EmbeddingAdapterError, match="output_dtype") as raised:
        read("voyage", wire, options={"encoding_format": "base64", "output_dtype": kind})
    assert raised.value.reason == "malformed_response"


def test_cut_vectors_of_gemini_get_length_one():
    wire = {"embeddings": [{"values": [3.0, 4.0]}]}
    assert read("gemini", wire, dimensions=768).vectors() == [[0.6, 0.8]]
    assert read("gemini", wire, dimensions=3072).vectors() == [[3.0, 4.0]]
    assert read("gemini", {"embeddings": [{"values": [0, 0]}]}, dimensions=2).vectors() == [[0.0, 0.0]]
    wire["usageMetadata"] = {"promptTokenCount": 4}
    usage = read("gemini", wire).usage
    assert (usage.input_tokens, usage.total_tokens) == (4, 4)


def test_voyage_counts_only_the_total():
    wire = {"data": [{"index": 0, "embedding": [1]}], "usage": {"total_tokens": 3}}
    usage = read("voyage", wire).usage
    assert (usage.input_tokens, usage.total_tokens) == (None, 3)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": []}],
        [{"index": 0}],
        [{"embedding": [1.0]}],
        [{"index": 1, "embedding": [1.0]}],
        [{"index": -1, "embedding": [1.0]}],
        [{"index": True, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": ["1"]}],
        [{"index": 0, "embedding": [True]}],
        [{"index": 0, "embedding": [None]}],
        [{"index": 0, "embedding": [10**400]}],
        [{"index": 0, "embedding": "AAA="}],
        [{"index": 0, "embedding": "AADAfw=="}],  # not a number
        [{"index": 0, "embedding": "*"}],
        ["a"],
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_vector_that_cannot_be_used_is_a_malformed_response(data):
    with pytest.raises(EmbeddingAdapterError) as refused:
        read("openai", {"data": data})
    assert refused.value.reason == "malformed_response"


@EVERY
def test_vectors_that_are_too_few_are_a_malformed_response(name):
    request = EmbeddingRequest(input=["a"] * 4, model="m")
    with pytest.raises(EmbeddingAdapterError, match="vectors for 4 inputs") as refused:
        dialect(name).decode(answer(row(name).dialect), request, row(name))
    assert refused.value.reason == "malformed_response"


@pytest.mark.parametrize(
    ("name", "status", "error", "reason"),
    [
        (
            "openai",
            400,
            {"error": {"message": "no", "code": "max_tokens_per_request"}},
            "context_length_exceeded",
        ),
        (
            "openai",
            400,
            {"error": {"message": "no", "type": "max_tokens_per_request"}},
            "context_length_exceeded",
        ),
        (
            "openai",
            400,
            {"error": {"message": "no", "code": "context_length_exceeded"}},
            "context_length_exceeded",
        ),
        ("openai", 400, {"error": {"message": "no", "code": "content_filter"}}, "unknown"),
        ("openai", 404, {"error": {"message": "no", "code": "model_not_found"}}, "invalid_request"),
        ("voyage", 400, {"detail": "exceeds the context window of 32000"}, "context_length_exceeded"),
        ("voyage", 400, {"detail": "too many tokens"}, "context_length_exceeded"),
        (
            "voyage",
            400,
            {
                "detail": "Request to model 'voyage-3' failed. The max allowed tokens per submitted batch is 120000. "
                "Your batch has 124302 tokens after truncation. Please lower the number of tokens in the batch."
            },
            "context_length_exceeded",
        ),
        ("voyage", 401, {"detail": "pa-1234567890 is no key"}, "authentication_failed"),
        ("gemini", 400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, "authentication_failed"),
        ("gemini", 429, {"error": {"details": [{"retryDelay": "12s"}]}}, "rate_limited"),
        ("cohere", 429, {"message": "slow down"}, "rate_limited"),
        ("ollama", 404, {"error": "model 'm' not found"}, "invalid_request"),
        ("mistral", 422, {"detail": [{"loc": ["body", "model"], "msg": "required"}]}, "invalid_request"),
        ("openai", 502, "<html>", "provider_unavailable"),
        ("openai", 302, "", "unknown"),
    ],
)
def test_refusals_have_the_reasons_of_the_capability(name, status, error, reason):
    body = error.encode() if isinstance(error, str) else json.dumps(error).encode()
    told = dialect(name).decode_error(HttpAnswer(status=status, body=body), row(name))
    assert type(told) is EmbeddingAdapterError
    assert (told.reason, told.status, told.provider) == (reason, status, name)
    assert "pa-1234" not in str(told.to_fields())
    if reason == "rate_limited" and name == "gemini":
        assert told.retry_after_ms == 12_000
