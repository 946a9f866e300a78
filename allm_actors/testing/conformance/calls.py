"""Laws for adapters of every capability besides chat: the simplest answer, every failure, and the number of requests.

Rule of this file: a law is a test method whose name states it. The adapter is used as its users do, through
the facade. If a provider never does what a scene says, its `stage` skips the law with `pytest.skip`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from allm_actors.data import AdapterError, ClassificationAnswer, ModerationResult, ValidationError
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.engine import Engine

from .bounded import IF_AN_ADAPTER_HANGS, Bounded
from .made import ANSWERS, CLIP, TRANSCRIPT, VECTORS, VERDICTS, pictures_of
from .scenes import (
    AGAIN,
    ATTEMPTS,
    STATUSES,
    Looked,
    Stage,
    is_refusal,
    require,
    says,
    skip,
    skip_if_used_up,
    skip_if_worth_a_retry,
)

__all__ = ["CallScene", "CallSuite", "TextSuite"]

REQUEST_ID = "req-of-the-suite"
METADATA = {"mine": {"deep": [1, None]}}
NOTE = "for-the-caller-alone"
KEY = "sk-of-the-call-0123456789"
TENANTS = range(4)
"""Those who ask at once."""
LETTERS = "Olá, 世界 🎉"
"""What an input has besides the letters of ASCII."""
LONG = tuple(f"word{number:04}" for number in range(700))
"""A text of 6,000 letters, word by word."""
ONE_ATTEMPT = "make one request, and raise its error: the library tries again, as `retry` says"


@dataclass(frozen=True, kw_only=True)
class CallScene(Looked):
    """What the provider does at every call."""

    reason: str | None = None
    """What the reason of the error must be; None where the provider answers."""
    retry_after_ms: int | None = None
    """How long the failure asks to wait, in milliseconds, which the error must carry; None: it does not say."""
    streamed: bool = False
    """Whether the answer is a stream; one with a reason fails after its first piece. False where a stream is refused:
    then there is no answer."""
    vectors: tuple[tuple[float, ...], ...] = VECTORS
    """Of `EmbeddingSuite`: the vector that the provider makes of each text, in the order of the texts."""
    images: int = 1
    """Of `ImageSuite`: how many pictures the provider makes, at most as many as it is asked for."""
    verdicts: tuple[ModerationResult, ...] = VERDICTS
    """Of `ModerationSuite`: what the provider finds in each text, in the order of the texts; its own words will do."""
    clip: bytes = CLIP
    """Of `SpeechSuite`: the bytes of the clip that the provider makes; of a stream, all of its pieces together."""
    transcript: str = TRANSCRIPT
    """Of `TranscriptionSuite`: what the provider hears; of a stream, all of it together."""
    answers: Mapping[str, ClassificationAnswer] = field(default_factory=lambda: ANSWERS)
    """Of `ClassificationSuite`: what the provider answers to each question, by its id; its own words will do."""

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """Of `ImageSuite`: the bytes of each picture that the provider makes, `images` of them. They are PNGs."""
        return pictures_of(self.images)

    @property
    def kind(self) -> Literal["answers", "refuses", "breaks"]:
        """`answers`; `refuses` with a reason; `breaks` with a reason in the middle of a stream."""
        if self.reason is None:
            return "answers"
        return "breaks" if self.streamed else "refuses"

    @property
    def status(self) -> int | None:
        """The HTTP status of a refusal; None for what no status says, such as a timeout."""
        return STATUSES.get(self.reason or "")

    def __str__(self) -> str:
        return self.kind if self.reason is None else f"{self.kind}: {self.reason}"


class CallSuite(Bounded):
    """The laws that hold for all of them."""

    if_it_hangs = IF_AN_ADAPTER_HANGS
    name: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    """The words of `ask` that must be found in the request that is sent."""
    model: ClassVar[str] = "the-model-of-the-suite"
    """The model that the law about it asks for; another, if your adapter takes only those that it knows."""
    without: ClassVar[tuple[str, ...]] = ()
    """What your provider has no word for and does without. Of embeddings: `truncate`, where it never cuts a text, and
    `task_type`, where its vectors are the same for every task. Of pictures: `quality`, `style` and `background`. Of
    transcripts: `mime_type`, where it finds out by itself what a clip is. The laws about them are skipped."""

    def stage(self, scene: CallScene) -> AbstractContextManager[Engine | Stage]:
        """A context manager that gives a stage whose provider does what the scene says.

        Giving only an engine is enough, but skips the laws that count requests, or read them.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs stage(scene), a context manager of a Stage, or of an Engine"
        )

    def ask(self, engine: Engine, **options: Any) -> Any:
        """The plainest call."""
        raise NotImplementedError

    takes_text: ClassVar[bool] = False
    """Whether `ask_about` asks about its text."""

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:  # noqa: ARG002
        """A call about this text; of what takes no text, the plainest one."""
        return self.ask(engine, **options)

    def test_an_answer_has_the_right_type_and_the_calls_id(self) -> None:
        """And usage, where there is any, is never None."""
        response = self.answered(request_id=REQUEST_ID)
        wanted = CAPABILITIES[self.name].response
        assert isinstance(response, wanted), f"it answered {response!r}, which is not a {wanted.__name__}"
        assert response.request_id == REQUEST_ID, (
            f"the call's id {REQUEST_ID!r} became {response.request_id!r}: leave it out, or give call.request_id"
        )
        assert getattr(response, "usage", 0) is not None, "usage is None: if usage is not known, leave it out"

    def test_metadata_comes_back_unchanged(self) -> None:
        """The caller's own notes are never sent, changed or lost."""
        returned = self.answered(metadata=METADATA).metadata
        assert {name: returned.get(name) for name in METADATA} == METADATA, (
            f"the request's metadata {METADATA} came back as {returned}: respond with metadata=request.metadata"
        )

    def test_what_it_is_asked_about_is_sent(self) -> None:
        """All of it; the caller's own notes are not."""
        with self.ready(CallScene()) as stage:
            self.ask(stage.engine, metadata={"note": NOTE})
            sent = stage.last_sent()
        lost = [word for word in self.words if not says(sent, word)]
        assert not lost, f"{lost} was not sent: the adapter leaves out a part of its input"
        assert NOTE not in sent, (
            "the request's metadata was sent to the provider: it belongs to the caller, and must only be returned"
        )

    def test_the_model_is_sent(self) -> None:
        """The one that the request names."""
        self.sends("model", self.model, self.model)

    def test_other_options_are_sent_or_refused(self) -> None:
        """What the library has no field for is in `request.options`: an adapter that does not read them loses them."""
        self.sends("options", {"seed": 1019}, "1019")

    def test_the_key_of_the_call_is_sent(self) -> None:
        """`call.api_key` comes before a key that is stored: it says whose account pays."""
        with self.ready(CallScene()) as stage:
            self.tries(stage, "api_key", lambda: self.ask(stage.engine, api_key=KEY))
            used = KEY in stage.last_key()  # the other key is nobody's to read: pytest would print it
        assert used, (
            "the call has an api_key, but another key was sent: use call.api_key if there is one, as "
            "allm_actors.engine.keys.fetch(provider, variables, call.api_key) does"
        )

    def test_a_call_knows_nothing_of_the_one_before(self) -> None:
        """Neither its key, nor its input, nor its answer: whoever asks next may be somebody else."""
        with self.ready(CallScene()) as stage:
            self.serves_one_by_one(stage, self.ask_about)

    def test_calls_at_once_are_each_their_own(self) -> None:
        """Of many, each with a key and an input of its own: an adapter serves all of them, and keeps nothing of any."""
        with self.ready(CallScene()) as stage, ThreadPoolExecutor(len(TENANTS)) as pool:
            keyed = self.takes_keys(stage, self.ask)
            self.skip_unless_told_apart(keyed, stage.sent is not None)
            list(pool.map(lambda tenant: self.serves(stage, self.ask_about, tenant, keyed), TENANTS))
            self.has_served(stage, TENANTS, keyed)

    def test_without_retries_it_asks_once(self) -> None:
        """`retry=False` is kept, also where trying again might help."""
        count, _ = self.refused("provider_unavailable", retry=False)
        assert count == 1, f"requests: {count}, for a call with retry=False; {ONE_ATTEMPT}"

    def test_it_never_tries_again_by_itself(self) -> None:
        """The library does, as often as the policy says: an adapter that does, too, multiplies the two."""
        count, _ = self.refused("provider_unavailable", retry=AGAIN)
        assert count == ATTEMPTS, f"requests: {count}, and retry={AGAIN} means {ATTEMPTS}; {ONE_ATTEMPT}"

    def test_a_refused_key_is_not_tried_again(self) -> None:
        """It will not be accepted the next time either."""
        count, error = self.refused("authentication_failed", retry=AGAIN)
        skip_if_worth_a_retry(count, error)
        assert count == 1, f"requests: {count}, with a key that was refused; {ONE_ATTEMPT}"

    def test_a_request_timeout_is_accepted(self) -> None:
        """And does not hurt a call that is quick."""
        assert self.answered(request_timeout=30.0) is not None

    def test_authentication_failed(self) -> None:
        """A key that is not accepted, HTTP 401."""
        self.fails("authentication_failed")

    def test_rate_limited(self) -> None:
        """Too many calls, HTTP 429; how long to wait is kept."""
        error = self.fails("rate_limited", retry_after_ms=500)
        assert error.retry_after_ms == 500, (
            f"the provider asked to wait 500 ms: give retry_after_ms=500 to {error!r}"
        )

    def test_invalid_request(self) -> None:
        """A request that the provider does not understand, HTTP 400."""
        self.fails("invalid_request")

    def test_provider_unavailable(self) -> None:
        """A provider in trouble, HTTP 503."""
        self.fails("provider_unavailable")

    def test_timeout(self) -> None:
        """A provider that takes too long."""
        self.fails("timeout")

    def test_network_error(self) -> None:
        """A connection that breaks."""
        self.fails("network_error")

    def test_malformed_response(self) -> None:
        """An answer that makes no sense."""
        self.fails("malformed_response")

    def test_the_status_of_a_refusal_is_on_the_error(self) -> None:
        """HTTP's, where there is one: who reads a log, or decides what to do, looks for it."""
        scene = CallScene(reason="provider_unavailable")
        with self.ready(scene) as stage:
            error = self.error_of(scene, stage.engine.merge(retry=False))
        wanted = STATUSES["provider_unavailable"]
        message = (
            f"the provider refused with HTTP {wanted}, but the error has status={error.status}: give it that"
        )
        require(error.status == wanted, scene, "status", message)

    def test_the_id_of_the_call_is_on_the_error(self) -> None:
        """So that a log line finds its call."""
        found = self.fails("provider_unavailable").metadata.get("request_id")
        assert found == REQUEST_ID, (
            f"the call's id {REQUEST_ID!r} is {found!r} in the error: leave it out, or give request_id=call.request_id"
        )

    def sends(self, wish: str, value: Any, *words: str) -> None:
        """Check that an option (a "wish") is sent, as one of these words. Skips the law if the adapter refuses it."""
        with self.ready(CallScene()) as stage:
            self.tries(stage, wish, lambda: self.ask(stage.engine, **{wish: value}))
            sent = stage.all_sent().casefold()
        assert any(says(sent, word.casefold()) for word in words), (
            f"{wish}={value!r} was requested, but was not sent: {self.send_or_refuse}"
        )

    def sent_for(self, wish: str, value: Any) -> str:
        """All that is sent of a call with a wish. Skips the law if the adapter refuses it."""
        with self.ready(CallScene()) as stage:
            options = {
                wish: value,
                "request_id": REQUEST_ID,
            }  # one id, so that only the wish makes a difference
            self.tries(stage, wish, lambda: self.ask(stage.engine, **options))
            return stage.all_sent()

    def takes_keys(self, stage: Stage, ask: Callable[..., Any]) -> bool:
        """Whether calls have keys that can be looked at. Skips the law where nothing of a request can."""
        stage.asked()
        if stage.keys is None:
            return False
        return self.refusal(stage, "api_key", lambda: ask(stage.engine, api_key=KEY)) is None

    def skip_unless_told_apart(self, keyed: bool, looks: bool) -> None:
        """Skip the law where one caller's call cannot be told from another's."""
        if not keyed and not (looks and self.takes_text):
            skip(
                "give Stage(keys=…) and Stage(sent=…): functions that return the key of each request that has arrived, "
                "and what has arrived, so that the calls of two callers can be told apart"
            )

    def serves(self, stage: Stage, ask: Callable[..., Any], tenant: int, keyed: bool) -> Any:
        """Make a call about a text of the tenant's, and with its key. Skips the law where a script is used up."""
        own = {"api_key": key_of_tenant(tenant)} if keyed else {}
        try:
            return ask(stage.engine, _text_of(tenant), **own)
        except AdapterError as error:
            skip_if_played_out(error)
            raise

    def serves_one_by_one(self, stage: Stage, ask: Callable[..., Any]) -> None:
        """Check that two calls, one after the other, have each their own."""
        keyed = self.takes_keys(stage, lambda engine, **options: ask(engine, "whose", **options))
        self.skip_unless_told_apart(keyed, stage.counts)
        for tenant in TENANTS[:2]:
            before = stage.asked()
            self.serves(stage, ask, tenant, keyed)
            assert stage.asked() > before, (
                "a second call, with another key or another input, was answered, but nothing was sent: the adapter has "
                "kept the answer to the first one, which belongs to another caller"
            )
            self.has_served(stage, [tenant], keyed)
        if stage.sent is not None:
            assert not says(stage.last_sent(), _text_of(0)), (
                "what the call before was about was sent again with the next one: keep nothing on the adapter"
            )

    def has_served(self, stage: Stage, tenants: Iterable[int], keyed: bool) -> None:
        """Check that the keys and the texts of all of them have arrived."""
        if keyed and stage.keys is not None:
            keys = stage.keys()
            lost = [tenant for tenant in tenants if not any(key_of_tenant(tenant) in key for key in keys)]
            assert not lost, (  # which key was used instead is nobody's to read
                f"the calls number {lost} had keys of their own, but were sent with others: use call.api_key "
                "at each call, and store neither it nor a client that has it on the adapter"
            )
        if stage.sent is not None and self.takes_text:
            sent = stage.all_sent()
            lost = [tenant for tenant in tenants if not says(sent, _text_of(tenant))]
            assert not lost, (
                f"what the calls number {lost} were about was not sent, but that of others in its place: store nothing "
                "of a request on the adapter"
            )

    def skip_if_without(self, wish: str) -> None:
        """Skip the law about what the provider has no word for."""
        if wish in self.without:
            skip(f"this provider has no option for {wish}, as the suite's `without` says")

    @property
    def send_or_refuse(self) -> str:
        """The text of a failure: what an adapter must do with a wish."""
        error = CAPABILITIES[self.name].error.__name__
        return f'send it, or raise {error}("unsupported_feature", …) before anything is sent'

    def tries(self, stage: Stage, wish: str, ask: Callable[[], Any]) -> None:
        """Make a call with a wish, whatever its outcome. Skips the law if the adapter refuses the wish."""
        error = self.refusal(stage, wish, ask)
        if error is not None:
            skip(f"the adapter refuses it, which is allowed: {error}")

    def refusal(self, stage: Stage, wish: str, ask: Callable[[], Any]) -> Exception | None:
        """Make a call with a wish, whatever its outcome; the error with which the adapter refuses the wish, or None."""
        try:
            ask()
        except (AdapterError, ValidationError, TypeError, ValueError) as error:
            asked = stage.asked()
            if is_refusal(error, wish, asked):
                return error
            if not asked:
                raise
        return None

    def answered(self, **options: Any) -> Any:
        """The response of a provider that answers."""
        with self.ready(CallScene()) as stage:
            return self.ask(stage.engine, **options)

    def refused(self, reason: str, *, retry: Any) -> tuple[int, AdapterError]:
        """How many requests a refused call takes, and its error. Skips the law if the stage does not count them."""
        scene = CallScene(reason=reason)
        with self.ready(scene) as stage:
            stage.asked()  # skips at once where nobody counts
            error = self.error_of(scene, stage.engine.merge(retry=retry))
            if stage.sent is not None:
                sent = stage.last_sent()
                lost = [word for word in self.words if not says(sent, word)]
                assert not lost, (
                    f"the last attempt of a call was sent without {lost}: send all of it each time"
                )
            return stage.asked(), error

    def fails(self, reason: str, retry_after_ms: int | None = None) -> AdapterError:
        """The error of a provider that refuses, after checking it."""
        scene = CallScene(reason=reason, retry_after_ms=retry_after_ms)
        with self.ready(scene) as stage:
            return self.error_of(scene, stage.engine.merge(retry=False))

    def error_of(self, scene: CallScene, engine: Engine) -> AdapterError:
        """The error that a call raises, after checking that it is the scene's."""
        return self.raised(scene, lambda: self.ask(engine, request_id=REQUEST_ID))

    def raised(self, scene: CallScene, ask: Callable[[], Any]) -> AdapterError:
        """The error that `ask` raises, after checking that it is the scene's."""
        try:
            answer = ask()
        except AdapterError as raised:
            error = raised
        else:
            raise AssertionError(f"{scene}: it answered {answer!r}")
        wanted = CAPABILITIES[self.name].error
        assert type(error) is wanted, f"{scene}: it failed with {error!r}: raise {wanted.__name__}"
        assert error.reason == scene.reason, f"{scene}: it failed with {error!r}"
        return error

    @contextmanager
    def ready(self, scene: CallScene) -> Iterator[Stage]:
        """The stage, even if `stage` gives only an engine."""
        with self.stage(scene) as given:
            yield given if isinstance(given, Stage) else Stage(engine=given)


