"""Where bytes are: a kind with a value of that kind, and nothing else is sent."""

import pytest

import allm_actors as allm
from allm_actors.data import (
    Audio,
    Document,
    DocumentPart,
    Image,
    ImagePart,
    ImageRequest,
    Message,
    ModerationRequest,
    Request,
    TextPart,
    TranscriptionRequest,
    ValidationError,
)
from allm_actors.data.media.sources import is_source
from allm_actors.data.rules.validate import validate
from allm_actors.engine.capabilities import CAPABILITIES, edit_of, request_of, variation_of

NO_SOURCES = pytest.mark.parametrize(
    "source",
    [
        "x",
        "xy",
        None,
        ("base64", b"AQI="),
        ("binary", "AQI="),
        ("binary", bytearray(b"x")),
        ("url", None),
        ("file", b"a.png"),
        ("ftp", "AQI="),
        ([], "x"),
        ("url", "x", "y"),
    ],
    ids=str,
)


@NO_SOURCES
def test_what_is_no_source_is_never_read_as_bytes(source):
    assert not is_source(source)
    for read in (
        Image(source=source, mime_type="image/png").to_bytes,
        Image(source=source, mime_type="image/png").to_data_uri,
        Document(source=source, mime_type="text/plain").to_data_uri,
        Audio(source=source).to_bytes,
    ):
        with pytest.raises(
            ValueError, match=r"invalid_source: .* must be \('binary', bytes\), .*from_bytes"
        ) as caught:
            read()
        assert "AQI=" not in str(caught.value)


@NO_SOURCES
def test_what_is_no_source_is_not_valid(source):
    image, document, hi = Image(source=source), Document(source=source), TextPart(text="hi")
    for part in (ImagePart(image=image), DocumentPart(document=document)):
        message = Message(role="user", content=[hi, part])
        for value, failure in (
            (message, ("content", "invalid_part_type")),
            (Request(messages=[message]), (["messages", 0, "content"], "invalid_part_type")),
        ):
            assert failures(value) == [failure]
    edit = ImageRequest(operation="edit", prompt="a", input_images=[image], mask=image)
    assert failures(edit) == [(["input_images", 0], "invalid_image"), ("mask", "invalid_image")]
    assert failures(ModerationRequest(input=[ImagePart(image=image)])) == [
        (["input", 0], "invalid_part_type")
    ]
    assert failures(TranscriptionRequest(audio=Audio(source=source))) == [("audio", "invalid_audio")]


@NO_SOURCES
def test_no_call_for_pictures_is_made_with_what_is_no_source(source):
    row, image = CAPABILITIES["image"], Image(source=source)
    fine = Image.from_bytes(b"x", "image/png")
    for given, fields in (
        ("a", edit_of(image, {})),
        (None, variation_of(image, {})),
        ("a", edit_of(fine, {"mask": image})),
        (ImageRequest(operation="edit", prompt="a", input_images=[image]), {}),
    ):
        with pytest.raises(ValueError, match="invalid_source: the source of the image"):
            request_of(row, given, fields)


@pytest.mark.parametrize(
    "part", [ImagePart(image="a.png"), DocumentPart(document=None)], ids=["image", "document"]
)
def test_a_part_without_a_picture_or_a_document_is_not_valid(part):
    with pytest.raises(ValidationError) as caught:
        validate(Message(role="user", content=[part]))
    assert f"(got: {type(part).__name__} whose source is none)" in str(caught.value)
    assert "Image.from_file" in str(said(Request(messages=[Message(role="user", content=[part])])))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Audio.from_bytes("abcd", "audio/wav"),
            r"Audio.from_bytes takes bytes and .*'audio/wav', got str",
        ),
        (lambda: Audio.from_base64(b"AQI=", "audio/wav"), "Audio.from_base64 takes str and .*, got bytes"),
        (lambda: Audio.from_bytes(b"abcd", None), "got bytes and NoneType"),
        (lambda: Image.from_url(None), "Image.from_url takes a URL as text, .*, got NoneType"),
        (lambda: Image.from_url(b"https://x"), "got bytes"),
        (lambda: Document.from_url(5, "text/plain"), "Document.from_url takes a URL as text, .*, got int"),
    ],
    ids=range(6),
)
def test_what_makes_them_takes_nothing_else(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def said(value):
    with pytest.raises(ValidationError) as caught:
        validate(value)
    return caught.value


def failures(value):
    return said(value).errors


@pytest.mark.parametrize(
    ("shown", "value"),
    [
        (
            "Audio(source=('binary', <5,000,000 bytes>), mime_type='audio/wav', metadata={})",
            Audio.from_bytes(bytes(5_000_000), "audio/wav"),
        ),
        (
            "Audio(source=('base64', <100 characters>), mime_type='audio/wav', metadata={})",
            Audio.from_base64("a" * 100, "audio/wav"),
        ),
        (
            "Audio(source=('binary', b'short'), mime_type='audio/wav', metadata={})",
            Audio.from_bytes(b"short", "audio/wav"),
        ),
        ("Audio(source='no source', mime_type=None, metadata={})", Audio(source="no source")),
        (
            "Document(source=('binary', <65 bytes>), mime_type='application/pdf', title=None, metadata={})",
            Document.from_bytes(bytes(65), "application/pdf"),
        ),
    ],
)
def test_long_data_is_shown_by_its_size(shown, value):
    assert repr(value) == shown


def test_a_message_that_is_refused_is_not_quoted_with_its_pictures():
    picture = allm.ImagePart(image=Image.from_bytes(bytes(1_000_000), "image/png"))
    with pytest.raises(TypeError) as refused:
        allm.Engine("fake", tools=[allm.user([picture])])
    assert len(str(refused.value)) < 1000
