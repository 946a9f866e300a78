"""What is sent for clips, and what is made of what comes."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest

from allm_actors.data import SpeechAdapterError, SpeechRequest
from allm_actors.engine.remote.calls import remote_service
from allm_actors.engine.services import SERVICES
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.services import REQUESTS, answer

BOTH = pytest.mark.parametrize("name", ["openai", "elevenlabs"])
DEFAULT_VOICE = "JBFqnCBsd6RMkjVDRZzb"


def row(name):
    return SERVICES["speech", name]


def dialect(name):
    return remote_service(row(name))._dialect


def sent(name, text="hi", streamed=False, **fields):
    http = dialect(name).encode(SpeechRequest(input=text, **fields), row(name), "http://x", streamed=streamed)
    return http.url, json.loads(http.body)


def refused(name, text="hi", **fields):
    with pytest.raises(SpeechAdapterError) as raised:
        sent(name, text, **fields)
    return raised.value


def query(**fields):
    return dict(parse_qsl(urlsplit(sent("elevenlabs", **fields)[0]).query))


def read(name, kind, body=b"clip", **fields):
    said = HttpAnswer(status=200, headers={} if kind is None else {"content-type": kind}, body=body)
    return dialect(name).decode(said, SpeechRequest(input="hi", **fields), row(name))


def test_what_openai_is_sent():
    plain = {"model": "gpt-4o-mini-tts", "input": "hi", "voice": "alloy"}
    assert sent("openai") == ("http://x/audio/speech", plain)
    assert sent("openai", streamed=True) == ("http://x/audio/speech", plain)
    options = {"stream_format": "sse", "voice": "no", "x": 1}
    said = {"model": "tts-1", "voice": "nova", "instructions": "softly", "speed": 1.5}
    body = {**said, "input": "hi", "response_format": "wav", "x": 1}
    assert sent("openai", format="wav", sample_rate=24000, options=options, **said)[1] == body


def test_a_voice_of_ones_own_comes_before_the_default_and_behind_the_field():
    own = {"voice": {"id": "voice_1234"}}
    assert sent("openai", options=own)[1]["voice"] == {"id": "voice_1234"}
    assert sent("openai", options=own, voice="nova")[1]["voice"] == "nova"


def test_what_elevenlabs_is_sent():
    url = f"http://x/v1/text-to-speech/{DEFAULT_VOICE}"
    plain = {"text": "hi", "model_id": "eleven_flash_v2_5"}
    assert sent("elevenlabs") == (f"{url}?output_format=mp3_44100_128", plain)
    assert sent("elevenlabs", streamed=True)[0] == f"{url}/stream?output_format=mp3_44100_128"
    options = {
        "output_format": "no",
        "model_id": "no",
        "text": "no",
        "seed": 7,
        "voice_settings": {"stability": 0.5, "speed": 9},
        "query": {"enable_logging": False, "output_format": "no"},
    }
    url, body = sent("elevenlabs", model="m", voice="a/b?c", speed=1.1, options=options)
    assert url == "http://x/v1/text-to-speech/a%2Fb%3Fc?enable_logging=false&output_format=mp3_44100_128"
    assert body == {
        "text": "hi",
        "model_id": "m",
        "seed": 7,
        "voice_settings": {"stability": 0.5, "speed": 1.1},
    }


@pytest.mark.parametrize(
    ("format", "rate", "word"),
    [
        (None, None, "mp3_44100_128"),
        (None, 22050, "mp3_22050_32"),
        ("mp3", 24000, "mp3_24000_48"),
        ("mp3", 44100, "mp3_44100_128"),
        ("opus", None, "opus_48000_64"),
        ("opus", 48000, "opus_48000_64"),
        ("pcm", None, "pcm_24000"),
        ("pcm", 8000, "pcm_8000"),
        ("wav", None, "wav_24000"),
        ("wav", 48000, "wav_48000"),
    ],
)
def test_format_and_rate_are_one_word_to_elevenlabs(format, rate, word):
    assert query(format=format, sample_rate=rate) == {"output_format": word}


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("elevenlabs", {"format": "aac"}, "format"),
        ("elevenlabs", {"format": "flac"}, "format"),
        ("elevenlabs", {"instructions": "softly"}, "instructions"),
        ("elevenlabs", {"format": "opus", "sample_rate": 24000}, "sample_rate"),
        ("elevenlabs", {"format": "mp3", "sample_rate": 48000}, "sample_rate"),
        ("elevenlabs", {"format": "pcm", "sample_rate": 12345}, "sample_rate"),
        ("openai", {"sample_rate": 24000}, "sample_rate"),
        ("openai", {"format": "mp3", "sample_rate": 24000}, "sample_rate"),
        ("openai", {"format": "pcm", "sample_rate": 16000}, "sample_rate"),
    ],
)
def test_what_a_provider_has_no_word_for_is_refused(name, fields, field):
    error = refused(name, **fields)
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", field)


def test_elevenlabs_streams_no_wav():
    error = refused("elevenlabs", streamed=True, format="wav")
    assert (error.reason, error.metadata["field"]) == ("unsupported_feature", "format")
    assert "mp3, opus, pcm" in error.message
    for format in ("mp3", "opus", "pcm"):
        sent("elevenlabs", streamed=True, format=format)


def test_characters_are_counted_and_not_bytes():
    sent("openai", "猫" * 4096)
    error = refused("openai", "猫" * 4097)
    assert (error.reason, error.metadata) == ("context_length_exceeded", {"count": 4097, "max": 4096})
    sent("elevenlabs", "a" * 10_000)


def test_our_own_exchanges_are_read():
    openai = dialect("openai").decode(answer("openai_speech"), REQUESTS["speech"], row("openai"))
    assert openai.audio.to_bytes() == b"\xff\xfb\x90\x00 a clip"
    assert (openai.format, openai.audio.mime_type, openai.id) == ("mp3", "audio/mpeg", "req_2")
    assert (openai.model, openai.provider, openai.sample_rate) == ("gpt-4o-mini-tts", "openai", None)
    eleven = dialect("elevenlabs").decode(answer("elevenlabs_speech"), REQUESTS["speech"], row("elevenlabs"))
    assert (eleven.id, eleven.raw, eleven.sample_rate) == ("el_1", {"character_cost": 13}, 44100)


@pytest.mark.parametrize(
    ("kind", "format", "rate"),
    [
        ("audio/wav", "wav", None),
        ("Audio/X-WAV; charset=binary", "wav", None),
        ("audio/ogg", "opus", None),
        ("audio/pcm;rate=16000;channels=1", "pcm", 16000),
        ("audio/basic", None, None),
    ],
)
def test_the_format_is_that_of_the_bytes_that_came(kind, format, rate):
    response = read("openai", kind)
    assert (response.format, response.sample_rate) == (format, rate)
    assert read("openai", "audio/pcm", format="pcm").sample_rate == 24000


@BOTH
@pytest.mark.parametrize(
    ("wanted", "kind"), [("wav", "audio/wav"), ("mp3", "audio/mpeg"), (None, "audio/mpeg")]
)
@pytest.mark.parametrize("bytes_alone", ["application/octet-stream", "Binary/Octet-Stream"])
def test_bytes_without_a_type_are_what_was_asked_for(name, wanted, kind, bytes_alone):
    response = read(name, bytes_alone, format=wanted)
    assert (response.format, response.audio.mime_type) == (wanted or "mp3", kind)


@BOTH
@pytest.mark.parametrize("kind", ["application/json", "text/html", "", None, "video/mp4"])
def test_what_is_no_sound_is_malformed(name, kind):
    with pytest.raises(SpeechAdapterError, match="cannot be read") as raised:
        read(name, kind)
    assert raised.value.reason == "malformed_response"


@BOTH
def test_an_error_in_place_of_the_sound_is_told_as_what_it_is(name):
    said = json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}).encode()
    with pytest.raises(SpeechAdapterError, match="slow down") as raised:
        read(name, "application/json", said)
    assert raised.value.reason == "rate_limited"


@BOTH
def test_silence_is_malformed(name):
    with pytest.raises(SpeechAdapterError, match="empty") as raised:
        read(name, "audio/mpeg", b"")
    assert raised.value.reason == "malformed_response"


@pytest.mark.parametrize(
    ("name", "status", "error", "reason"),
    [
        ("openai", 400, {"error": {"code": "string_too_long", "message": "no"}}, "context_length_exceeded"),
        ("openai", 400, {"error": {"message": "string_too_long: at most 4096"}}, "context_length_exceeded"),
        ("openai", 400, {"error": {"message": "no"}}, "invalid_request"),
        ("openai", 401, {"error": "Incorrect API key provided: sk-123456789"}, "authentication_failed"),
        ("openai", 400, {"error": {"code": "content_filter", "message": "no"}}, "unknown"),
        ("elevenlabs", 401, {"detail": {"status": "quota_exceeded", "message": "no"}}, "invalid_request"),
        ("elevenlabs", 402, {"detail": {"code": "insufficient_credits"}}, "invalid_request"),
        ("elevenlabs", 403, {"detail": {"status": "output_format_not_allowed"}}, "unsupported_feature"),
        ("elevenlabs", 403, {"detail": {"code": "subscription_required"}}, "unsupported_feature"),
        ("elevenlabs", 403, {"detail": {"status": "nope"}}, "authentication_failed"),
        ("elevenlabs", 400, {"detail": {"type": "authentication_error"}}, "authentication_failed"),
        ("elevenlabs", 401, {"detail": {"status": "invalid_api_key"}}, "authentication_failed"),
        ("elevenlabs", 400, {"detail": {"code": "text_too_long"}}, "context_length_exceeded"),
        ("elevenlabs", 400, {"detail": "no"}, "invalid_request"),
        ("elevenlabs", 404, {"detail": {"status": "voice_not_found"}}, "invalid_request"),
        ("elevenlabs", 409, {}, "invalid_request"),
        ("elevenlabs", 422, {"detail": [{"loc": ["body", "text"], "msg": "required"}]}, "invalid_request"),
        ("elevenlabs", 429, {"detail": {"status": "too_many_concurrent_requests"}}, "rate_limited"),
        ("elevenlabs", 503, [], "provider_unavailable"),
        ("elevenlabs", 418, {}, "unknown"),
    ],
)
def test_refusals_have_the_reasons_of_the_capability(name, status, error, reason):
    headers = {"content-type": "text/plain", "request-id": "r", "retry-after": "2"}
    failure = HttpAnswer(status=status, headers=headers, body=json.dumps(error).encode())
    told = dialect(name).decode_error(failure, row(name))
    assert (type(told), told.reason, told.status) == (SpeechAdapterError, reason, status)
    assert told.metadata["provider_request_id"] == "r"
    assert told.retry_after_ms == 2000
    assert "sk-1234" not in told.message
