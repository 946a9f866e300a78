"""The rows of what is not chat, and the names that find them."""

import pytest

import allm_actors as allm
from allm_actors.data import AdapterError
from allm_actors.engine.adapters import find_adapter, find_capable, known_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.dialects.refusals import as_refusal
from allm_actors.engine.remote.calls import RemoteService, remote_service
from allm_actors.engine.services import SERVICES, services_for
from tests.conformance.services import ANSWERS, ROWS, title
from tests.unit.allm_actors.engine.test_capabilities import BEHAVIOURS

EVERY = pytest.mark.parametrize("row", ROWS, ids=title)


@EVERY
def test_a_row_is_an_adapter_of_its_capability_found_by_its_name(row):
    capability = CAPABILITIES[row.span]
    engine = allm.Engine(**{capability.slot: f"{row.provider.name}:some-model"})
    assert getattr(engine, capability.model_slot) == "some-model"
    adapter = find_capable(capability, getattr(engine, capability.slot))
    assert isinstance(adapter, RemoteService)
    assert isinstance(adapter, BEHAVIOURS[row.span])
    assert adapter is find_capable(capability, row.provider.name)
    assert adapter.name == row.provider.name
    assert row.provider.name in known_capable(capability)
    assert row.provider.name in repr(adapter)


def test_each_format_has_an_exchange_of_ours():
    assert {row.dialect for row in ROWS} | {"openai_embeddings"} == {
        path.stem for path in ANSWERS.glob("*.json")
    }


@EVERY
def test_a_dialect_keeps_its_contract(row):
    dialect = remote_service(row)._dialect
    assert all(callable(getattr(dialect, name)) for name in ("encode", "decode", "decode_error"))


def test_a_misspelt_provider_is_told_the_nearest():
    with pytest.raises(allm.EngineError, match="did you mean 'voyage'") as refused:
        find_capable(CAPABILITIES["embed"], "voyages")
    assert refused.value.reason == "unknown_adapter"
    with pytest.raises(allm.EngineError, match="the names are: elevenlabs, fake, openai"):
        find_capable(CAPABILITIES["speech"], "cohere")


def test_who_does_not_chat_says_what_else_it_does():
    with pytest.raises(allm.EngineError, match="speech_adapter or transcription_adapter") as refused:
        find_adapter("elevenlabs")
    assert (refused.value.reason, refused.value.provider) == ("unknown_adapter", "elevenlabs")


def test_a_reason_that_a_capability_does_not_have_is_unknown():
    error = SERVICES["embed", "gemini"].error("content_filter", "no")
    assert isinstance(error, AdapterError)
    assert error.reason == "unknown"
    assert set(services_for("embed")) == {"openai", "gemini", "voyage", "cohere", "mistral", "ollama"}


@EVERY
def test_the_cause_of_an_error_is_that_of_the_capabilitys_own(row):
    told = as_refusal(AdapterError("timeout", message="no answer", cause="ReadTimeout"), row)
    assert isinstance(told, CAPABILITIES[row.span].error)
    assert (told.reason, told.cause) == ("timeout", "ReadTimeout")
