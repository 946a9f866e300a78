"""Scenes, which say what a provider does in one law, and stages, which give the law access to it.

Rule of this file: a scene says what happens, never how; the implementation of `stage` makes it happen. A
scene records which of its fields were read: if the stage has not read the field that a law is about, the law
is skipped, not failed.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event as ThreadEvent
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias
from unittest import SkipTest

from allm_actors.data import AdapterError, FinishReason, ToolCall, Usage, ValidationError
from allm_actors.engine.engine import Engine
from allm_actors.engine.retry import next_delay, policy_of

__all__ = [
    "AGAIN",
    "ATTEMPTS",
    "QUESTION",
    "REFUSALS",
    "REQUEST_ID",
    "SPECIAL",
    "STATUSES",
    "Ending",
    "Looked",
    "Scene",
    "Stage",
    "because_of",
    "ends",
    "is_refusal",
    "on_stage",
    "require",
    "says",
    "skip",
    "skip_if_used_up",
    "skip_if_worth_a_retry",
    "skip_unless_played",
    "soon",
    "worth_a_retry",
]

Ending: TypeAlias = Literal["stop", "tool_calls"]
"""How a whole answer ends."""
QUESTION = "Hello?"
REQUEST_ID = "req-conformance"
ATTEMPTS = 3
AGAIN = {"max_attempts": ATTEMPTS, "base_delay": 0.0, "jitter": 0.0}
"""The `retry` of the laws that count requests: twice more, at once, for once more is easily a habit of an adapter's."""
REFUSALS = frozenset({"unsupported_capability", "unsupported_feature"})
SPECIAL = ("Olá,\n世", "界 🎉\tisto é\n\n", '"tudo"', "\u2028é\u2029o\x85mundo\r.")
"""Pieces of a text with all that is lost easily: other letters than ASCII's, one beyond the first 65536, line ends, and
what Python's `splitlines` takes for one, though JSON may have it in a text."""
STATUSES = {
    "authentication_failed": 401,
    "rate_limited": 429,
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "unsupported_feature": 400,
    "provider_unavailable": 503,
    "unknown": 418,
}
"""The HTTP status that a provider refuses with, by the reason that becomes of it."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The base of scenes; the names of fields that were read are in `looked_at`."""

    looked_at: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    if not TYPE_CHECKING:  # a type checker would believe that a scene has every name

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_") and name != "looked_at":
                self.looked_at.add(name)
            return object.__getattribute__(self, name)


