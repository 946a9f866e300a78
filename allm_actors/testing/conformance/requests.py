"""Laws of what arrives at the provider: all that the caller said, and as often as the caller's `retry` wants it.

Rule of this file: requests are counted, and read, where they arrive. A stage that does neither skips these laws. What
an adapter cannot send it may refuse, but not leave out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import deepcopy
from typing import Any

from allm_actors import aio
from allm_actors.data import (
    AdapterError,
    AllmError,
    Document,
    DocumentPart,
    Image,
    ImagePart,
    Message,
    Part,
    Response,
    TextPart,
    Tool,
    ToolCall,
    ValidationError,
)
from allm_actors.data.schemas.schema import json_schema
from allm_actors.facade import generate
from allm_actors.testing.loopback import LoopbackServer
from allm_actors.testing.replies import Reply

from .bounded import IF_AN_ADAPTER_HANGS, Bounded
from .made import PDF, pictures_of
from .scenes import (
    AGAIN,
    ATTEMPTS,
    QUESTION,
    REFUSALS,
    SPECIAL,
    Ending,
    Scene,
    Stage,
    ends,
    is_refusal,
    require,
    says,
    skip,
    skip_if_used_up,
    skip_if_worth_a_retry,
    worth_a_retry,
)

__all__ = [
    "CALLS",
    "FORECAST",
    "TIDES",
    "RequestLaws",
    "answer_with_tools",
    "is_whole",
    "may_refuse",
    "question",
    "raise_refusal",
    "whole_answer",
]

FORECAST = Tool(
    name="forecast",
    description="How the weather of a city will be.",
    schema={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
)
TIDES = Tool(name="tides", description="When the water is high.", schema={"type": "object", "properties": {}})
_ROUTE = Tool(
    name="route",
    description="How to sail somewhere.",
    schema={
        "type": "object",
        "properties": {
            "by": {
                "type": "string",
                "enum": ["daylight", "starlight"],
                "description": "What there is to see.",
            },
            "stops": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"lighthouse": {"type": "string"}},
                    "required": ["lighthouse"],
                },
            },
        },
        "required": ["by"],
    },
)
_IN_ROUTE = ("daylight", "starlight", "What there is to see.", "lighthouse")
_FLOCK = {
    "type": "array",
    "items": {"type": "object", "properties": {"plumage": {"type": "string", "enum": ["grey"]}}},
}
_DEEP_FORM = json_schema("flock", {"type": "object", "properties": {"parrots": _FLOCK}})
FORM = json_schema("parrot", {"type": "object", "properties": {"feathers": {"type": "integer"}}})
CALLS = (
    ToolCall(id="call_lisbon", name="forecast", arguments={"city": "Lisbon"}),
    ToolCall(
        id="call_porto",
        name="forecast",
        arguments={
            "city": "São João",
            "days": [1, 2],
            "hour": None,
            "of": {"rain": False, "sun": 0},
        },
    ),
)
_TALK = (
    Message(role="user", content="Where does the parrot live?"),
    Message(role="assistant", content="In the lighthouse."),
    Message(role="user", content="And who feeds it?"),
    Message(role="user", content="Or does it fish by itself?"),
)
_KEYS = ("first-tenant-0123456789-abcdef", "other-tenant-0123456789-abcdef")
_TENANTS = tuple(f"tenant-{number}" for number in range(8))
"""Callers at once: so many that some begin before the first of them has been asked for, on whatever machine."""
_KEY_OF = "key-of-{}-0123456789-abcdef"
_WAIT_MS = 300
_EARLY = 0.8
"""The part of a wait after which it counts as waited for: clocks are coarse on some systems."""
_SYSTEM = Message(role="system", content="Answer like a pirate.")
_SYSTEM_TOO = Message(role="system", content="Never swear.")


class RequestLaws(Bounded):
    """The laws of an adapter's requests; a part of `AdapterSuite`."""

    if_it_hangs = IF_AN_ADAPTER_HANGS

    model = "the-model-of-the-suite"
    """The model that the laws about it ask for; another, if your adapter takes only those that it knows."""

    def stage(self, scene: Scene) -> AbstractContextManager[Stage]:
        """The scene, for the time of a `with` block. Skip with `pytest.skip` what your provider never does."""
        raise NotImplementedError(f"{type(self).__name__} needs stage(scene), a context manager of a Stage")

    def test_without_retries_it_asks_once(self) -> None:
        """`retry=False` is kept, also where trying again might help."""
        count, _ = self.refused("provider_unavailable", retry=False)
        assert count == 1, (
            f"requests: {count}, for a call with retry=False; try again only if "
            "next_delay(policy_of(call.retry), attempt, error, jitter) returns a delay"
        )

    def test_it_asks_as_often_as_the_policy_says(self) -> None:
        """An overloaded provider is asked three times, if that is what the caller wants, and so in the next call."""
        scene, before = Scene(kind="refuses", reason="provider_unavailable"), 0
        with self.stage(scene) as stage:
            stage.asked()  # skips at once where nobody counts
            for call in ("", " of the second call: count the attempts of each call by themselves"):
                error = _refusal(scene, stage, retry=AGAIN)
                before, count = stage.asked(), stage.asked() - before
                wanted = ATTEMPTS if worth_a_retry(error) else 1
                assert count == wanted, (
                    f"requests: {count}, and retry={AGAIN} means {wanted} for {error!r}{call}; the adapter itself must "
                    "try again, after the delay that next_delay(policy_of(call.retry), attempt, error, jitter) returns"
                )

    def test_every_attempt_is_the_whole_request(self) -> None:
        """What the first one asked, and with the same key: the second one is what is answered."""
        scene = Scene(kind="refuses", reason="provider_unavailable")
        with self.stage(scene) as stage:
            options = {} if stage.keys is None else {"api_key": _KEYS[0]}
            _refusal(scene, stage, retry=AGAIN, **options)
            sent, keys = stage.each_sent(), [] if stage.keys is None else stage.keys()
        asked = [says(each, QUESTION) for each in sent]
        assert all(asked), (
            f"the question is in these attempts of one call: {asked}; send the whole request again, with its body"
        )
        same = [_KEYS[0] in key for key in keys]
        assert all(same), (
            f"the key of the call is in these of its attempts: {same}; use keys.fetch(name, variables, call.api_key) "
            "for all of them"
        )

    def test_a_refused_key_is_not_tried_again(self) -> None:
        """It will not be accepted the next time either."""
        count, error = self.refused("authentication_failed", retry=AGAIN)
        skip_if_worth_a_retry(count, error)
        assert count == 1, (
            f"requests: {count}, with a key that was refused; next_delay() returns None for such an error, so "
            "report the error and do not ask again"
        )

    def test_it_waits_as_long_as_the_provider_asks(self) -> None:
        """`Retry-After`, before it asks again: who comes back earlier is refused once more, and in the end shut out."""
        scene = Scene(kind="refuses", reason="rate_limited", retry_after_ms=_WAIT_MS)
        with self.stage(scene) as stage:
            stage.asked()  # skips at once where nobody counts
            began = time.monotonic()
            error = _refusal(scene, stage, retry=AGAIN | {"max_attempts": 2})
            took, count = (time.monotonic() - began) * 1000, stage.asked()
        if count < 2:
            skip(
                "it was not asked again; test_it_asks_as_often_as_the_policy_says checks whether it should "
                "have been"
            )
        message = (
            f"the provider asked to wait {_WAIT_MS} ms, but was asked again within {took:.0f}: wait as long as "
            f"next_delay(policy_of(call.retry), attempt, error, jitter) says for {error!r}, and set its "
            "retry_after_ms"
        )
        require(took > _WAIT_MS * _EARLY, scene, "retry_after_ms", message)

    def test_the_key_of_the_call_is_sent(self) -> None:
        """The one that is given as `api_key=`, at each call: with a key that is kept, somebody else pays."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            for key in _KEYS:
                whole_answer(stage, scene, [question()], api_key=key)
                sent = key in stage.last_key()  # the other key is nobody's to read: pytest would print it
                assert sent, (
                    "a call was given its own key, but another key arrived: use keys.fetch(name, variables, "
                    "call.api_key) at each call, and keep no client that holds a key"
                )

    def test_the_model_is_sent(self) -> None:
        """The one that the request names; where it names none, that of the adapter or of the provider."""
        self.finds([question()], [self.model], "request.model")
        with self.stage(Scene(kind="answers")) as stage:
            if stage.engine.model is not None:
                return
            with suppress(AllmError, TypeError, ValueError):  # an adapter may well refuse it
                generate(stage.engine, [question()])
            sent = stage.last_sent() if stage.asked() else ""
        assert '"None"' not in sent, (
            'the request names no model, and "None" was sent for it: send none, or a model of your own, or raise '
            'EngineError("missing_model")'
        )

    def test_the_whole_conversation_is_sent(self) -> None:
        """What the system says, and what was said before, in its order."""
        sent = self.finds(
            [_SYSTEM, *_TALK], [str(each.content) for each in (_SYSTEM, *_TALK)], "the messages"
        )
        _in_order(sent, [str(each.content) for each in _TALK], "the messages", "of request.messages")

    def test_every_system_message_is_sent(self) -> None:
        """The words of a host, and those of whoever uses it."""
        told = [_SYSTEM, _SYSTEM_TOO]
        self.finds([*told, question()], [str(each.content) for each in told], "one of two system messages")

    def test_a_text_is_sent_to_its_last_letter(self) -> None:
        """Other letters than ASCII's, and line ends."""
        said = Message(role="user", content="".join(SPECIAL))
        self.finds([said], [str(said.content)], "letters of a text, or its line ends,")

    def test_parts_of_text_are_sent_or_refused(self) -> None:
        """A message's content may be a list of parts, whoever says it; their order is that of a sentence."""
        texts = ["What a parrot says", "is not what it means."]
        sent = self.finds([_in_parts("user", *texts)], texts, "TextParts of a message's content")
        _in_order(sent, texts, "the TextParts of a message", "of its content")
        told, answered = (
            ["Speak like a pirate,", "and be brief."],
            ["The tide is high,", "and so is the parrot."],
        )
        talk = [_in_parts("system", *told), question(), _in_parts("assistant", *answered), question()]
        sent = self.finds(talk, [*told, *answered], "TextParts of a system's or an assistant's message")
        for parts in (told, answered):
            _in_order(sent, parts, "the TextParts of a message", "of its content")

    def test_a_picture_is_sent_or_refused(self) -> None:
        """Its bytes, or a model talks of a picture that it has not seen."""
        (data,) = pictures_of(1)
        sent = self.finds_bytes([_beside("What is this?", _picture(data))], data)
        _is_of_type(sent, "image/png", "image/jpeg", "application/pdf")

    def test_every_picture_of_a_conversation_is_sent_or_refused(self) -> None:
        """All of a message, and those of the messages before it."""
        first, second, third = pictures_of(3)
        talk = [
            _beside("Here are two parrots.", _picture(first), _picture(second)),
            Message(role="assistant", content="They are beautiful."),
            _beside("And this is the third one.", _picture(third)),
        ]
        self.finds_bytes(talk, first, second, third)

    def test_a_picture_at_a_url_is_sent_or_refused(self) -> None:
        """Its URL, for the provider to fetch it, or the bytes, which the adapter has fetched itself."""
        (data,), scene = pictures_of(1), Scene(kind="answers")
        response: Response | None = None
        shown = Reply(headers={"content-type": "image/png"}, body=data)
        with LoopbackServer(lambda _request: shown) as web, self.stage(scene) as stage:
            url = f"{web.url}/parrot.png"
            messages = [_beside("What is this?", ImagePart(image=Image.from_url(url)))]
            try:
                response = generate(stage.engine, messages, model=self.model)
                error: object = response.metadata.get("error")
            except (AllmError, TypeError, ValueError) as refused:
                error = refused
            if error is not None and not stage.asked():
                skip(f"the adapter sends no picture at this URL, which is allowed: {error}")
            assert response is not None, f"the request was sent, but the call raised {error!r}"
            is_whole(scene, response)
            held = says(stage.all_sent(), url) or stage.holds(data)
        assert held, (
            "neither the URL of a message's ImagePart nor its bytes are in what was sent: send one of them, or raise "
            'ValidationError("unsupported_capability", …) in stream(), before anything is sent'
        )

    def test_a_document_is_sent_or_refused(self) -> None:
        """Its bytes, and that they are those of a document."""
        document = DocumentPart(document=Document.from_bytes(PDF, "application/pdf", "tides"))
        sent = self.finds_bytes([_beside("What is this?", document)], PDF)
        _is_of_type(sent, "application/pdf", "image/png", "image/jpeg")

    def test_max_tokens_are_sent_or_refused(self) -> None:
        """Whoever says how long an answer may be pays for each of its words."""
        self.finds([question()], ["1021"], "request.max_tokens, which is 1021", max_tokens=1021)

    def test_the_temperature_is_sent_or_refused(self) -> None:
        """A model that is asked another way than the caller wants looks no different."""
        self.finds([question()], ["0.625"], "request.temperature, which is 0.625", temperature=0.625)

    def test_other_options_are_sent_or_refused(self) -> None:
        """What the library has no field for is in `request.options`: an adapter that does not read them loses them."""
        self.finds([question()], ["1019"], "request.options, which has seed=1019", seed=1019)
        end = "the end of the tide"
        self.finds([question()], [end], f"request.options, which has stop=[{end!r}]", stop=[end])

    def test_tools_are_sent_or_refused(self) -> None:
        """Their names, descriptions and parameters: a model must not answer as if it had none."""
        words = [FORECAST.name, FORECAST.description, "days"]
        self.finds([question()], words, "request.tools", tools=[FORECAST])
        tools, words = [FORECAST, TIDES, _ROUTE], [TIDES.name, TIDES.description, _ROUTE.name, *_IN_ROUTE]
        self.finds([question()], words, "one of three request.tools, or a part of its schema", tools=tools)

    def test_the_form_of_the_answer_is_sent_or_refused(self) -> None:
        """A program reads the answer; a text in the place of its fields is none."""
        self.finds([question()], ["feathers"], "request.response_format", response_format=FORM)
        what = "a part of the schema of request.response_format"
        self.finds([question()], ["parrots", "plumage", "grey"], what, response_format=_DEEP_FORM)

    def test_a_tool_that_must_be_called_is_sent_or_refused(self) -> None:
        """`tool_choice` with a tool's name: a model that may choose chooses another one, or none."""
        tools = [FORECAST, TIDES]
        free = self.finds([question()], [TIDES.name], "request.tools", tools=tools)
        forced, other = (
            self.finds([question()], [name], "request.tools", tools=tools, tool_choice=name)
            for name in (TIDES.name, FORECAST.name)
        )
        told = [(sent.count(TIDES.name), sent.count(FORECAST.name)) for sent in (free, forced, other)]
        assert told[0] != told[1], (
            f"tool_choice={TIDES.name!r} is not in what was sent: the adapter leaves out request.tool_choice; "
            'send it, or raise ValidationError("unsupported_capability", …) in stream(), before anything is sent'
        )
        assert told[1] != told[2], (
            f"tool_choice={TIDES.name!r} was sent like tool_choice={FORECAST.name!r}: the adapter forces one of the "
            "tools, and not the one that is named"
        )

    def test_a_call_knows_nothing_of_the_one_before(self) -> None:
        """An adapter is shared by all calls: what one of them asked, or was told, is not for the next."""
        scene, secret = Scene(kind="answers"), "My name is Polly."
        with self.stage(scene) as stage:
            first = whole_answer(stage, scene, [Message(role="user", content=secret)])
            second = whole_answer(stage, scene, [question()])
            sent = stage.last_sent() if stage.sent is not None else ""
        assert first.text() == second.text(), (
            f"the provider gave the same answer twice, but {first.text()!r} and then {second.text()!r} came "
            "back: store nothing of a call on the adapter"
        )
        assert secret not in sent, (
            "the content of another call was sent: store nothing of a call on the adapter"
        )

    def test_an_option_of_a_call_is_that_calls_own(self) -> None:
        """`adapter_opts` of one call are not for the next: it would ask at an address that its caller never gave."""
        scene, gone = Scene(kind="answers"), Reply(status=503, body=b"It moved.")
        with self.stage(scene) as stage, LoopbackServer(lambda _request: gone) as other:
            options = stage.engine.adapter_opts
            if "base_url" not in options:
                skip(
                    "give the URL of your provider in Engine(adapter_opts={'base_url': …}), if it may be given there"
                )
            with suppress(AllmError, TypeError, ValueError):
                elsewhere = {**options, "base_url": other.url}
                generate(stage.engine.merge(retry=False), [question()], adapter_opts=elsewhere)
            response = generate(stage.engine.merge(retry=False), [question()])
        assert response.finish_reason == "stop", (
            "a call failed after another one that was given a base_url of its own "
            f"({response.metadata.get('error')!r}): read call.options at each call, and store nothing of them"
        )

    def test_calls_at_once_are_told_apart(self) -> None:
        """An adapter is shared by all calls: each asks its own question, with its own key, and gets an answer."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            made = [
                (
                    [Message(role="user", content=f"{name} asks.")],
                    {} if stage.keys is None else {"api_key": _KEY_OF.format(name)},
                )
                for name in _TENANTS
            ]
            responses = _at_once(stage, made)
            sent, keys = stage.each_sent(), None if stage.keys is None else stage.keys()
        for response in responses:
            is_whole(scene, response)
        unasked = [name for name in _TENANTS if not any(says(each, f"{name} asks.") for each in sent)]
        assert not unasked, (
            f"{len(_TENANTS)} callers asked at once, but the questions of {unasked} did not arrive: others were "
            "answered in their place; store nothing of a call on the adapter, not even its request"
        )
        unpaid = [name for name in _TENANTS if not any(_KEY_OF.format(name) in key for key in keys or [])]
        assert keys is None or not unpaid, (
            f"{len(_TENANTS)} callers asked at once, each with a key of their own, but the keys of {unpaid} did not "
            "arrive: others pay for them; store nothing of a call on the adapter, not even its key"
        )

    def finds(self, messages: list[Message], words: list[str], what: str, **options: Any) -> str:
        """The request that was sent, after a look that every one of the words is in it."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            whole_answer(stage, scene, messages, model=self.model, **options)
            sent = stage.last_sent()
        lost = [word for word in words if not says(sent, word)]
        assert not lost, (
            f"{lost} is not in what was sent: the adapter leaves out {what}; send it, or raise "
            'ValidationError("unsupported_capability", …) in stream(), before anything is sent'
        )
        return sent

    def finds_bytes(self, messages: list[Message], *data: bytes) -> str:
        """What was sent, after a look that all of these bytes, and the texts beside them, are in it."""
        scene = Scene(kind="answers")
        parts = [
            part for message in messages if not isinstance(message.content, str) for part in message.content
        ]
        with self.stage(scene) as stage:
            whole_answer(stage, scene, messages, model=self.model)
            sent, held = stage.all_sent(), [stage.holds(each) for each in data]
        kind = type(parts[-1]).__name__
        assert all(held), (
            f"the bytes of the messages' {kind} are not in what was sent, neither as they are nor in Base64 (of "
            f"{len(held)} only {held.count(True)}): send them, or raise "
            'ValidationError("unsupported_capability", …) in stream(), before anything is sent'
        )
        lost = [part.text for part in parts if isinstance(part, TextPart) and not says(sent, part.text)]
        assert not lost, f"the text beside the {kind}, {lost}, was not sent: send every part of a message"
        return sent

    def refused(self, reason: str, *, retry: Any) -> tuple[int, AdapterError]:
        """How many requests a call of a provider that refuses takes, and its error."""
        scene = Scene(kind="refuses", reason=reason)
        with self.stage(scene) as stage:
            stage.asked()  # skips at once where nobody counts
            error = _refusal(scene, stage, retry=retry)
            return stage.asked(), error


