"""What is sent for pictures, and what is made of the answers where no recording shows it."""

import base64
import json

import pytest

from allm_actors.data import Image, ImageAdapterError, ImageRequest
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.services import REQUESTS, answer
from tests.unit.allm_actors.engine.test_multipart import parts

PICTURE = Image.from_bytes(b"pixels", "image/jpeg")
BOTH = pytest.mark.parametrize("name", ["openai", "gemini"])


def row(name):
    return SERVICES["image", name]


def dialect(name):
    return remote_service(row(name))._dialect


def encoded(name, **fields):
    return dialect(name).encode(ImageRequest(**{"prompt": "a cat", **fields}), row(name), "http://x")


def sent(name, **fields):
    http = encoded(name, **fields)
    return http.url, json.loads(http.body)


def form(**fields):
    http = encoded("openai", **fields)
    read = parts(http.headers["content-type"], http.body)
    fields = {name: data.decode() for name, file, _, data in read if file is None}
    return http.url, fields, [part for part in read if part[1] is not None]


def refused(name, **fields):
    with pytest.raises(ImageAdapterError) as raised:
        encoded(name, **fields)
    return raised.value


def read(name, wire, status=200, **fields):
    said = HttpAnswer(status=status, body=json.dumps(wire).encode())
    return dialect(name).decode(said, ImageRequest(**{"prompt": "a cat", **fields}), row(name))


ALL = {
    "size": (1024, 512),
    "quality": "high",
    "style": "vivid",
    "background": "opaque",
    "options": {"user": "u", "output_format": "webp", "model": "no", "prompt": "no"},
}
ALWAYS = {"prompt": "a cat", "n": 1, "size": "1024x512", "user": "u", "output_format": "webp"}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("dall-e-2", {"response_format": "b64_json"}),
        ("dall-e-3", {"response_format": "b64_json", "quality": "high", "style": "vivid"}),
        ("gpt-image-1", {"quality": "high", "background": "opaque"}),
        ("gpt-image-2.6-sunburst", {"quality": "high", "background": "opaque"}),
        ("another", {"response_format": "b64_json", "quality": "high", "style": "vivid"}),
    ],
)
def test_each_of_openais_models_is_sent_its_own_fields(model, more):
    assert sent("openai", model=model, **ALL) == (
        "http://x/images/generations",
        {"model": model, **ALWAYS, **more},
    )


def test_openai_without_a_model_is_asked_for_its_newest():
    assert sent("openai") == (
        "http://x/images/generations",
        {"model": "gpt-image-2.6-flare", "prompt": "a cat", "n": 1},
    )


@pytest.mark.parametrize(
    ("form_wanted", "said"), [("binary", "b64_json"), ("base64", "b64_json"), ("url", "url")]
)
def test_how_pictures_should_come(form_wanted, said):
    assert sent("openai", model="dall-e-3", response_format=form_wanted)[1]["response_format"] == said


def test_gpt_image_gives_no_urls():
    error = refused("openai", response_format="url")
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "response_format")


def test_pictures_are_not_streamed():
    error = refused("openai", options={"stream": True})
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "options")


@pytest.mark.parametrize(
    ("name", "model", "operation"),
    [
        ("openai", "dall-e-3", "edit"),
        ("openai", "dall-e-3", "variation"),
        ("openai", "gpt-image-1", "variation"),
        ("openai", None, "variation"),
        ("gemini", None, "variation"),
        ("gemini", "m", "nonsense"),
        ("openai", "m", "nonsense"),
    ],
)
def test_an_operation_that_a_model_does_not_have_is_refused_by_name(name, model, operation):
    error = refused(name, model=model, operation=operation, input_images=[PICTURE])
    assert error.reason == "unsupported_operation"
    assert error.metadata == {"operation": operation, "model": model or row(name).model}
    assert "it has: " in error.message


def test_an_edit_is_a_form_with_the_picture_and_the_mask():
    url, fields, files = form(
        operation="edit",
        model="gpt-image-1",
        input_images=[PICTURE],
        mask=Image.from_bytes(b"mask", "image/png"),
        n=2,
        quality="low",
        options={"input_fidelity": "high"},
    )
    assert url == "http://x/images/edits"
    assert fields == {
        "prompt": "a cat",
        "model": "gpt-image-1",
        "n": "2",
        "quality": "low",
        "input_fidelity": "high",
    }
    assert files == [
        ("image", "image.png", "image/jpeg", b"pixels"),
        ("mask", "mask.png", "image/png", b"mask"),
    ]


def test_an_edit_of_several_pictures_has_them_all():
    several = [PICTURE, Image.from_bytes(b"other", "image/png")]
    mask = Image.from_bytes(b"mask", "image/png")
    _, _, files = form(operation="edit", model="gpt-image-1", input_images=several, mask=mask)
    assert files == [
        ("image[]", "image.png", "image/jpeg", b"pixels"),
        ("image[]", "image.png", "image/png", b"other"),
        ("mask", "mask.png", "image/png", b"mask"),
    ]