@dataclass(frozen=True, kw_only=True)
class Scene(Looked):
    """What the provider does when it gets a request."""

    kind: Literal["answers", "refuses", "breaks", "stalls"]
    """`answers` says all of it; `refuses` fails before anything is said; `breaks` says the first piece of `text`, and
    fails; `stalls` says the first piece, and nothing more, for ever."""
    text: tuple[str, ...] = ("Hello ", "there, ", "you.")
    """The pieces that it says, in order, each on its own; one may be empty, and beside calls there may be none."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that it makes after the text, in order; where your format has no ids, theirs are for nothing. Of the
    arguments of one that has none, say what your provider says: an empty text, nothing at all, or `{}`."""
    raw_arguments: str | None = None
    """Of `tool_calls`: the text that the model wrote for the arguments of each, in place of theirs; no JSON object.
    Skip what your provider could not send, such as half a text where arguments are a part of its own JSON."""
    interleaved: bool = False
    """Of `tool_calls`: they are written at the same time, a fragment of each in turn. Skip it where calls cannot be."""
    usage: Usage | None = None
    """What it says that the answer took: `input_tokens` and `output_tokens`. None: nothing needs to be said."""
    finish_reason: FinishReason = "stop"
    """Why its answer ends, in the library's words; say it in the provider's: `stop`, `length`, `tool_calls` or
    `content_filter`."""
    reason: str | None = None
    """What `AdapterError.reason` must say of the failure; None where nothing fails. In the middle, `network_error` is a
    connection that breaks, and `malformed_response` garbage among the pieces, after which the answer goes on."""
    unfinished: bool = False
    """Of a `network_error` in the middle: nothing breaks, and what is sent ends in good order, but without the mark
    that the provider's answers end with."""
    gateway: bool = False
    """Of a refusal: a gateway in front of the provider says it, with `status` and a page of HTML for its words."""
    retry_after_ms: int | None = None
    """How long the failure asks to wait, in milliseconds, which the error must carry; None: it does not say."""
    request_id: str | None = None
    """The id of the call, for providers that are scripts: an adapter knows it from `call.request_id`."""

    @property
    def status(self) -> int | None:
        """The HTTP status of a refusal; None for what no status says, such as a timeout."""
        return STATUSES.get(self.reason or "")

    def __str__(self) -> str:
        return self.kind if self.reason is None else f"{self.kind}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A provider that is ready to play a scene; requests are counted at the provider, not in the adapter."""

    engine: Engine
    """An engine whose adapter is the one to be tried, in its slot, with all that it needs: a URL, a key."""
    requests: Callable[[], int] | None = None
    """How many requests have arrived; where only `sent` is given, that many."""
    cleanups: Callable[[], int] | None = None
    """How many answers were let go before their end."""
    connections: Callable[[], int] | None = None
    """How many connections to the provider are open now."""
    sent: Callable[[], Sequence[Any]] | None = None
    """What has arrived, one item for each request: bytes, a text or JSON, in which its words can be found."""
    key: str | None = None
    """The key that the adapter has, from wherever it has it. The library hides that of a call."""
    keys: Callable[[], Sequence[str]] | None = None
    """The key that each request has arrived with, as it came, such as the value of a header, `Bearer …`."""

    @property
    def counts(self) -> bool:
        """Whether it is known how many requests have arrived."""
        return self.requests is not None or self.sent is not None

    def asked(self) -> int:
        """How many requests have arrived. Skips the law where the stage does not count them."""
        if self.requests is not None:
            return self.requests()
        if self.sent is None:
            skip(
                "give Stage(requests=…): a function that says how many requests have arrived at your provider"
            )
        return len(self.sent())

    def last_sent(self) -> str:
        """The last request, as a text. Skips the law where the stage does not keep what was sent."""
        return _as_text(self._kept()[-1])

    def each_sent(self) -> list[str]:
        """The requests, each as a text."""
        return [*map(_as_text, self._kept())]

    def all_sent(self) -> str:
        """All requests, as a text: what belongs to one call may be sent with several."""
        return "\n".join(self.each_sent())

    def last_key(self) -> str:
        """The key of the last request. Skips the law where the stage does not look at keys."""
        if self.keys is None:
            skip("give Stage(keys=…): a function that returns the key of each request that has arrived")
        keys = self.keys()
        assert keys, (
            "Stage.keys() is empty after a call: it must have an item for each request that has arrived"
        )
        return keys[-1]

    def holds(self, data: bytes) -> bool:
        """Whether bytes have arrived, as they are or in Base64. Skips the law where the stage keeps nothing."""
        as_text = data.decode(errors="replace").encode()
        ways = (data, as_text, *(coded(data).rstrip(b"=") for coded in _BASE64))
        return any(way in sent for sent in map(_as_bytes, self._kept()) for way in ways)

    def _kept(self) -> Sequence[Any]:
        if self.sent is None:
            skip(
                "give Stage(sent=…): a function that returns what has arrived at your provider, request by "
                "request"
            )
        sent = self.sent()
        assert sent, (
            "Stage.sent() is empty after a call: it must have an item for each request that has arrived"
        )
        return sent


_BASE64 = (base64.b64encode, base64.urlsafe_b64encode)


def _as_bytes(sent: Any) -> bytes:
    if isinstance(sent, bytes | bytearray):
        return bytes(sent)
    text = sent if isinstance(sent, str) else json.dumps(sent, default=_in_base64, ensure_ascii=False)
    return text.encode(errors="replace")