class TextSuite(CallSuite):
    """The laws of what is asked about a text."""

    takes_text = True
    whole: ClassVar[dict[str, Any]] = {}
    """The options with which a text must not be cut."""

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """A call about this text."""
        raise NotImplementedError

    def test_a_long_text_is_sent_whole_or_refused(self) -> None:
        """What is cut off is not embedded, judged or spoken, and nobody is told."""
        with self.ready(CallScene()) as stage:
            field = CAPABILITIES[self.name].field
            try:
                self.tries(stage, field, lambda: self.ask_about(stage.engine, " ".join(LONG), **self.whole))
            except AdapterError as error:
                if error.reason != "context_length_exceeded":
                    raise
                skip(f"the adapter refuses it, which is allowed: {error}")
            sent = stage.all_sent()
        lost = [word for word in LONG if word not in sent]
        assert not lost, (
            f"of a text of {len(LONG)} words, {len(lost)} were not sent, from {lost[0]!r} on: {self.send_or_refuse}"
        )


def skip_if_played_out(error: Any) -> None:
    """Skip the law where a scripted stage has a script for the first of its calls alone."""
    skip_if_used_up(error)
    metadata: Any = getattr(error, "metadata", None) or {}
    if str(metadata.get("cause")).startswith("no_scripted_"):
        skip("your stage plays a script for one call, but this law makes several: give it more entries")


def key_of_tenant(tenant: int) -> str:
    return f"sk-of-tenant-{tenant}-0123456789"


def _text_of(tenant: int) -> str:
    return f"a text of tenant {tenant}"