@pytest.mark.parametrize(
    ("model", "operation"), [("dall-e-2", "edit"), ("dall-e-2", "variation"), ("another", "variation")]
)
def test_a_second_picture_that_has_no_place_is_refused_and_not_left_out(model, operation):
    error = refused("openai", model=model, operation=operation, input_images=[PICTURE, PICTURE])
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", "input_images")
    assert "takes one picture" in error.message


def test_a_variation_has_no_prompt(tmp_path):
    path = tmp_path / "cat.webp"
    path.write_bytes(b"from a file")
    url, fields, files = form(
        operation="variation", model="dall-e-2", prompt=None, input_images=[Image.from_file(path)], n=3
    )
    assert url == "http://x/images/variations"
    assert fields == {"model": "dall-e-2", "n": "3", "response_format": "b64_json"}
    assert files == [("image", "cat.webp", "image/webp", b"from a file")]


@BOTH
@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.from_url("https://example.org/cat.png"), "remote_source"),
        (Image.from_base64("?", "image/png"), "invalid_base64"),
        (Image.from_file("/no/such/secret-folder/cat.png"), "FileNotFoundError"),
    ],
    ids=["url", "base64", "file"],
)
def test_a_picture_that_cannot_be_had_is_refused(name, image, why):
    error = refused(name, operation="edit", model="gpt-image-1", input_images=[image])
    assert (error.reason, error.metadata["cause"]) == ("invalid_request", "unresolvable_image")
    assert why in error.message
    assert "secret-folder" not in error.message


def test_gemini_has_no_masks_and_does_not_change_the_whole_picture_instead():
    error = refused("gemini", operation="edit", input_images=[PICTURE], mask=PICTURE)
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", "mask")


@BOTH
def test_a_change_of_nothing_is_refused(name):
    error = refused(name, operation="edit")
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "input_images")


def test_what_gemini_is_sent():
    assert sent("gemini") == (
        "http://x/models/gemini-3.1-flash-image:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
        },
    )
    url, body = sent(
        "gemini",
        operation="edit",
        model="models/m",
        input_images=[PICTURE, PICTURE],
        n=2,
        size=(1792, 1024),
        options={"seed": 1, "imageConfig": {"imageSize": "2K"}, "safetySettings": [], "contents": "no"},
    )
    assert url == "http://x/models/m:generateContent"
    part = {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(b"pixels").decode()}}
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}, part, part]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "candidateCount": 2,
            "seed": 1,
            "imageConfig": {"imageSize": "2K", "aspectRatio": "16:9"},
        },
        "safetySettings": [],
    }


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((512, 512), "1:1"),
        ("1024x1024", "1:1"),
        ((1792, 1024), "16:9"),
        ((1024, 1792), "9:16"),
        ((1600, 1200), "4:3"),
        ("600x800", "3:4"),
        ("21:9", "21:9"),
        ("auto", None),
        (None, None),
    ],
)
def test_sizes_are_proportions_to_gemini(size, ratio):
    config = sent("gemini", size=size)[1]["generationConfig"]
    assert config.get("imageConfig", {}).get("aspectRatio") == ratio


@pytest.mark.parametrize("size", [(1536, 1024), "1536x1024", "large", (0, 5), (5,), "0x0x0"])
def test_a_size_of_no_known_proportions_is_refused(size):
    error = refused("gemini", size=size)
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "size")


def test_pictures_that_are_too_large_together_are_refused_by_gemini():
    large = Image.from_bytes(b"x" * (19 * 1024 * 1024), "image/png")
    error = refused("gemini", operation="edit", input_images=[large] * 4)
    assert (error.reason, error.metadata["max"]) == ("invalid_request", 100_000_000)


def test_a_picture_without_a_type_is_refused_by_gemini():
    bare = Image(source=("binary", b"x"))
    assert refused("gemini", operation="edit", input_images=[bare]).reason == "invalid_request"


def test_our_own_exchange_of_openai_is_read():
    response = dialect("openai").decode(answer("openai_images"), REQUESTS["image"], row("openai"))
    first, second = response.images
    assert first.to_bytes() == second.to_bytes() == b"\x89PNG\r\n\x1a\n pixels"
    assert (first.mime_type, first.revised_prompt, second.revised_prompt) == (
        *("image/webp", "a grey cat, größer"),
        None,
    )
    usage = response.usage
    assert (usage.images, usage.input_tokens, usage.output_tokens) == (2, 12, 4160)
    assert response.metadata == {
        "usage_details": {"text_tokens": 12, "image_tokens": 0},
        "openai_request_id": "req_1",
    }
    assert response.model == row("openai").model