def _in_base64(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else str(value)


def _as_text(sent: Any) -> str:
    if isinstance(sent, bytes | bytearray):
        return sent.decode(errors="replace")
    return sent if isinstance(sent, str) else json.dumps(sent, default=str, ensure_ascii=False)


def says(sent: str, word: str) -> bool:
    """Whether a request has a word in it, as it is or as JSON writes it."""
    escaped = json.dumps(word)[1:-1]
    capitals = re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), escaped)
    ways = (word, json.dumps(word, ensure_ascii=False)[1:-1], escaped, capitals)
    return any(each in sent for each in ways)


def skip(why: str) -> NoReturn:
    """End the law as skipped; pytest and unittest both know this exception."""
    raise SkipTest(why)


@contextmanager
def on_stage(stage: AbstractContextManager[Stage], scene: Scene) -> Iterator[Stage]:
    """The stage for the time of a block. Skips the law where it takes the first piece of a text, and there is none."""
    with ExitStack() as stack:
        try:
            entered = stack.enter_context(stage)
        except (IndexError, ValueError) as error:
            if scene.text:
                raise
            skip(f"your stage cannot play an answer without a text, scene.text=(): {error}")
        yield entered


def require(held: bool, scene: Looked, name: str, message: str) -> None:
    """Fail with the message unless `held`; skip if the stage has not read the field that the law is about."""
    if held:
        return
    if name not in scene.looked_at:
        skip(
            f"{message}. Or your stage does not play it, because it never looks at scene.{name}: make your "
            "provider do what that says, so that this law can be tested"
        )
    raise AssertionError(message)


def skip_unless_played(scene: Looked, name: str) -> None:
    """Skip the law about a field of the scene that the stage has not read."""
    if name not in scene.looked_at:
        skip(
            f"your stage does not play it, because it never looks at scene.{name}: make your provider do what that "
            "says, so that this law can be tested"
        )


def ends(scene: Looked, said: FinishReason | None, error: object, wanted: Ending = "stop") -> None:
    """Check that an answer that the provider sent whole has come back whole: so ended, and without an error."""
    message = (
        f"the provider sent a whole answer, but it ended with {said!r} instead of {wanted!r}{because_of(error)}: yield "
        f"a MessageCompleted with finish_reason={wanted!r}, and no error"
    )
    if wanted == "stop" or error is not None:
        assert (said, error) == (wanted, None), message
    require(said == wanted, scene, "finish_reason", message)


def because_of(error: object) -> str:
    """An answer's error, for the text of a failure; nothing where it has none."""
    return "" if error is None else f", because of {error!r}"


def is_refusal(error: Exception, wish: str, asked: int) -> bool:
    """Whether the error says that the adapter cannot send the wish, as it may, provided that it has sent nothing."""
    if isinstance(error, AdapterError | ValidationError):
        return error.reason in REFUSALS or (error.reason == "invalid_request" and asked == 0)
    return asked == 0 and wish in str(error)


def worth_a_retry(error: AdapterError) -> bool:
    """Whether a policy of more than one attempt makes the second one after this error."""
    return next_delay(policy_of(AGAIN), 1, error, 0.0) is not None


def skip_if_worth_a_retry(count: int, error: AdapterError) -> None:
    """Skip the law where a refused key was tried again because the stage says it with such a status."""
    if count > 1 and worth_a_retry(error):
        skip(
            f"your stage refuses a key with HTTP {error.status}, for which the library tries again: use "
            "scene.status"
        )


def skip_if_used_up(error: Exception) -> None:
    """Skip the law where a scripted stage has a script for the first of its calls alone."""
    if getattr(error, "reason", None) == "no_scripted_response":
        skip("your stage plays a script for one call, but this law makes two: give it `scripts`")


def soon(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether `condition()` holds within so many seconds."""
    deadline, pause = time.monotonic() + seconds, ThreadEvent()
    while not condition():
        if time.monotonic() >= deadline:
            return False
        pause.wait(0.002)
    return True
