"""Documents in messages: how each format says them, and what is refused before anything is sent."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    Document,
    DocumentPart,
    Image,
    ImagePart,
    Message,
    Request,
    TextPart,
    ToolCall,
    ValidationError,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.documents import document_name

PDF = Document.from_bytes(b"\1\2", "application/pdf", title="A plan")
NOTE = Document.from_base64("aMOk", "text/markdown")
REMOTE = Document.from_url("https://x/y.pdf", title="Far")
DATA_URI = "data:application/pdf;base64,AQI="


def sent(messages, name, dialect=None):
    row = PROVIDERS[name]
    encode = find_dialect(dialect or row.dialect).encode
    return json.loads(encode(Request(messages=messages, model="m"), row, "https://x").body)


def holding(*documents, role="user", **fields):
    parts = [DocumentPart(document=document) for document in documents]
    return Message(role=role, content=[TextPart(text="read"), *parts], **fields)


def answered_with(document):
    call = ToolCall(id="t", name="look", arguments={})
    asked = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    return [Message(role="user", content="hi"), asked, holding(document, role="tool", tool_call_id="t")]


# --- what is said ---------------------------------------------------------------------------------------------


def test_anthropic():
    blocks = sent([holding(PDF, NOTE, REMOTE)], "anthropic")["messages"][0]["content"]
    data = {"type": "base64", "media_type": "application/pdf", "data": "AQI="}
    assert blocks == [
        {"type": "text", "text": "read"},
        {"type": "document", "source": data, "title": "A plan"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hä"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}, "title": "Far"},
    ]
    result = sent(answered_with(PDF), "anthropic")["messages"][2]["content"][0]
    assert result["content"] == blocks[:2]


@pytest.mark.parametrize("name", ["openai", "azure", "openrouter", "openai-compatible"])
def test_openai_chat(name):
    assert sent([holding(PDF)], name, "openai_chat")["messages"][0]["content"] == [
        {"type": "text", "text": "read"},
        {"type": "file", "file": {"filename": "A plan.pdf", "file_data": DATA_URI}},
    ]


def test_openrouter_fetches():
    assert sent([holding(REMOTE)], "openrouter")["messages"][0]["content"][1] == {
        "type": "file",
        "file": {"filename": "Far.pdf", "file_data": "https://x/y.pdf"},
    }


def test_mistral():
    parts = sent([holding(PDF, Document.from_url("https://x/y.pdf"))], "mistral")["messages"][0]["content"]
    assert parts[1:] == [
        {"type": "document_url", "document_url": DATA_URI, "document_name": "A plan"},
        {"type": "document_url", "document_url": "https://x/y.pdf"},
    ]


def test_openai_responses():
    wire = [
        {"type": "input_text", "text": "read"},
        {"type": "input_file", "filename": "A plan.pdf", "file_data": DATA_URI},
    ]
    *_, output = sent([holding(PDF), *answered_with(PDF)], "openai", "openai_responses")["input"]
    assert output["output"] == wire
    first = sent([holding(PDF, REMOTE)], "openai", "openai_responses")["input"][0]
    assert first["content"] == [*wire, {"type": "input_file", "file_url": "https://x/y.pdf"}]


def test_gemini():
    where = Document.from_url("https://x/y")
    assert sent([holding(PDF, NOTE, REMOTE, where)], "gemini")["contents"][0]["parts"] == [
        {"text": "read"},
        {"inlineData": {"mimeType": "application/pdf", "data": "AQI="}},
        {"inlineData": {"mimeType": "text/markdown", "data": "aMOk"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/y.pdf"}},
        {"fileData": {"fileUri": "https://x/y"}},
    ]


def test_bedrock_names_each_document_as_no_other():
    titled = Document.from_bytes(b"\1\2", "application/pdf", title="Q3/Q4:  plan_(final)")
    kept = Document.from_url("s3://bucket/a.csv")
    documents = (titled, titled, NOTE, kept)
    blocks = sent([holding(*documents)], "bedrock")["messages"][0]["content"]
    assert blocks == [
        {"text": "read"},
        {"document": {"format": "pdf", "name": "Q3 Q4 plan (final)", "source": {"bytes": "AQI="}}},
        {"document": {"format": "pdf", "name": "Q3 Q4 plan (final) 2", "source": {"bytes": "AQI="}}},
        {"document": {"format": "md", "name": "Document 1", "source": {"bytes": "aMOk"}}},
        {
            "document": {
                "format": "csv",
                "name": "Document 2",
                "source": {"s3Location": {"uri": "s3://bucket/a.csv"}},
            }
        },
    ]
    result = sent(answered_with(PDF), "bedrock")["messages"][2]["content"][0]["toolResult"]
    assert [next(iter(block)) for block in result["content"]] == ["text", "document"]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (Document.from_bytes(b"", "application/pdf"), "document.pdf"),
        (Document.from_bytes(b"", "application/pdf", title="v1.2"), "v1.2.pdf"),
        (Document.from_bytes(b"", "text/html", title="a.HTM"), "a.HTM"),
        (Document.from_bytes(b"", "application/x-own"), "document"),
        (Document.from_file("folder/a.csv"), "a.csv"),
        (Document.from_url("https://x/folder/a.csv?b=c"), "a.csv"),
        (Document.from_url("https://x/"), "document"),
    ],
)
def test_what_a_file_is_called(document, name):
    assert document_name(document) == name


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ollama", "cohere", "groq", "deepseek", "perplexity"])
def test_a_format_without_a_word_for_documents_says_so(name):
    with pytest.raises(AdapterError, match=r" takes no documents: ") as refused:
        sent([holding(PDF)], name)
    assert (refused.value.reason, refused.value.provider) == ("unsupported_feature", name)


@pytest.mark.parametrize("name", ["openai", "openai-compatible", "bedrock"])
def test_a_provider_that_does_not_fetch_says_so(name):
    with pytest.raises(AdapterError, match="does not fetch this document: send its bytes") as refused:
        sent([holding(REMOTE)], name)
    assert refused.value.reason == "unsupported_feature"


@pytest.mark.parametrize("name", ["openai", "gemini", "cohere", "ollama", "mistral"])
def test_a_document_is_never_left_out_of_a_tools_answer(name):
    with pytest.raises(AdapterError) as refused:
        sent(answered_with(PDF), name)
    assert refused.value.reason == "unsupported_feature"


def test_a_document_is_never_left_out_of_an_assistants_message():
    for name in ("openai", "anthropic", "gemini", "bedrock", "cohere", "ollama"):
        with pytest.raises(AdapterError):
            sent([holding(PDF, role="assistant")], name)


def test_every_document_that_cannot_be_sent_is_listed():
    refused = [
        Document(source=("binary", b"a")),
        Document.from_base64("!", "application/pdf"),
        Document.from_file("/nonexistent.pdf"),
        Document.from_bytes(bytes(50 * 2**20 + 1), "application/pdf"),
    ]
    messages = [holding(PDF, role="system"), holding(*refused)]
    messages[1].content.append(ImagePart(image=Image.from_bytes(b"", "image/bmp")))
    with pytest.raises(ValidationError) as caught:
        sent(messages, "gemini")
    assert caught.value.reason == "invalid_message"
    assert caught.value.errors == [
        (["messages", 0, "content"], "document_in_system_message"),
        (["content", 1, 1], "missing_mime_type"),
        (["content", 1, 2], "unresolvable_document"),
        (["content", 1, 3], "unresolvable_document"),
        (["content", 1, 4], "document_too_large"),
        (["content", 1, 5], "unsupported_image_format"),
    ]


@pytest.mark.parametrize(
    ("name", "document", "code"),
    [
        ("anthropic", Document.from_bytes(b"", "application/zip"), "unsupported_document_format"),
        ("anthropic", Document.from_url("https://x/y.txt"), "unsupported_document_format"),
        ("anthropic", Document.from_bytes(b"\xff", "text/plain"), "unresolvable_document"),
        ("bedrock", Document.from_bytes(b"", "application/zip"), "unsupported_document_format"),
        ("bedrock", Document.from_url("s3://bucket/key"), "missing_mime_type"),
    ],
)
def test_what_one_format_alone_cannot_say(name, document, code):
    with pytest.raises(ValidationError) as caught:
        sent([holding(document)], name)
    assert caught.value.errors == [(["content", 0, 1], code)]


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize(
    "name", ["anthropic", "openai", "groq", "mistral", "gemini", "bedrock", "cohere", "ollama"]
)
def test_what_is_no_part_is_never_left_out(name, role):
    foreign = Message(
        role=role, content=[TextPart(text="a"), {"type": "text", "text": "b"}], tool_call_id="t"
    )
    with pytest.raises(ValidationError) as caught:
        sent([foreign], name)
    assert caught.value.errors == [(["content", 0, 1], "invalid_part_type")]


@pytest.mark.parametrize("name", ["openai", "mistral", "xai", "gemini", "vertex", "cohere"])
def test_a_picture_is_never_left_out_of_a_tools_answer(name):
    picture = ImagePart(image=Image.from_bytes(b"x", "image/png"))
    *asked, answer = answered_with(PDF)
    shown = Message(role="tool", content=[TextPart(text="here"), picture], tool_call_id=answer.tool_call_id)
    with pytest.raises(AdapterError, match="no picture in a tool's answer: put it into a user") as refused:
        sent([*asked, shown], name)
    assert (refused.value.reason, refused.value.provider) == ("unsupported_feature", name)