def test_our_own_exchange_of_gemini_is_read_without_what_cannot_be():
    response = dialect("gemini").decode(answer("gemini_images"), REQUESTS["image"], row("gemini"))
    (image,) = response.images
    assert (image.to_bytes(), image.mime_type) == (b"\x89PNG\r\n\x1a\n pixels", "image/png")
    assert (response.id, response.usage.images, response.usage.input_tokens) == ("r1", 1, None)


@BOTH
def test_pictures_come_as_base64_if_asked(name):
    request = ImageRequest(prompt="a cat", response_format="base64")
    response = dialect(name).decode(answer(f"{name}_images"), request, row(name))
    assert {image.source[0] for image in response.images} == {"base64"}


def test_a_url_is_taken_as_it_comes_and_so_is_a_picture_instead_of_one():
    (image,) = read("openai", {"data": [{"url": "https://x/1.png"}]}).images
    assert image.source == ("url", "https://x/1.png")
    text = base64.b64encode(b"p").decode()
    (image,) = read("openai", {"data": [{"b64_json": text}]}, response_format="url").images
    assert image.to_bytes() == b"p"


def test_a_url_beside_empty_data_is_the_picture():
    (image,) = read("openai", {"data": [{"url": "https://x/1.png", "b64_json": ""}]}).images
    assert image.source == ("url", "https://x/1.png")


@pytest.mark.parametrize(
    ("named", "data", "kind"),
    [
        ("gif", b"GIF89a...", "image/gif"),
        ("svg", b"<svg/>", "image/svg+xml"),
        ("jpeg", b"p", "image/jpeg"),
        ("avif", b"p", None),
        ("new", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (None, b"\xff\xd8\xff\xe0..", "image/jpeg"),
        (None, b"\x89PNG\r\n\x1a\n..", "image/png"),
        (None, b"p", "image/png"),
    ],
)
def test_a_picture_has_the_type_that_is_named_or_that_its_bytes_show(named, data, kind):
    wire = {"data": [{"b64_json": base64.b64encode(data).decode()}], "output_format": named}
    (image,) = read("openai", wire).images
    assert (image.to_bytes(), image.mime_type) == (data, kind)


@pytest.mark.parametrize("options", [{"output_format": "jpeg"}, {"output_format": ["x"]}, {}])
def test_the_type_is_what_was_asked_where_the_answer_does_not_say(options):
    text = base64.b64encode(b"p").decode()
    (image,) = read("openai", {"data": [{"b64_json": text}]}, options=options).images
    assert image.mime_type == ("image/jpeg" if options.get("output_format") == "jpeg" else "image/png")


@pytest.mark.parametrize(
    "wire",
    [
        [],
        {},
        {"data": None},
        {"data": [{}]},
        {"data": ["x"]},
        {"data": [{"b64_json": "?"}]},
        {"data": [{"b64_json": ""}]},
        {"data": [{"b64_json": 1}]},
        {"data": [{"b64_json": "é"}]},
    ],
    ids=json.dumps,
)
def test_an_answer_without_a_readable_picture_is_malformed(wire):
    with pytest.raises(ImageAdapterError) as raised:
        read("openai", wire)
    assert raised.value.reason == "malformed_response"


@pytest.mark.parametrize(
    ("name", "wire", "reason"),
    [
        ("openai", {"data": []}, "content_filter"),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "IMAGE_SAFETY"}]}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "PROHIBITED_CONTENT", "content": {}}]}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "STOP", "content": {}}]}, "malformed_response"),
        ("gemini", {"candidates": []}, "malformed_response"),
    ],
)
def test_no_picture_is_a_refusal_or_nonsense(name, wire, reason):
    with pytest.raises(ImageAdapterError) as raised:
        read(name, wire)
    assert raised.value.reason == reason
    assert raised.value.status == (200 if reason == "content_filter" else None)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"code": "content_policy_violation", "message": "no"}, "content_filter"),
        (400, {"code": "moderation_blocked", "message": "no"}, "content_filter"),
        (400, {"code": "context_length_exceeded", "message": "no"}, "invalid_request"),
        (400, {"code": "unknown_parameter", "message": "no"}, "invalid_request"),
        (403, {"message": "Your organization org-123456789 must be verified"}, "authentication_failed"),
        (429, {"code": "insufficient_quota", "message": "no"}, "rate_limited"),
        (500, {}, "provider_unavailable"),
    ],
)
def test_refusals_of_openai(status, error, reason):
    body = json.dumps({"error": error}).encode()
    told = dialect("openai").decode_error(HttpAnswer(status=status, body=body), row("openai"))
    assert (type(told), told.reason, told.status) == (ImageAdapterError, reason, status)
    assert "org-123" not in told.message