def _at_once(stage: Stage, calls: list[tuple[list[Message], dict[str, Any]]]) -> list[Response]:
    """The answers to calls that are made at the same time, all before the first is answered."""

    async def gathered() -> list[Response]:
        made = [aio.generate(stage.engine, messages, **options) for messages, options in calls]
        return await asyncio.gather(*made)

    try:
        return asyncio.run(gathered())
    except AdapterError as error:
        skip_if_used_up(error)
        raise


def _refusal(scene: Scene, stage: Stage, *, retry: Any, **options: Any) -> AdapterError:
    """What a call of a provider that refuses ends with, after a look that it is the error of the scene."""
    try:
        response = generate(stage.engine.merge(retry=retry), [question()], **options)
    except AdapterError as raised:
        error: Any = raised
    else:
        error = response.metadata.get("error")
    assert isinstance(error, AdapterError), f"{scene}: it failed with {error!r}"
    assert error.reason == scene.reason, f"{scene}: it failed with {error!r}"
    return error


def whole_answer(
    stage: Stage, scene: Scene, messages: list[Message], wanted: Ending = "stop", **options: Any
) -> Response:
    """The answer to a request, after checking that it came whole. Skips the law where the adapter refuses to."""
    response = answer_with_tools(stage, messages, **options)
    is_whole(scene, response, wanted)
    return response


