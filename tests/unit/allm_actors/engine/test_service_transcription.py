"""What is sent to be written down, and what is made of the answers where no recording shows it."""

import base64
import json

import pytest

from allm_actors.data import Audio, TranscriptionAdapterError, TranscriptionRequest, Usage
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.services import REQUESTS, answer
from tests.unit.allm_actors.engine.test_multipart import parts

CLIP = Audio.from_bytes(b"sound", "audio/mpeg")
EVERY = pytest.mark.parametrize("name", ["openai", "gemini", "elevenlabs"])


def row(name):
    return SERVICES["transcribe", name]


def dialect(name):
    return remote_service(row(name))._dialect


def encoded(name, audio=CLIP, **fields):
    return dialect(name).encode(TranscriptionRequest(audio=audio, **fields), row(name), "http://x")


def form(name, **fields):
    http = encoded(name, **fields)
    read = parts(http.headers["content-type"], http.body)
    said = [(key, data.decode()) for key, file, _, data in read if file is None]
    return http.url, said, [part for part in read if part[1] is not None]


def refused(name, **fields):
    with pytest.raises(TranscriptionAdapterError) as raised:
        encoded(name, **fields)
    return raised.value


def read(name, wire, **fields):
    said = HttpAnswer(status=200, body=json.dumps(wire).encode())
    return dialect(name).decode(said, TranscriptionRequest(audio=CLIP, **fields), row(name))


def test_what_openai_is_sent():
    url, said, files = form("openai")
    assert url == "http://x/audio/transcriptions"
    assert sorted(said) == [("model", "gpt-transcribe"), ("response_format", "json")]
    assert files == [("file", "audio.mp3", "audio/mpeg", b"sound")]
    options = {
        "temperature": 0.2,
        "include[]": ["logprobs", "x"],
        "response_format": "verbose_json",
        "model": "no",
    }
    _, said, _ = form("openai", model="whisper-1", language="de", prompt="Zürich", options=options)
    assert sorted(said) == [
        *[("include[]", "logprobs"), ("include[]", "x"), ("language", "de"), ("model", "whisper-1")],
        *[("prompt", "Zürich"), ("response_format", "verbose_json"), ("temperature", "0.2")],
    ]


@pytest.mark.parametrize(
    "options", [{"response_format": "srt"}, {"response_format": ["json"]}, {"stream": True}]
)
def test_only_json_can_be_read(options):
    assert refused("openai", options=options).reason == "invalid_request"


@pytest.mark.parametrize(
    ("path", "mime", "name"),
    [
        ("talk.FLAC", None, "talk.FLAC"),
        ("talk.mp3", "audio/wav", "talk.mp3"),
        ("talk.bin", "audio/wav", "audio.wav"),
        ("mp3", "audio/webm; codecs=opus", "mp3"),
    ],
)
def test_openai_goes_by_the_extension(tmp_path, path, mime, name):
    (tmp_path / path).write_bytes(b"sound")
    _, _, files = form("openai", audio=Audio(source=("file", str(tmp_path / path)), mime_type=mime))
    assert files[0][1] == name


@pytest.mark.parametrize("mime", [None, "audio/aiff", "nonsense"])
def test_a_clip_that_openai_would_not_know_is_refused(mime):
    error = refused("openai", audio=Audio(source=("binary", b"x"), mime_type=mime))
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "audio")


def test_what_gemini_is_sent():
    http = encoded("gemini", language="de", prompt="Zürich", options={"temperature": 0, "safetySettings": []})
    body = json.loads(http.body)
    assert http.url == "http://x/models/gemini-flash-latest:generateContent"
    (content,) = body["contents"]
    task, clip = content["parts"]
    assert "verbatim transcript" in task["text"]
    assert "The language is de." in task["text"]
    assert "Zürich" in task["text"]
    assert clip == {"inlineData": {"mimeType": "audio/mpeg", "data": base64.b64encode(b"sound").decode()}}
    assert (body["generationConfig"], body["safetySettings"]) == ({"temperature": 0}, [])
    assert "generationConfig" not in json.loads(encoded("gemini").body)


@pytest.mark.parametrize(
    ("mime", "said"),
    [("audio/x-wav", "audio/wav"), ("audio/MP3", "audio/mpeg"), ("audio/ogg; codecs=opus", "audio/ogg")],
)
def test_gemini_gets_the_types_it_knows(mime, said):
    body = json.loads(encoded("gemini", audio=Audio.from_bytes(b"x", mime)).body)
    assert body["contents"][0]["parts"][1]["inlineData"]["mimeType"] == said


@pytest.mark.parametrize("mime", [None, "audio/webm", "audio/mp4"])
def test_gemini_gets_no_other(mime):
    error = refused("gemini", audio=Audio(source=("binary", b"x"), mime_type=mime))
    assert (error.reason, error.metadata["field"]) == ("invalid_request", "audio")


def test_what_elevenlabs_is_sent():
    url, said, files = form("elevenlabs", language="de", options={"diarize": True, "keyterms": ["a", "b"]})
    assert url == "http://x/v1/speech-to-text"
    assert sorted(said) == [
        *[("diarize", "true"), ("keyterms", "a"), ("keyterms", "b"), ("language_code", "de")],
        ("model_id", "scribe_v2"),
    ]
    assert files == [("file", "audio.bin", "audio/mpeg", b"sound")]
    bare = Audio(source=("binary", b"x"))
    assert form("elevenlabs", audio=bare)[2] == [("file", "audio.bin", "application/octet-stream", b"x")]
    error = refused("elevenlabs", prompt="Zürich")
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", "prompt")


