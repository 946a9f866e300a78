"""When a call that is no stream is asked for again, in how many pieces, and what it comes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    Embedding,
    EmbeddingAdapterError,
    EmbeddingRequest,
    EmbeddingResponse,
    EngineError,
    ImageAdapterError,
    ImageRequest,
    ImageResponse,
    Usage,
)
from allm_actors.engine.calls import Answered, Ask, Failed, Pause, conduct, patient
from allm_actors.engine.retry import DEFAULT, NEVER, RetryPolicy

POLICY = patient(RetryPolicy(base_delay=1.0, jitter=0.0))
CAT = ImageRequest(prompt="a cat")
LIMITED = ImageAdapterError("rate_limited")


def run(plan, *news):
    """The steps of a plan that is told these, and its outcome."""
    steps = [plan.send(None)]
    try:
        for each in news:
            steps.append(plan.send(each))  # noqa: PERF401 - those before the end are wanted, too
    except StopIteration as over:
        return steps, over.value
    return steps, None


def test_an_answer_is_the_response():
    response = ImageResponse(id="r")
    assert run(conduct(CAT, POLICY, lambda: 0.0), Answered(response)) == (
        [Ask(CAT, 0, 1)],
        Answered(response),
    )


def test_what_may_pass_is_asked_again_after_a_pause_that_doubles():
    news = [Failed(LIMITED), True, Failed(LIMITED), True, Answered(ImageResponse())]
    steps, outcome = run(conduct(CAT, POLICY, lambda: 0.0), *news)
    assert outcome == Answered(ImageResponse())
    assert steps == [
        Ask(CAT, 0, 1),
        Pause(1.0, 1, LIMITED),
        Ask(CAT, 0, 2),
        Pause(2.0, 2, LIMITED),
        Ask(CAT, 0, 3),
    ]


def test_the_last_attempts_error_is_the_outcome():
    last = Failed(ImageAdapterError("rate_limited", status=429))
    _, outcome = run(conduct(CAT, POLICY, lambda: 0.0), Failed(LIMITED), True, Failed(LIMITED), True, last)
    assert outcome is last


def test_without_time_for_the_pause_the_error_is():
    failed = Failed(LIMITED)
    assert run(conduct(CAT, POLICY, lambda: 0.0), failed, False)[1] is failed


@pytest.mark.parametrize(
    "failed",
    [
        Failed(LIMITED, final=True),
        Failed(ImageAdapterError("invalid_request")),
        Failed(EngineError("missing_key")),
        Failed(TypeError("misuse")),
    ],
    ids=["final", "invalid", "key", "misuse"],
)
def test_some_failures_are_final(failed):
    assert run(conduct(CAT, POLICY, lambda: 0.0), failed)[1] is failed


def test_a_patient_policy_asks_again_for_reasons_too():
    reasons = ("rate_limited", "provider_unavailable", "timeout", "network_error")
    assert set(reasons) <= set(patient(DEFAULT).retry_on)
    assert set(DEFAULT.retry_on) <= set(patient(DEFAULT).retry_on)
    assert patient(NEVER) is NEVER


@given(
    st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=12),
    st.integers(1, 5),
    st.lists(st.booleans(), max_size=6),
)
def test_chunks_are_sent_in_order_and_indices_are_rebased(texts, size, hiccups):
    plan = conduct(EmbeddingRequest(input=texts), POLICY, lambda: 0.0, size)
    sent, news, hiccups = [], None, list(hiccups)
    try:
        while True:
            step = plan.send(news)
            if isinstance(step, Pause):
                news = True
            elif hiccups and hiccups.pop() and step.attempt == 1:
                news = Failed(EmbeddingAdapterError("timeout"))
            else:
                sent += step.request.input
                assert len(step.request.input) <= size
                vectors = [
                    Embedding(vector=[float(ord(t[0]))], index=i) for i, t in enumerate(step.request.input)
                ]
                usage = Usage(input_tokens=len(vectors))
                said = {"region": "eu"}
                news = Answered(EmbeddingResponse(embeddings=vectors[::-1], usage=usage, metadata=said))
    except StopIteration as over:
        response = over.value.response
    assert sent == texts
    assert response.vectors() == [[float(ord(text[0]))] for text in texts]
    assert sorted(each.index for each in response.embeddings) == list(range(len(texts)))
    assert response.usage == Usage(input_tokens=len(texts))
    chunks = -(-len(texts) // size)
    assert response.metadata == {"region": "eu", **({"chunk_count": chunks} if chunks > 1 else {})}


@given(st.integers(2, 6), st.integers(1, 3), st.data())
def test_a_failing_chunk_says_what_was_done(chunks, size, data):
    failing = data.draw(st.integers(0, chunks - 1))
    request = EmbeddingRequest(input=["x"] * (chunks * size))
    error = EmbeddingAdapterError("invalid_request", status=400, metadata={"field": "input"})
    news = [Answered(EmbeddingResponse())] * failing + [Failed(error)]
    _, failed = run(conduct(request, POLICY, lambda: 0.0, size), *news)
    done = {"completed_chunks": failing, "completed_inputs": failing * size}
    assert failed.error.metadata == {"field": "input", **done}
    assert (failed.error.reason, failed.error.status) == ("invalid_request", 400)


def test_usage_that_nobody_spoke_of_stays_unknown():
    answers = [Answered(EmbeddingResponse(usage=Usage(total_tokens=n), raw=n, id=f"r{n}")) for n in (1, 2)]
    _, outcome = run(conduct(EmbeddingRequest(input=["a", "b"]), POLICY, lambda: 0.0, 1), *answers)
    response = outcome.response
    assert response.usage == Usage(total_tokens=3)
    assert (response.raw, response.id) == (1, "r1")


def test_an_error_of_one_chunk_alone_says_nothing_of_chunks():
    failed = Failed(EmbeddingAdapterError("unknown"))
    assert run(conduct(EmbeddingRequest(input=["a"]), POLICY, lambda: 0.0, 1), failed)[1] is failed


def test_what_each_chunk_used_is_added_up():
    one = Usage(input_tokens=3, output_tokens=0, tool_usage={"lookups": 1})
    other = Usage(total_tokens=5, tool_usage={"lookups": 2})
    answers = [Answered(EmbeddingResponse(usage=usage)) for usage in (one, other)]
    _, outcome = run(conduct(EmbeddingRequest(input=["a", "b"]), POLICY, lambda: 0.0, 1), *answers)
    response = outcome.response
    assert response.usage == one.plus(other)
    assert (response.usage.total(), response.usage.tool_usage) == (8, {"lookups": 3})
