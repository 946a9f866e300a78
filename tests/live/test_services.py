"""Every provider of what is not chat, asked for real, with as little as there is to ask.

Left out unless asked for: `make live`. As in `test_providers`, one whose key is missing is skipped and says which
variable it waits for; `ALLM_LIVE_MODEL_<PROVIDER>_<CAPABILITY>` names another model than the row's.
"""

import os

import pytest

import allm_actors as allm
from allm_actors.data import Audio
from allm_actors.engine import keys
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.testing.loopback import LoopbackServer
from tests.conformance.services import REQUESTS, ROWS, answered, title

from .test_providers import from_dotenv  # noqa: F401 - a fixture

# Where a row leaves the model to whoever asks.
MODELS = {
    ("embed", "cohere"): "embed-v4.0",
    ("embed", "gemini"): "gemini-embedding-001",
    ("embed", "mistral"): "mistral-embed",
    ("embed", "ollama"): "nomic-embed-text",
}

every_service = pytest.mark.parametrize("row", ROWS, ids=title)


def variable(row):
    return f"ALLM_LIVE_MODEL_{row.provider.name}_{row.span}".upper().replace("-", "_")


def waits_for(row, environment):
    """What is missing to ask, in words; empty when nothing is."""
    names = row.provider.key_names if row.provider.key_required else (row.provider.base_url_name,)
    return "" if any(map(environment.get, names)) else f"none of {', '.join(names)} is set"


def engine_of(row, environment):
    capability = CAPABILITIES[row.span]
    model = environment.get(variable(row)) or row.model or MODELS.get((row.span, row.provider.name))
    return allm.Engine(**{capability.slot: row.provider.name, capability.model_slot: model})


def tone():
    """A second of silence, as a WAV file."""
    samples = b"\x00\x00" * 8000
    size = len(samples).to_bytes(4, "little")
    form = b"fmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
    return b"RIFF" + (len(samples) + 36).to_bytes(4, "little") + b"WAVE" + form + b"data" + size + samples


def a_picture_comes(engine):
    images = allm.generate_image(engine, "a small grey circle on white").images
    assert images
    assert all(image.to_bytes() for image in images)


def a_vector_comes(engine):
    texts = REQUESTS["embed"].input
    vectors = allm.embed(engine, texts).vectors()
    assert len(vectors) == len(texts)
    assert all(map(any, vectors))


def a_verdict_comes(engine):
    texts = REQUESTS["moderate"].input
    assert len(allm.moderate(engine, texts).results) == len(texts)


def a_clip_comes(engine):
    assert allm.synthesize(engine, "Hi.").audio.to_bytes()


def a_transcript_comes(engine):
    assert isinstance(allm.transcribe(engine, Audio.from_bytes(tone(), "audio/wav")).text, str)


CHECKS = {
    "image": a_picture_comes,
    "embed": a_vector_comes,
    "moderate": a_verdict_comes,
    "speech": a_clip_comes,
    "transcribe": a_transcript_comes,
}


@pytest.mark.live
@pytest.mark.timeout(330)
@every_service
def test_it_answers(row, from_dotenv):  # noqa: F811 - the fixture
    missing = waits_for(row, os.environ)
    if missing:
        pytest.skip(f"{title(row)} is not asked: {missing}")
    CHECKS[row.span](engine_of(row, os.environ))


# --- that these can hold, and skip for a reason, without anybody's key ---------------------------------------------


@every_service
def test_the_check_asks_the_provider_and_reads_what_comes(row, monkeypatch):
    for name in row.provider.key_names:
        monkeypatch.setenv(name, "no-key-of-anybody")
    with LoopbackServer(lambda _: answered(row)) as server:
        monkeypatch.setenv(row.provider.base_url_name, server.url)
        CHECKS[row.span](engine_of(row, os.environ))
        assert server.requests
    keys.clear()


@every_service
def test_without_keys_a_service_says_which_variable_it_waits_for(row):
    missing = waits_for(row, {})
    assert any(name in missing for name in (*row.provider.key_names, row.provider.base_url_name))
