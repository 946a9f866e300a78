"""What the strategies draw can be sent, says all that a request can say, and is not built anew for each draw."""

from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import get_args

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

import allm_actors as allm
from allm_actors.data import MessageCompleted
from allm_actors.engine.script import stage
from allm_actors.testing import strategies

SENT = [
    strategies.messages,
    strategies.tools,
    strategies.threads,
    strategies.sessions,
    strategies.requests,
    strategies.image_requests,
    strategies.embedding_requests,
    strategies.moderation_requests,
    strategies.speech_requests,
    strategies.transcription_requests,
    strategies.classification_requests,
]
WITH_ARGUMENTS = {"embedding_requests", "scripts", "threads", "tool_calls", "tools"}
PLAIN = sorted(set(strategies.__all__) - WITH_ARGUMENTS)


@pytest.mark.parametrize("drawn", SENT, ids=lambda drawn: drawn.__name__)
def test_what_is_drawn_can_be_sent(drawn):
    @given(drawn())
    def holds(value):
        allm.validate(value)

    holds()


@pytest.mark.parametrize(
    "has",
    [
        lambda request: request.structured_finalize and request.response_format["type"] == "json_schema",
        lambda request: (
            not request.structured_finalize and request.response_format == {"type": "json_object"}
        ),
        lambda request: request.prompt_cache == {"key": None, "retention": "long"},
        lambda request: any(message.name and message.role == "user" for message in request.messages),
        lambda request: any(message.name and message.role == "assistant" for message in request.messages),
    ],
    ids=["a second pass", "a shape", "a prompt cache", "a user's name", "an assistant's name"],
)
def test_a_request_says_all_that_one_can(has):
    found = find(
        strategies.requests(),
        has,
        settings=settings(max_examples=2000, database=None, phases=[Phase.generate]),
    )
    allm.validate(found)
    assert allm.from_json(allm.to_json(found)) == found


def broken(tag, told, *_):
    return tag == "tool_call" and "raw_arguments" in told


def is_usage(payload):
    return isinstance(payload, tuple) and isinstance(payload[1], allm.Usage)


def calls_of(thread):
    return [call for message in thread.messages for call in message.tool_calls]


def are_numbered(thread):
    """Whether the calls of several messages all have ids of their own."""
    ids = [call.id for call in calls_of(thread)]
    return len(set(ids)) == len(ids) and sum(bool(message.tool_calls) for message in thread.messages) > 1


def two_in_a_row(messages, role):
    return any(one.role == other.role == role for one, other in pairwise(messages))


def writes_after_a_call(said):
    return any((one[0], other[0]) == ("tool_call", "text") for one, other in pairwise(said))


def parameters(tool):
    return tool.schema["properties"].values()