@pytest.mark.parametrize(("name", "most"), [("openai", 26_148_864), ("gemini", 15_679_488)])
def test_a_clip_of_just_that_size_is_sent_and_a_byte_more_is_not(name, most):
    encoded(name, audio=Audio.from_bytes(bytes(most), "audio/wav"))
    error = refused(name, audio=Audio.from_bytes(bytes(most + 1), "audio/wav"))
    assert (error.reason, error.metadata) == ("invalid_request", {"bytes": most + 1, "max": most})


@EVERY
@pytest.mark.parametrize(
    "audio",
    [Audio.from_base64("?", "audio/mpeg"), Audio.from_file("/no/such/secret-folder/clip.mp3")],
    ids=["base64", "file"],
)
def test_a_clip_that_cannot_be_had_is_refused(name, audio):
    error = refused(name, audio=audio, prompt="x")  # before anything else that is wrong
    assert (error.reason, error.metadata["cause"]) == ("invalid_request", "unresolvable_audio")
    assert "secret-folder" not in error.message


@EVERY
def test_our_own_exchange_is_read(name):
    response = dialect(name).decode(answer(f"{name}_transcription"), REQUESTS["transcribe"], row(name))
    assert response.text == "Good morning, Zürich."
    assert response.provider == name
    match name:
        case "openai":
            assert (response.language, response.duration_seconds, response.id) == ("en", None, "req_3")
            assert (response.usage.input_tokens, response.usage.total_tokens) == (14, 20)
        case "gemini":
            assert response.id == "r2"
            assert response.usage == Usage(
                input_tokens=40, output_tokens=6, reasoning_tokens=9, total_tokens=55
            )
        case _:
            assert (response.language, response.duration_seconds, response.id) == ("en", 1.8, "t1")


@pytest.mark.parametrize(("other", "language"), [("en", "en"), ("de", None), (None, None)])
def test_the_channels_of_elevenlabs_are_lines_of_one_text(other, language):
    channels = [
        {"text": "Good morning.", "channel_index": 0, "language_code": "en"},
        {"text": "Hello.", "channel_index": 1, "language_code": other},
    ]
    wire = {"transcripts": channels, "transcription_id": "t1", "audio_duration_secs": 1.5}
    response = read("elevenlabs", wire, options={"use_multi_channel": True})
    assert (response.text, response.language) == ("Good morning.\nHello.", language)
    assert (response.id, response.duration_seconds, response.raw) == ("t1", 1.5, wire)


@pytest.mark.parametrize("value", [True, "true", 1])
def test_a_transcript_that_would_go_to_a_webhook_is_not_asked_for(value):
    error = refused("elevenlabs", options={"webhook": value})
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", "options")
    assert "webhook" in error.message


@pytest.mark.parametrize("value", [False, "false", None])
def test_no_webhook_is_no_reason_to_refuse(value):
    encoded("elevenlabs", options={"webhook": value})


def test_what_is_billed_by_its_length_says_how_long_it_is():
    response = read("openai", {"text": "", "usage": {"type": "duration", "seconds": 3}})
    assert (response.text, response.duration_seconds, response.usage.total_tokens) == ("", 3.0, None)


def test_an_answer_that_was_cut_says_so():
    wire = {"candidates": [{"content": {"parts": [{"text": "Good"}]}, "finishReason": "MAX_TOKENS"}]}
    response = read("gemini", wire, metadata={"mine": 1})
    assert (response.text, response.metadata) == ("Good", {"mine": 1, "finish_reason": "length"})
    for why in ("OTHER", "FINISH_REASON_UNSPECIFIED", "SOMETHING_NEW"):
        wire["candidates"][0]["finishReason"] = why
        told = read("gemini", wire)
        assert (told.text, told.metadata) == ("Good", {"finish_reason": "other", "raw_finish_reason": why})
    wire["candidates"][0]["finishReason"] = "STOP"
    assert read("gemini", wire).metadata == {}
    assert read("gemini", {"candidates": [{"finishReason": "STOP"}]}).text == ""  # nobody spoke


@pytest.mark.parametrize(
    ("name", "wire", "reason"),
    [
        ("gemini", {"promptFeedback": {"blockReason": "OTHER"}}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "SAFETY"}]}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "RECITATION"}]}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "MODEL_ARMOR"}]}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "OTHER"}]}, "malformed_response"),
        (
            "gemini",
            {"candidates": [{"content": {"parts": [{"text": "Go"}]}, "finishReason": "MALFORMED_RESPONSE"}]},
            "malformed_response",
        ),
        ("gemini", {"candidates": []}, "malformed_response"),
        ("gemini", {"candidates": [{}]}, "malformed_response"),
        ("openai", {}, "malformed_response"),
        ("openai", {"text": None}, "malformed_response"),
        ("elevenlabs", {"text": 1}, "malformed_response"),
        ("elevenlabs", {"transcripts": []}, "malformed_response"),
        ("elevenlabs", {"transcripts": {"text": "a"}}, "malformed_response"),
        ("elevenlabs", {"transcripts": [{"text": "a"}, {}]}, "malformed_response"),
        ("elevenlabs", {"transcripts": [{"text": "a"}, None]}, "malformed_response"),
        ("elevenlabs", [], "malformed_response"),
    ],
)
def test_no_text_is_a_refusal_or_nonsense(name, wire, reason):
    with pytest.raises(TranscriptionAdapterError) as raised:
        read(name, wire)
    assert raised.value.reason == reason
