"""What is not chat runs in supervised processes: tried again, timed, cancelled, killed, and always ended once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import traceback
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.actors import default_host
from allm_actors.actors.calls.caller import CallActor, Expired
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.telemetry.names import METADATA
from allm_actors.testing import script
from supervisors import exit as exit_process
from tests.integration.calling import (
    CALLS,
    CLEAN,
    FITTING,
    OK,
    PICTURE,
    QUICK,
    made,
    measured,
    scripted,
    with_adapter,
    workers,
)
from tests.integration.stage import until

KEY = "sk-no-key-of-anybody-1234567890"
EVERY = pytest.mark.parametrize("name", list(CALLS))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    until(lambda: workers() == [])


# --- what every call does -----------------------------------------------------------------------------------------


@EVERY
def test_a_call_gives_its_response_with_the_id_of_the_request(name: str) -> None:
    response = CALLS[name](allm, scripted(name, script.ok(OK[name])), request_id="r1")
    assert isinstance(response, CAPABILITIES[name].response)
    assert response.request_id == "r1"
    assert response.metadata == {}


@EVERY
def test_the_same_is_awaitable(name: str) -> None:
    async def both() -> Any:
        return await CALLS[name](allm.aio, scripted(name, script.ok(OK[name])), request_id="r1")

    assert asyncio.run(both()) == CALLS[name](allm, scripted(name, script.ok(OK[name])), request_id="r1")


@EVERY
def test_an_adapter_may_be_a_coroutine_function_on_the_shared_loop(name: str) -> None:
    capability, threads = CAPABILITIES[name], []

    async def work(request: Any, call: Any) -> Any:
        threads.append(threading.current_thread())
        await asyncio.sleep(0)
        return capability.response(metadata=request.metadata, **FITTING.get(name, {}))

    engine = with_adapter(name, made(name, work, asynchronous=True))
    assert CALLS[name](allm, engine, metadata={"mine": 1}).metadata == {"mine": 1}
    assert threads != [threading.current_thread()]


@EVERY
def test_without_an_adapter_it_says_which_slot_is_empty(name: str) -> None:
    capability = CAPABILITIES[name]
    with measured() as heard, pytest.raises(allm.EngineError) as refused:
        CALLS[name](allm, allm.Engine(adapter="fake"))
    assert refused.value.reason == capability.missing
    assert f"{capability.slot}='fake'" in str(refused.value)
    assert [event.name for event in heard] == [f"allm.{name}.start", f"allm.{name}.stop"]
    assert heard[-1].metadata["error"] == refused.value


@EVERY
def test_what_may_pass_by_itself_is_asked_again(name: str) -> None:
    engine = scripted(name, script.error("rate_limited"), script.error("network_error"), script.ok(OK[name]))
    with measured() as heard:
        response = CALLS[name](allm, engine, request_id="r1")
    assert isinstance(response, CAPABILITIES[name].response)
    retries = [event.metadata for event in heard if event.name == "allm.adapter.retry"]
    assert [(r["attempt"], r["reason"], r["request_id"], r["provider"]) for r in retries] == [
        (1, "rate_limited", "r1", "fake"),
        (2, "network_error", "r1", "fake"),
    ]


@EVERY
def test_a_pause_for_which_there_is_no_time_is_not_begun(name: str) -> None:
    engine = scripted(name, script.error("rate_limited"), script.ok(OK[name]))
    with measured() as heard, pytest.raises(CAPABILITIES[name].error) as refused:
        CALLS[name](allm, engine, retry={"base_delay": 30.0, "jitter": 0.0}, request_timeout=5.0)
    assert refused.value.reason == "rate_limited"
    assert "allm.adapter.retry" not in [event.name for event in heard]


@EVERY
def test_all_attempts_have_the_time_of_one_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, send_after = [], CallActor.send_after

    def counted(self: Any, seconds: float, dest: Any, message: Any, **options: Any) -> Any:
        limits.extend([message] if isinstance(message, Expired) else [])
        return send_after(self, seconds, dest, message, **options)

    monkeypatch.setattr(CallActor, "send_after", counted)
    errors = [script.error("rate_limited")] * 2
    CALLS[name](allm, scripted(name, *errors, script.ok(OK[name])), request_timeout=5.0)
    assert len(limits) == 1


@EVERY
def test_what_will_not_pass_is_raised_at_once(name: str) -> None:
    asked: list[Any] = []
    engine = scripted(name, script.error("invalid_request"), script.ok(OK[name]), capture=asked)
    with pytest.raises(CAPABILITIES[name].error) as refused:
        CALLS[name](allm, engine, request_id="r1")
    assert (refused.value.reason, refused.value.metadata["request_id"]) == ("invalid_request", "r1")
    assert len(asked) == 1


@pytest.mark.parametrize("given", ["theirs", None])
def test_an_id_that_the_adapter_has_given_is_kept_and_else_it_is_the_requests(given: str | None) -> None:
    def work(_request: Any, _call: Any) -> Any:
        if failures:
            raise failures.pop()
        return allm.ModerationResponse(results=[CLEAN], request_id=given)

    failures = [allm.ModerationAdapterError("unknown", request_id=given)]
    engine = with_adapter("moderate", made("moderate", work), retry=False)
    with pytest.raises(allm.ModerationAdapterError) as refused:
        allm.moderate(engine, "a cat", request_id="ours")
    assert refused.value.request_id == (given or "ours")
    assert allm.moderate(engine, "a cat", request_id="ours").request_id == (given or "ours")


@EVERY
@pytest.mark.parametrize("retry", [False, {"max_attempts": 0}], ids=["off", "none"])
def test_retrying_can_be_forbidden(name: str, retry: Any) -> None:
    engine = scripted(name, script.error("rate_limited"), script.ok(OK[name]))
    with pytest.raises(CAPABILITIES[name].error, match="rate_limited"):
        CALLS[name](allm, engine, retry=retry)


@EVERY
def test_a_span_is_told_with_its_outcome(name: str) -> None:
    engine = scripted(
        name, script.ok(OK[name]), script.error("content_filter" if name == "image" else "unknown")
    )
    told = {"tenant": "a", "session_id": "s1"}
    with measured() as heard:
        response = CALLS[name](allm, engine, request_id="r1", telemetry_metadata=told)
        with pytest.raises(CAPABILITIES[name].error) as failed:
            CALLS[name](allm, engine, request_id="r2")
    spans = [event for event in heard if event.name.startswith(f"allm.{name}.")]
    assert [(e.name.split(".")[2], e.metadata["request_id"]) for e in spans] == [
        ("start", "r1"),
        ("stop", "r1"),
        ("start", "r2"),
        ("stop", "r2"),
    ]
    assert (spans[1].metadata["response"], spans[1].metadata["error"]) == (response, None)
    assert (spans[3].metadata["response"], spans[3].metadata["error"]) == (None, failed.value)
    assert (spans[1].metadata["tenant"], spans[1].metadata["session_id"]) == ("a", "s1")
    assert set().union(*(event.metadata for event in heard)) <= METADATA | {"tenant"}
    assert all(event.metadata["engine"] is engine for event in spans)


@EVERY
def test_the_log_of_a_handler_that_raised_quotes_neither_the_answer_nor_the_error(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_event: telemetry.Event) -> None:
        raise ValueError("a bug of the handler")

    caplog.set_level(logging.ERROR, logger="allm_actors")
    error = CAPABILITIES[name].error("unknown", message="no to Ada")
    engine = scripted(name, script.ok(OK[name]), script.error(error))
    answers = []
    for _ in range(2):
        telemetry.attach("breaks", breaks, f"allm.{name}.stop")
        with contextlib.suppress(CAPABILITIES[name].error):
            answers.append(CALLS[name](allm, engine))
    assert len(answers) == 1
    assert caplog.text.count("ValueError: a bug of the handler") == 2
    assert type(answers[0]).__name__ not in caplog.text
    assert "Ada" not in caplog.text


@EVERY
def test_a_hanging_adapter_is_a_timeout(name: str) -> None:
    free = threading.Event()
    engine = with_adapter(name, made(name, lambda _request, _call: free.wait(30)))
    try:
        with pytest.raises(CAPABILITIES[name].error, match=r"request_timeout=0\.05") as late:
            CALLS[name](allm, engine, request_timeout=0.05)
        assert late.value.reason == "timeout"
    finally:
        free.set()


def test_a_hanging_coroutine_is_cancelled_when_its_time_is_over() -> None:
    cancelled = threading.Event()

    async def work(_request: Any, _call: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    engine = with_adapter("image", made("image", work, asynchronous=True))
    with pytest.raises(allm.ImageAdapterError, match="timeout"):
        allm.generate_image(engine, "a cat", request_timeout=0.05)
    assert cancelled.wait(5)


@EVERY
@pytest.mark.parametrize("who", ["CallWorker", "CallActor"])
def test_a_killed_call_is_an_error_and_not_a_hang(name: str, who: str) -> None:
    working, free = threading.Event(), threading.Event()

    def work(_request: Any, _call: Any) -> Any:
        working.set()
        free.wait(30)

    raised: list[BaseException] = []

    def ask() -> None:
        try:
            CALLS[name](allm, with_adapter(name, made(name, work)))
        except allm.AllmError as error:
            raised.append(error)

    with measured() as heard:
        asking = threading.Thread(target=ask)
        asking.start()
        assert working.wait(10)
        refs = default_host().system.processes()
        exit_process(next(ref for ref in refs if ref.actor_class.__name__ == who), "kill")
        asking.join(10)
    free.set()
    assert [type(error) for error in raised] == [CAPABILITIES[name].error]
    assert raised[0].metadata["cause"] == "adapter_died"
    assert (heard[-1].name, heard[-1].metadata["kind"]) == (f"allm.{name}.exception", "exit")


def test_a_crash_of_an_adapter_is_an_error_of_the_call_and_of_no_other() -> None:
    def work(_request: Any, _call: Any) -> Any:
        raise RuntimeError("no idea")

    with pytest.raises(allm.ModerationAdapterError, match=r"raised RuntimeError.*no idea") as died:
        allm.moderate(with_adapter("moderate", made("moderate", work)), "a cat")
    assert (died.value.reason, died.value.metadata["cause"]) == ("unknown", "adapter_raised")
    assert allm.moderate(scripted("moderate", script.ok([CLEAN])), "a cat").results == [CLEAN]


@EVERY
def test_an_adapter_that_answers_with_something_else_is_named(name: str) -> None:
    engine = with_adapter(name, made(name, lambda _request, _call: {"nearly": "it"}))
    expected = f"must return {CAPABILITIES[name].response.__name__}, got: dict"
    with pytest.raises(TypeError, match=expected):
        CALLS[name](allm, engine)


def test_a_cancelled_task_ends_the_call() -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def work(_request: Any, _call: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def main() -> None:
        engine = with_adapter("embed", made("embed", work, asynchronous=True))
        task = asyncio.create_task(allm.aio.embed(engine, "a cat"))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with measured() as heard:
        asyncio.run(main())
        assert cancelled.wait(5)
        until(lambda: heard[-1].name == "allm.embed.exception")
    assert heard[-1].metadata["kind"] == "exit"


def test_many_calls_at_once_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(8, timeout=20)

    def work(request: Any, _call: Any) -> Any:
        together.wait()
        return allm.ModerationResponse(results=[CLEAN], metadata={"said": request.input[0]})

    async def main() -> list[Any]:
        engine = with_adapter("moderate", made("moderate", work))
        return await asyncio.gather(*(allm.aio.moderate(engine, str(at)) for at in range(8)))

    assert [response.metadata["said"] for response in asyncio.run(main())] == [str(at) for at in range(8)]


def test_stopping_the_host_ends_the_calls_it_runs() -> None:
    working, free = threading.Event(), threading.Event()

    def work(_request: Any, _call: Any) -> Any:
        working.set()
        free.wait(30)

    raised: list[BaseException] = []

    def ask() -> None:
        try:
            allm.moderate(with_adapter("moderate", made("moderate", work)), "a cat")
        except allm.AllmError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert working.wait(10)
    stopping = threading.Thread(target=default_host().stop)
    stopping.start()
    asking.join(10)
    free.set()
    stopping.join(30)
    assert [(type(error), error.reason) for error in raised] == [(allm.StreamError, "cancelled")]
    assert allm.moderate(scripted("moderate", script.ok([CLEAN])), "a cat").results == [CLEAN]


# --- keys ---------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize("source", [KEY, lambda: KEY], ids=["text", "function"])
def test_a_key_reaches_the_adapter_and_nobody_else(name: str, asynchronous: bool, source: Any) -> None:
    from allm_actors.engine import keys

    seen: list[Any] = []

    def found(call: Any) -> None:
        seen.append(keys.fetch("made", (), call.api_key).reveal())
        assert KEY not in repr(call)

    async def awaited(_request: Any, call: Any) -> Any:
        found(call)
        raise CAPABILITIES[name].error("unknown", message=f"refused: {KEY}", cause={"header": [KEY]})

    def blocking(_request: Any, call: Any) -> Any:
        found(call)
        raise CAPABILITIES[name].error("unknown", message=f"refused: {KEY}", cause={"header": [KEY]})

    engine = with_adapter(name, made(name, awaited if asynchronous else blocking, asynchronous))
    with measured() as heard, pytest.raises(CAPABILITIES[name].error) as refused:
        CALLS[name](allm, engine, api_key=source)
    assert seen == [KEY]
    assert "[REDACTED]" in str(refused.value)
    assert KEY not in allm.to_json(refused.value)
    assert KEY not in repr(heard)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize("source", [KEY, lambda: KEY], ids=["text", "function"])
def test_a_misuse_that_quotes_the_key_is_raised_without_it(asynchronous: bool, source: Any) -> None:
    from allm_actors.engine import keys

    def refuse(call: Any) -> None:
        raise ValueError(f"no header: {keys.fetch('made', (), call.api_key).reveal()}")

    async def awaited(_request: Any, call: Any) -> Any:
        refuse(call)

    def blocking(_request: Any, call: Any) -> Any:
        refuse(call)

    engine = with_adapter("moderate", made("moderate", awaited if asynchronous else blocking, asynchronous))
    with pytest.raises(ValueError, match=r"no header: \[REDACTED\]") as refused:
        allm.moderate(engine, "a cat", api_key=source)
    assert KEY not in "".join(traceback.format_exception(refused.value))


def test_a_vault_that_blocks_does_not_block_the_loop() -> None:
    opened, other = threading.Event(), scripted("moderate", script.ok([CLEAN]))

    def vault() -> str:
        assert allm.moderate(other, "meanwhile").results == [CLEAN]  # needs the loop
        opened.set()
        return KEY

    async def work(_request: Any, call: Any) -> Any:
        assert call.api_key() == KEY
        return allm.ModerationResponse(results=[CLEAN])

    engine = with_adapter("moderate", made("moderate", work, asynchronous=True))
    assert allm.moderate(engine, "a cat", api_key=vault).results == [CLEAN]
    assert opened.is_set()


@EVERY
def test_a_name_that_events_have_themselves_is_refused_in_telemetry_metadata(name: str) -> None:
    with measured() as heard:
        for taken in sorted(METADATA - {"session_id"}):
            with pytest.raises(TypeError, match=f"must not have {taken!r}: events have that themselves"):
                CALLS[name](allm, scripted(name), telemetry_metadata={"tenant": "a", taken: "backfill"})
        with pytest.raises(TypeError, match="must not have 'kind', 'reason'"):
            CALLS[name](allm, scripted(name), telemetry_metadata={"reason": "backfill", "kind": "batch"})
    assert heard == []


def test_a_key_in_telemetry_metadata_is_refused() -> None:
    with pytest.raises(TypeError, match="must not have an api_key") as refused:
        allm.embed(scripted("embed"), "a", telemetry_metadata={"api_key": KEY})
    assert KEY not in str(refused.value)


# --- options ------------------------------------------------------------------------------------------------------


@EVERY
def test_a_misspelt_option_is_named(name: str) -> None:
    engine = scripted(name, script.ok(OK[name]))
    with pytest.raises(TypeError, match="did you mean 'metadata'"):
        CALLS[name](allm, engine, metdata={})
    with pytest.raises(TypeError, match="did you mean 'api_key'"):
        CALLS[name](allm, engine, api_kye=KEY)


@EVERY
def test_the_model_is_the_requests_then_the_calls_then_the_slots(name: str) -> None:
    capability = CAPABILITIES[name]
    asked: list[Any] = []
    entries = [script.ok(OK[name])] * 4
    engine = (
        scripted(name, *entries, capture=asked).merge(**{capability.model_slot: "slot"}).with_model("chat")
    )
    CALLS[name](allm, engine)
    CALLS[name](allm, engine, model="call")
    CALLS[name](allm, engine.merge(**{capability.model_slot: None}))
    CALLS[name](allm, engine, model=allm.ModelRef(id="ref"))
    assert [r.model for r in asked] == ["slot", "call", "chat" if capability.engine_model else None, "ref"]


def test_a_whole_request_is_sent_as_it_is() -> None:
    asked: list[Any] = []
    engine = scripted("embed", script.ok([[1.0]]), capture=asked)
    request = allm.EmbeddingRequest(input=["a"], model="own", metadata={"mine": True})
    assert allm.embed(engine, request, model="call").metadata == {"mine": True}
    assert asked == [request]
    with pytest.raises(TypeError, match="'dimensions' belongs in the EmbeddingRequest"):
        allm.embed(engine, request, dimensions=3)


@pytest.mark.parametrize(
    ("ask", "reason", "errors"),
    [
        (lambda e: allm.embed(e, []), "invalid_embedding_request", [("input", "empty")]),
        (
            lambda e: allm.moderate(e, [1]),
            "invalid_moderation_request",
            [(["input", 0], "invalid_part_type")],
        ),
        (lambda e: allm.synthesize(e, ""), "invalid_speech_request", [("input", "empty")]),
        (
            lambda e: allm.transcribe(e, PICTURE),
            "invalid_transcription_request",
            [("audio", "invalid_audio")],
        ),
        (
            lambda e: allm.classify(e, "", {}),
            "invalid_classification_request",
            [("questions", "empty"), ("state", "empty")],
        ),
    ],
    ids=["embed", "moderate", "speech", "transcribe", "classify"],
)
def test_what_cannot_be_sent_is_refused_before_the_adapter(ask: Any, reason: str, errors: Any) -> None:
    slots = {capability.slot: "fake" for capability in CAPABILITIES.values()}
    asked: list[Any] = []
    with pytest.raises(allm.ValidationError) as refused:
        ask(allm.Engine(**slots, adapter_opts={"capture": asked}))
    assert (refused.value.reason, refused.value.errors, asked) == (reason, errors, [])


def test_the_adapter_is_not_told_to_try_again_itself() -> None:
    calls: list[Any] = []

    def work(_request: Any, call: Any) -> Any:
        calls.append(call)
        return allm.ModerationResponse(results=[CLEAN])

    allm.moderate(
        with_adapter("moderate", made("moderate", work), retry="default"), "a", request_timeout=math.inf
    )
    assert (calls[0].retry, calls[0].request_timeout) == (False, None)


# --- pictures -----------------------------------------------------------------------------------------------------


def test_the_three_ways_to_ask_for_pictures() -> None:
    asked: list[allm.ImageRequest] = []
    other, mask = allm.Image.from_url("https://example.org/b.png"), allm.Image.from_file("mask.png")
    engine = scripted("image", *[script.ok([PICTURE])] * 5, capture=asked)
    allm.generate_image(engine, "a cat", n=2, size=(64, 64), stream=True)
    allm.edit_image(engine, PICTURE, "a hat", mask=mask)
    allm.edit_image(engine, [PICTURE, other], "a hat")
    allm.image_variations(engine, PICTURE)
    allm.generate_image(engine, "")  # nothing is checked before it is sent
    assert asked == [
        allm.ImageRequest(prompt="a cat", n=2, size=(64, 64)),
        allm.ImageRequest(operation="edit", prompt="a hat", input_images=[PICTURE], mask=mask),
        allm.ImageRequest(operation="edit", prompt="a hat", input_images=[PICTURE, other]),
        allm.ImageRequest(operation="variation", input_images=[PICTURE]),
        allm.ImageRequest(prompt=""),
    ]


def test_pictures_are_counted_in_usage_and_in_telemetry() -> None:
    engine = scripted(
        "image", script.ok([PICTURE, PICTURE], usage={"size": "64x64"}), script.error("unknown")
    )
    with measured() as heard:
        response = allm.generate_image(engine, "a cat", n=2)
        with pytest.raises(allm.ImageAdapterError):
            allm.generate_image(engine, "a cat")
    stops = [event for event in heard if event.name == "allm.image.stop"]
    assert response.usage == allm.ImageUsage(images=2, size="64x64")
    assert [event.measurements["image_count"] for event in stops] == [2, 0]
    assert [(e.metadata["operation"], e.metadata["n"]) for e in stops] == [("generate", 2), ("generate", 1)]
    assert [event.metadata["usage"] for event in stops] == [response.usage, None]


def test_an_operation_that_is_not_supported_is_refused_after_it_was_shown() -> None:
    asked: list[Any] = []
    engine = scripted("image", script.ok([PICTURE]), capture=asked, supported_operations=["generate"])
    with pytest.raises(allm.ImageAdapterError) as refused:
        allm.image_variations(engine, PICTURE)
    assert refused.value.reason == "unsupported_operation"
    assert refused.value.metadata["operation"] == "variation"
    assert [request.operation for request in asked] == ["variation"]
    assert allm.generate_image(engine, "a cat").images == [PICTURE]  # the script did not move


@pytest.mark.parametrize(
    ("capabilities", "errors"),
    [
        ({"images_enabled": False}, [(["images_enabled"], "images_disabled")]),
        ({"supported_image_operations": ["edit"]}, [(["operation"], "unsupported_image_operation")]),
        ({"supported_image_operations": ["generate"]}, None),
        ({"supported_image_operations": ("edit",)}, [(["operation"], "unsupported_image_operation")]),
        ({"images_enabled": True}, None),
        ({}, None),
        (None, None),
    ],
    ids=["off", "other", "listed", "other in a tuple", "on", "silent", "none"],
)
def test_a_catalogue_may_know_that_a_model_makes_no_pictures(capabilities: Any, errors: Any) -> None:
    engine = scripted("image", script.ok([PICTURE])).merge(
        image_model=allm.ModelRef(id="m", capabilities=capabilities)
    )
    if errors is None:
        assert allm.generate_image(engine, "a cat").model == "m"
        return
    with pytest.raises(
        allm.ValidationError, match="does not support requested image capabilities"
    ) as refused:
        allm.generate_image(engine, "a cat")
    assert (refused.value.reason, refused.value.errors) == ("unsupported_capability", errors)


# --- costs --------------------------------------------------------------------------------------------------------

PRICES = {"input": 2.0, "output": 8.0}
MILLION = 1_000_000


def costing(name: str, usage: Any, pricing: Any = PRICES) -> Any:
    response = CAPABILITIES[name].response(usage=usage, **FITTING.get(name, {}))
    engine = scripted(name, script.ok(response))
    return CALLS[name](allm, engine, model=allm.ModelRef(id="m", pricing=pricing)).usage


@pytest.mark.parametrize("name", ["image", "transcribe", "classify"])
def test_costs_that_the_provider_does_not_tell_come_from_the_prices_of_the_model(name: str) -> None:
    kind = allm.ImageUsage if name == "image" else allm.Usage
    usage = costing(name, kind(input_tokens=MILLION, output_tokens=MILLION // 2))
    assert (usage.input_cost, usage.output_cost, usage.total_cost) == (2.0, 4.0, 6.0)
    told = costing(name, kind(input_tokens=MILLION, output_tokens=MILLION, input_cost=9.0, total_cost=7.0))
    assert (told.input_cost, told.output_cost, told.total_cost) == (9.0, 8.0, 7.0)
    assert costing(name, kind(input_tokens=MILLION), None).input_cost is None
    assert costing(name, kind()).total_cost is None


@pytest.mark.parametrize("pricing", [{"input": 2.0}, PRICES])
@pytest.mark.parametrize("count", ["input_tokens", "total_tokens"])
def test_vectors_cost_what_was_read(pricing: Any, count: str) -> None:
    usage = costing("embed", allm.Usage(**{count: MILLION}), pricing)
    assert (usage.input_cost, usage.output_cost, usage.total_cost) == (2.0, None, 2.0)
    assert costing("embed", allm.Usage(), pricing).total_cost is None


def test_the_costs_of_all_chunks_are_counted_once_and_measured() -> None:
    chunk = allm.EmbeddingResponse(
        embeddings=[allm.Embedding(vector=[1.0], index=0)], usage=allm.Usage(input_tokens=MILLION)
    )
    engine = in_chunks(1, script.ok(chunk), script.ok(chunk))
    with measured() as heard:
        response = allm.embed(engine, ["a", "b"], model=allm.ModelRef(id="m", pricing={"input": 2.0}))
    assert response.usage.total_cost == 4.0
    assert heard[-1].metadata["usage"] == response.usage


# --- embeddings in chunks -----------------------------------------------------------------------------------------


def in_chunks(size: int, *entries: Any, **options: Any) -> allm.Engine:
    from allm_actors.engine.fakes import FakeEmbeddings

    opts = {"embed_script": list(entries), **options} if entries else options
    return allm.Engine(embed_adapter=FakeEmbeddings(size), adapter_opts=opts, retry=QUICK)


def test_many_texts_are_sent_in_chunks_and_come_back_in_order() -> None:
    texts = [f"text {at}" for at in range(250)]
    asked: list[Any] = []
    response = allm.embed(in_chunks(100, capture=asked), texts)
    assert [len(request.input) for request in asked] == [100, 100, 50]
    assert [each.index for each in response.embeddings] == list(range(250))
    assert response.vectors() == allm.embed(in_chunks(1000), texts).vectors()
    assert response.usage.input_tokens == 500
    assert response.metadata == {"chunk_count": 3}


def test_a_chunk_that_fails_says_how_much_was_done() -> None:
    one = script.ok([[1.0]])
    with pytest.raises(allm.EmbeddingAdapterError) as failed:
        allm.embed(in_chunks(1, one, one, script.error("invalid_request")), ["a", "b", "c"])
    done = {name: failed.value.metadata[name] for name in ("completed_chunks", "completed_inputs")}
    assert done == {"completed_chunks": 2, "completed_inputs": 2}


def test_each_chunk_has_attempts_of_its_own() -> None:
    entries = [script.retry_until_call(3), script.ok([[1.0]])] * 3
    assert allm.embed(in_chunks(1, *entries), ["a", "b", "c"]).vectors() == [[1.0]] * 3


# --- answers that are none ----------------------------------------------------------------------------------------

VECTORS = [allm.Embedding(vector=[1.0], index=index) for index in range(3)]
YES = allm.ClassificationAnswer(type="choice", choice="support")
NO_ANSWERS = {
    "no vector": ("embed", {"embeddings": []}, "0 vectors for 2 inputs"),
    "a vector too few": ("embed", {"embeddings": VECTORS[:1]}, "1 vectors for 2 inputs"),
    "a vector too many": ("embed", {"embeddings": VECTORS}, "3 vectors for 2 inputs"),
    "one place twice": ("embed", {"embeddings": [VECTORS[1]] * 2}, r"2 vectors at \[1, 1\] for 2 inputs"),
    "a place of nobody": ("embed", {"embeddings": VECTORS[1:]}, r"at \[1, 2\]"),
    "a place that is none": (
        "embed",
        {"embeddings": [allm.Embedding(vector=[1.0], index=[at]) for at in range(2)]},  # type: ignore[arg-type]
        r"at \[\[0\], \[1\]\]",
    ),
    "an empty vector": (
        "embed",
        {"embeddings": [VECTORS[0], allm.Embedding(vector=[], index=1)]},
        "its vector at 1 is empty",
    ),
    "lists": ("embed", {"embeddings": [[1.0], [2.0]]}, "not a list of Embedding"),
    "nothing of vectors": ("embed", {"embeddings": None}, "not a list of Embedding"),
    "no verdict": ("moderate", {"results": []}, "0 verdicts for 1 items"),
    "a verdict too many": ("moderate", {"results": [CLEAN, CLEAN]}, "2 verdicts for 1 items"),
    "a verdict without one": (
        "moderate",
        {"results": [allm.ModerationResult(flagged=None)]},
        "True or False",
    ),
    "a verdict in another place": (
        "moderate",
        {"results": [allm.ModerationResult(flagged=True, index=7)]},
        r"its verdicts are at \[7\]",
    ),
    "dicts": ("moderate", {"results": [{"flagged": True}]}, "not a list of ModerationResult"),
    "no answer": ("classify", {"answers": {}}, r"questions without an answer: \['team'\]"),
    "an answer to nothing": (
        "classify",
        {"answers": {"team": YES, "age": YES}},
        r"questions that were not asked: \['age'\]",
    ),
    "no option": (
        "classify",
        {"answers": {"team": allm.ClassificationAnswer(type="choice", choice="sales")}},
        "must be one of billing, support, got: 'sales'",
    ),
    "a list of answers": ("classify", {"answers": [YES]}, "not a dict"),
}


@pytest.mark.parametrize(("name", "fields", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_answers_something_else_is_no_answer(name: str, fields: dict[str, Any], words: str) -> None:
    capability, asked = CAPABILITIES[name], []

    def work(request: Any, _call: Any) -> Any:
        asked.append(request)
        return capability.response(**fields)

    with pytest.raises(capability.error, match=words) as refused:
        CALLS[name](allm, with_adapter(name, made(name, work)))
    assert refused.value.reason == "malformed_response"
    assert len(asked) == 1  # it would cost again


def test_a_chunk_whose_vectors_are_not_its_own_says_how_far_it_came() -> None:
    class Short:
        """Has one vector, whatever it is asked for."""

        name = "short"

        def embed(self, request: Any, _call: Any) -> Any:
            return allm.EmbeddingResponse(embeddings=VECTORS[:1])

        def max_batch_size(self) -> int:
            return 2

    with pytest.raises(allm.EmbeddingAdapterError, match="1 vectors for 2 inputs") as refused:
        allm.embed(with_adapter("embed", Short()), ["a", "b", "c"])
    assert refused.value.metadata["completed_inputs"] == 0
    assert refused.value.provider == "short"


def test_texts_and_a_picture_are_judged_as_one() -> None:
    both = ["a cat", allm.ImagePart(image=PICTURE)]
    adapter = made("moderate", lambda _request, _call: allm.ModerationResponse(results=[CLEAN]))
    assert allm.moderate(with_adapter("moderate", adapter), both).results == [CLEAN]


class Truth:
    """As NumPy's: a truth of another type."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == other

    __hash__ = None  # type: ignore[assignment]


def test_the_numbers_of_other_libraries_are_numbers() -> None:
    ask = allm.ClassificationQuestion
    questions = {
        "n": ask.choice("How many?", {1: None, 2: None}),
        "p": ask.yes_no("?"),
        "s": ask.score("?", ["low", "middle", "high"]),
        "z": ask.score("?", ["low", "high"]),
    }
    answers = {
        "n": allm.ClassificationAnswer(type="choice", choice=2),  # type: ignore[arg-type]
        "p": allm.ClassificationAnswer(type="yes_no", yes_probability=Fraction(1, 3)),  # type: ignore[arg-type]
        "s": allm.ClassificationAnswer(type="score", score=2.0000000001),
        "z": allm.ClassificationAnswer(type="score", score=-0.0000000001),
    }
    adapter = made("classify", lambda _request, _call: allm.ClassificationResponse(answers=answers))
    assert allm.classify(with_adapter("classify", adapter), "x", questions).answers == answers
    verdict = allm.ModerationResult(flagged=Truth(True))  # type: ignore[arg-type]
    adapter = made("moderate", lambda _request, _call: allm.ModerationResponse(results=(verdict,)))  # type: ignore[arg-type]
    assert allm.moderate(with_adapter("moderate", adapter), "x").flagged()
