"""Documents as values: where their bytes are, what they are called, and how they are stored."""

import json

import pytest

from allm_actors.data import Document, DocumentPart, Message, TextPart, Thread
from allm_actors.data.build import tool_result, user
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack

SOURCES = [
    Document.from_bytes(b"\x01\x02", "application/pdf", title="A plan"),
    Document.from_base64("AQI=", "application/pdf"),
    Document.from_url("https://x/y.pdf"),
    Document.from_file("plans/a.txt", title="A plan"),
]


@pytest.mark.parametrize(
    ("where", "mime_type"),
    [("a/b.PDF", "application/pdf"), ("b.md", "text/markdown"), ("b.htm", "text/html"), ("b.xyz", None)],
)
def test_the_type_of_a_file_and_of_a_url_is_its_extension(where, mime_type):
    assert Document.from_file(where) == Document(source=("file", where), mime_type=mime_type)
    url = f"https://example.org/{where}?version=2.txt"
    assert Document.from_url(url).mime_type == mime_type
    assert Document.from_url(url, "text/csv").mime_type == "text/csv"


def test_what_is_no_url_is_for_the_provider_to_say():
    assert Document.from_url("http://[").mime_type is None


def test_bytes_and_data_uris(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(b"\x01\x02")
    for document in (*SOURCES[:2], Document.from_file(path)):
        assert document.to_bytes() == b"\x01\x02"
        assert document.to_data_uri() == "data:application/pdf;base64,AQI="


@pytest.mark.parametrize(
    ("read", "error", "why"),
    [
        (SOURCES[2].to_bytes, ValueError, "remote_source: .* download the document"),
        (SOURCES[2].to_data_uri, ValueError, "remote_source"),
        (Document.from_base64("?", "application/pdf").to_bytes, ValueError, "invalid_base64"),
        (Document(source=("binary", b"x")).to_data_uri, ValueError, "missing_mime_type"),
        (Document.from_file("/nonexistent.pdf").to_bytes, FileNotFoundError, "nonexistent"),
    ],
)
def test_what_cannot_be_read_says_why(read, error, why):
    with pytest.raises(error, match=why):
        read()


@pytest.mark.parametrize(
    ("make", "data", "mime_type"),
    [
        (Document.from_bytes, b"x", None),
        (Document.from_bytes, "x", "application/pdf"),
        (Document.from_base64, b"eA==", "application/pdf"),
    ],
)
def test_a_document_is_made_of_data_with_a_type(make, data, mime_type):
    with pytest.raises(TypeError, match=r"Document\.from_.* takes .* and a MIME type such as"):
        make(data, mime_type)


def test_a_document_of_two_bytes_as_json():
    assert to_json(SOURCES[0]) == (
        '{"__type__":"ALLM.Document","data":{"source":{"type":"binary","value":"AQI="},'
        '"mime_type":"application/pdf","title":"A plan","metadata":{}}}'
    )


@pytest.mark.parametrize("document", SOURCES, ids=lambda document: document.source[0])
def test_a_conversation_about_a_document_is_stored_whole(document):
    asked = Message(role="user", content=[TextPart(text="a"), DocumentPart(document=document)])
    thread = Thread(messages=[asked])
    text = to_json(thread)
    parts = json.loads(text)["data"]["messages"][0]["data"]["content"]
    assert [part["__type__"] for part in parts] == ["ALLM.TextPart", "ALLM.DocumentPart"]
    assert from_json(text) == from_msgpack(to_msgpack(thread)) == thread


def test_documents_may_be_said_and_may_be_answered():
    parts = [DocumentPart(document=SOURCES[2])]
    assert user(parts).parts() == tool_result("t", parts).parts() == parts
