"""One call that is not streamed: its chunks, its retries, and the merged response.

Rule of this file: pure. It is a sequence inside one process, so it is a generator: it yields the one thing it waits
for (`Ask` or `Pause`) and is sent the outcome (`Answered`, `Failed`, or whether there was time for the
pause). Only embeddings have more than one chunk of inputs: one after the other, each with attempts of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from typing import Any

import msgspec

from allm_actors.data import (
    AdapterError,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    Usage,
)
from allm_actors.engine.retry import RetryPolicy, next_delay

__all__ = ["Answered", "Ask", "Failed", "Pause", "conduct", "patient"]

_WIDER = ("rate_limited", "provider_unavailable", "timeout", "network_error")


@dataclass(frozen=True, slots=True)
class Ask:
    """Call the adapter with this request. `attempt` counts from 1 in each chunk; each chunk has its own deadline."""

    request: Any
    chunk: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, and send back True, or False if the deadline leaves no time for it."""

    seconds: float
    attempt: int
    error: AdapterError


@dataclass(frozen=True, slots=True)
class Answered:
    """The adapter's response."""

    response: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """What the adapter raised, or an error made of it; with `final` it is never retried."""

    error: Exception
    final: bool = False


Plan = Generator[Ask | Pause, Any, Answered | Failed]


def patient(policy: RetryPolicy) -> RetryPolicy:
    """`policy` for calls that can be repeated as a whole: every transient failure is retried."""
    if policy.max_attempts <= 1:
        return policy
    return replace(policy, retry_on=tuple(dict.fromkeys((*policy.retry_on, *_WIDER))))


def conduct(
    request: Any, policy: RetryPolicy, jitter: Callable[[], float], batch_size: int | None = None
) -> Plan:
    """The response to `request`, or the error of the last attempt. That is not raised: its traceback would lead to a
    frame that has it, and such a circle would keep what the adapter was reading.

    `jitter` gives numbers in [0, 1]. Inputs beyond `batch_size` go into further chunks; an error then carries
    `completed_chunks` and `completed_inputs` in its metadata.
    """
    pieces = _pieces(request, batch_size)
    responses: list[Any] = []
    for chunk, piece in enumerate(pieces):
        outcome = yield from _attempts(piece, chunk, policy, jitter)
        if isinstance(outcome, Answered):
            responses.append(outcome.response)
        elif isinstance(outcome.error, AdapterError) and len(pieces) > 1:
            done = {"completed_chunks": chunk, "completed_inputs": sum(len(p.input) for p in pieces[:chunk])}
            return Failed(outcome.error.replaced(metadata={**outcome.error.metadata, **done}))
        else:
            return outcome
    return Answered(responses[0] if len(responses) == 1 else _merged(responses, pieces))


def _attempts(piece: Any, chunk: int, policy: RetryPolicy, jitter: Callable[[], float]) -> Plan:
    for attempt in count(1):
        outcome: Answered | Failed = yield Ask(piece, chunk, attempt)
        if isinstance(outcome, Answered):
            return outcome
        error = outcome.error
        if outcome.final or not isinstance(error, AdapterError):
            return outcome
        delay = next_delay(policy, attempt, error, jitter())
        if delay is None or (yield Pause(delay, attempt, error)) is not True:
            return outcome
    raise AssertionError("counting has no end")


def _pieces(request: Any, size: int | None) -> Sequence[Any]:
    if not isinstance(request, EmbeddingRequest) or size is None or len(request.input) <= size:
        return [request]
    starts = range(0, len(request.input), size)
    return [msgspec.structs.replace(request, input=request.input[at : at + size]) for at in starts]


def _merged(responses: Sequence[EmbeddingResponse], pieces: Sequence[EmbeddingRequest]) -> EmbeddingResponse:
    embeddings: list[Embedding] = []
    offset = 0
    for response, piece in zip(responses, pieces, strict=True):
        embeddings += [msgspec.structs.replace(e, index=e.index + offset) for e in response.embeddings]
        offset += len(piece.input)
    first = responses[0]
    return msgspec.structs.replace(
        first,
        embeddings=embeddings,
        usage=reduce(Usage.plus, (response.usage for response in responses)),
        metadata={**first.metadata, "chunk_count": len(responses)},
    )