@pytest.mark.parametrize(
    ("drawn", "has"),
    [
        (strategies.threads, lambda thread: thread.messages and thread.messages[-1].role == "user"),
        (strategies.threads, lambda thread: thread.messages and thread.messages[-1].role == "tool"),
        (strategies.threads, lambda thread: two_in_a_row(thread.messages, "user")),
        (strategies.threads, lambda thread: any(message.role == "system" for message in thread.messages[1:])),
        (strategies.threads, are_numbered),
        (strategies.threads, lambda thread: any(call.metadata for call in calls_of(thread))),
        (strategies.requests, lambda request: request.messages[-1].role == "tool"),
        (strategies.messages, lambda message: message.role == "tool" and isinstance(message.content, list)),
        (strategies.messages, lambda message: message.metadata.get("partial")),
        (strategies.messages, lambda message: message.tool_calls and message.name),
        (strategies.sessions, lambda session: session.status == "error" and session.pending_tool_calls),
        (strategies.sessions, lambda session: session.pending_question and session.pending_tool_calls),
        (strategies.tools, lambda tool: any("items" in parameter for parameter in parameters(tool))),
        (strategies.tools, lambda tool: set(tool.schema["properties"]) - set(tool.schema["required"])),
        (strategies.json_values, lambda value: isinstance(value, int) and abs(value) > 2**64),
        (strategies.scripts, writes_after_a_call),
        (strategies.scripts, lambda said: any(tag == "tool_call_delta" for tag, *_ in said)),
        (strategies.scripts, lambda said: any(broken(*entry) for entry in said)),
        (strategies.scripts, lambda said: said[-1] == ("finish", "other")),
        (strategies.events, lambda event: isinstance(event, allm.RawChunk) and is_usage(event.payload)),
        (strategies.messages, lambda message: any(isinstance(it, bytes) for it in message.metadata.values())),
        (
            strategies.sessions,
            lambda session: any(isinstance(it, allm.Usage) for it in session.context.values()),
        ),
    ],
    ids=[
        *(
            "no answer",
            "a tool's answer last",
            "two users' messages",
            "a late system message",
            "call ids of their own",
        ),
        *("a broken call", "a request after a tool's answer", "parts of a tool's answer", "half an answer"),
        *(
            "a name and calls",
            "calls left by an error",
            "a question and calls",
            "an array",
            "an optional parameter",
        ),
        *(
            "a large number",
            "text after a call",
            "fragments",
            "broken arguments",
            "another end",
            "usage on its way",
            "bytes",
            "a value of ours",
        ),
    ],
)
def test_what_is_rare_is_drawn(drawn, has):
    few = settings(
        max_examples=5000, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    find(drawn(), has, settings=few)


@settings(max_examples=30)
@given(strategies.sessions())
def test_a_question_is_that_of_a_call(session):
    if session.status == "awaiting_user":
        asked = session.pending_tool_call_id
        assert asked in [call.id for call in calls_of(session.thread)]
        assert asked not in [call.id for call in session.pending_tool_calls]


@given(strategies.scripts(failures=False))
def test_a_script_can_be_played(said):
    assert isinstance(stage(said)[-1], MessageCompleted)


@pytest.mark.parametrize("name", PLAIN)
def test_a_strategy_without_arguments_is_built_once(name):
    drawn = getattr(strategies, name)
    assert drawn() is drawn()


NEVER = {
    "MessageStarted.message": "whoever reads a stream knows it",
    "Tool.handler": "a function is no data",
}
"""Fields that are never drawn, and why."""
INNER = {
    "embedding_responses": {"Embedding"},
    "moderation_responses": {"ModerationResult"},
    "image_responses": {"ImageUsage"},
    "classification_responses": {"ClassificationAnswer"},
}
"""What is drawn inside of values, and has no strategy of its own."""
KINDS = {
    "events": [each.__name__ for each in get_args(allm.Event)],
    "errors": [
        "SessionBusy",
        *(name for name in allm.__all__ if name.endswith("Error") and name != "AllmError"),
    ],
}
"""Strategies of many kinds of values, and these."""


def inside(value):
    """A value, and all values in it."""
    yield value
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from inside(getattr(value, name))
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from inside(each)


def fields_of(value):
    """Every field of a value, and whether it has another value than its default."""
    name = type(value).__name__
    if isinstance(value, allm.AllmError):
        return {f"{name}.{field}": held not in (None, {}) for field, held in vars(value).items()}
    if not isinstance(value, msgspec.Struct):
        return {}
    fields = msgspec.structs.fields(value)
    return {f"{name}.{each.name}": getattr(value, each.name) != _default_of(each) for each in fields}


def _default_of(field):
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()


ASKED = allm.ClassificationQuestion.yes_no("0")


@pytest.mark.parametrize(
    ("drawn", "has", "plainest"),
    [
        (strategies.questions, lambda _: True, ASKED),
        (
            strategies.classification_requests,
            lambda _: True,
            allm.ClassificationRequest(state="0", questions={"_": ASKED}),
        ),
        (
            strategies.parts,
            lambda part: isinstance(part, allm.DocumentPart),
            allm.DocumentPart(document=allm.Document.from_file("_.txt")),
        ),
        (strategies.audios, lambda _: True, allm.Audio.from_file("_.mp3")),
    ],
    ids=["a question", "questions", "a part", "a clip"],
)
def test_what_is_of_several_kinds_shrinks_to_the_plainest_value(drawn, has, plainest):
    few = settings(max_examples=500, database=None)
    assert find(drawn(), has, settings=few, random=Random(0)) == plainest


@given(strategies.requests())
def test_a_request_chooses_no_tool_that_is_not_there(request):
    if not request.tools:
        assert request.tool_choice in (None, "auto", "none")


@pytest.mark.parametrize("name", strategies.__all__)
def test_every_field_is_drawn(name):
    wanted = {*INNER.get(name, ()), *KINDS.get(name, ())}
    seen, told = set(), {}

    def missing():
        return {*(wanted - seen), *(field for field, says in told.items() if not says and field not in NEVER)}

    def completes(drawn):
        for value in [drawn, *(each for each in inside(drawn) if type(each).__name__ in INNER.get(name, ()))]:
            seen.add(type(value).__name__)
            for field, says in fields_of(value).items():
                told[field] = says or told.get(field, False)
        return not missing()

    many = settings(max_examples=3000, database=None, deadline=None, phases=[Phase.generate])
    with suppress(NoSuchExample):
        find(getattr(strategies, name)(), completes, settings=many, random=Random(0))
    assert missing() == set()