def is_whole(scene: Scene, response: Response, wanted: Ending = "stop") -> None:
    """Check that an answer has ended with this finish reason, and without an error."""
    ends(scene, response.finish_reason, response.metadata.get("error"), wanted)


def answer_with_tools(stage: Stage, messages: list[Message], **options: Any) -> Response:
    """The answer to a request that not every adapter can send. Skips the law where the adapter refuses to.

    What the caller has given must be the same afterwards: it is used again.
    """
    given = deepcopy((messages, options))
    with may_refuse(stage, *options, "messages"):
        response = generate(stage.engine, given[0], **given[1])
        raise_refusal(response.metadata.get("error"))
    assert given == (messages, options), (
        f"the adapter has changed what the caller gave: {_changed(given, (messages, options))}; make a copy, and "
        "change that: a tool, a message or a schema is used again, and by other calls at the same time"
    )
    return response


def _changed(now: Any, before: Any) -> str:
    """The first of the caller's values that is another one now, and what it was."""
    pairs = [*zip(now[0], before[0], strict=False), *((now[1][name], before[1][name]) for name in before[1])]
    return next((f"{was!r} became {is_now!r}" for is_now, was in pairs if is_now != was), "the messages")


def _in_parts(role: Any, *texts: str) -> Message:
    return Message(role=role, content=[TextPart(text=text) for text in texts])


