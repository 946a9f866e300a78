"""What is sent for verdicts, and that nothing is ever taken for clean."""

import json

import pytest

from allm_actors.data import Image, ImagePart, ModerationAdapterError, ModerationRequest
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.services import REQUESTS, answer

ROW = SERVICES["moderate", "openai"]
DIALECT = remote_service(ROW)._dialect
PICTURE = ImagePart(image=Image.from_bytes(b"x", "image/png"))


def sent(*items, **fields):
    http = DIALECT.encode(ModerationRequest(input=list(items), **fields), ROW, "http://x")
    assert http.url == "http://x/moderations"
    return json.loads(http.body)


def read(results, *items):
    request = ModerationRequest(input=list(items) or ["a"])
    return DIALECT.decode(
        HttpAnswer(status=200, body=json.dumps({"results": results}).encode()), request, ROW
    )


def test_texts_are_judged_one_by_one():
    assert sent("a", "b") == {"input": ["a", "b"]}
    assert sent("a", model="m", options={"model": "no", "x": 1}) == {"input": ["a"], "model": "m", "x": 1}


def test_with_a_picture_all_of_it_is_one_item():
    assert sent("a", PICTURE, ImagePart(image=Image.from_url("https://x/1.png"))) == {
        "input": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}},
            {"type": "image_url", "image_url": {"url": "https://x/1.png"}},
        ]
    }
    (result,) = read([{"flagged": False}], "a", PICTURE).results
    assert result.index == 0


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image(source=("binary", b"x")), "missing_mime_type"),
        (Image.from_bytes(b"x", "image/tiff"), "unsupported_image_format"),
        (Image.from_bytes(b"x" * (20 * 1024 * 1024 + 1), "image/png"), "image_too_large"),
        (Image.from_base64("?", "image/png"), "unresolvable_image"),
    ],
    ids=["type", "format", "size", "base64"],
)
def test_a_picture_that_cannot_be_judged_is_refused(image, why):
    with pytest.raises(ModerationAdapterError, match=why) as refused:
        sent("a", ImagePart(image=image))
    assert refused.value.reason == "invalid_request"
    assert refused.value.metadata == {"index": 1, "image_error": why}


def test_there_are_no_chunks():
    with pytest.raises(ModerationAdapterError) as refused:
        sent(*["a"] * 1001)
    assert (refused.value.reason, refused.value.metadata) == ("batch_too_large", {"count": 1001, "max": 1000})
    assert len(sent(*["a"] * 1000)["input"]) == 1000


def test_our_own_exchange_is_read():
    response = DIALECT.decode(answer("openai_moderation"), REQUESTS["moderate"], ROW)
    first, second = response.results
    assert (first.flagged, first.categories, first.category_scores) == (
        *(True, {"violence": True, "hate": False}),
        {"violence": 0.9, "hate": 0.0},
    )
    assert all(type(score) is float for score in first.category_scores.values())
    assert first.applied_input_types == {"violence": ["text"]}
    assert (second.flagged, second.index) == (False, 1)
    assert (response.id, response.model) == ("modr-1", "omni-moderation-latest")
    assert response.flagged_categories() == ["violence"]


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        {},
        [{}],
        [None],
        [{"flagged": None}],
        [{"flagged": 0}],
        [{"flagged": "false"}],
        [{"flagged": False}] * 2,
    ],
    ids=json.dumps,
)
def test_nothing_is_taken_for_clean(results):
    with pytest.raises(ModerationAdapterError) as refused:
        read(results)
    assert refused.value.reason == "malformed_response"