def _beside(text: str, *parts: Part) -> Message:
    return Message(role="user", content=[TextPart(text=text), *parts])


def _picture(data: bytes) -> ImagePart:
    return ImagePart(image=Image.from_bytes(data, "image/png"))


def _in_order(sent: str, texts: list[str], what: str, order: str) -> None:
    """Look that texts, which are all there, come in their order."""
    places = [sent.index(text) for text in texts]
    assert places == sorted(places), f"{what} were not sent in the order {order}"


def _is_of_type(sent: str, mime_type: str, *others: str) -> None:
    """Look that what was sent with one type is not said to have another; a format may have no word for any."""
    found = [other for other in others if says(sent, other)]
    assert not found, (
        f"{found} is in what was sent, but all of it is {mime_type}: send the mime_type of the part"
    )


@contextmanager
def may_refuse(stage: Stage, *wishes: str) -> Iterator[None]:
    """Skips the law where the adapter refuses what was asked in the block, before anything is sent."""
    try:
        yield
    except (AdapterError, ValidationError, TypeError, ValueError) as refused:
        skip_if_used_up(refused)
        asked = stage.asked() if stage.counts else 1
        if not any(is_refusal(refused, wish, asked) for wish in wishes):
            raise
        skip(f"the adapter refuses it, which is allowed: {refused}")


def raise_refusal(error: object) -> None:
    """Raise the error that an answer ended with, if it is a refusal."""
    if isinstance(error, AdapterError) and error.reason in REFUSALS:
        raise error


def question() -> Message:
    """What every law asks that does not care."""
    return Message(role="user", content=QUESTION)
