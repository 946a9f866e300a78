"""Conversations: messages, calls, threads, sessions, tools and requests.

Rule of this file: every call has one answer, unless a strategy says that calls may be open.
"""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from functools import cache, lru_cache
from typing import Any, Literal, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import (
    Document,
    DocumentPart,
    Image,
    ImagePart,
    Message,
    ModelRef,
    Part,
    Request,
    Session,
    SessionStatus,
    TextPart,
    Thread,
    Tool,
    ToolCall,
)
from allm_actors.data.compact import TOOL_HELP
from allm_actors.data.rules.validate import RESERVED_TOOL_NAMES
from allm_actors.data.schemas.schema import json_schema
from allm_actors.execution.answers import question
from allm_actors.execution.tools import AWAITING_USER

from .errors import errors
from .plain import BROKEN, COSTS, IDS, TEXTS, WORDS, arguments, json_objects, maybe, notes, with_details

__all__ = [
    "calls_of_one_message",
    "documents",
    "images",
    "message_calling",
    "messages",
    "model_refs",
    "parts",
    "replies",
    "requests",
    "sessions",
    "threads",
    "tool_calls",
    "tool_names",
    "tools",
]

MIME_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
NAMES = maybe(WORDS)
SIDES = st.integers(1, 4096)  # of a picture, in pixels
DOCUMENT_TYPES = ("application/pdf", "text/plain", "text/csv")
_FIRST = object()  # of the tools there are
_ENDS: tuple[dict[str, Any], ...] = (
    {},
    {"finish_reason": "stop"},
    {"finish_reason": "length"},
    {"finish_reason": "error"},
    {"finish_reason": None, "partial": True},
)
"""The metadata of an answer without calls, as a loop leaves it."""
_TURNS: SearchStrategy[tuple[Literal["system", "user"], tuple[str, ...], bool]] = st.sampled_from(
    [
        ("user", (), False),
        ("user", (), True),
        ("user", ("",), True),
        ("user", ("", ""), True),  # a provider begins anew with each message,
        ("user", ("a", "b"), True),  # or numbers all calls
        ("user", ("a", "b"), False),
        ("user", ("",), False),
        ("system", (), False),
    ]
)
"""Whose message begins a turn, what its rounds of calls are called, and whether the model has the last word."""
_PARAMETERS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "boolean"},
    {"type": "string", "enum": ["a", "b"], "description": "one of two"},
    {"type": ["number", "null"]},
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x"]},
    {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
)


@cache
def images() -> SearchStrategy[Image]:
    """A picture from each kind of source."""
    mime = st.sampled_from(MIME_TYPES)
    made = st.one_of(
        st.builds(Image.from_url, WORDS.map("https://example.org/{}.png".format)),
        st.builds(Image.from_bytes, st.binary(max_size=20), mime),
        st.builds(
            Image.from_base64, st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()), mime
        ),
        st.builds(Image.from_file, WORDS.map("{}.png".format)),
    )
    return with_details(
        made,
        width=maybe(SIDES),
        height=maybe(SIDES),
        prompt=maybe(TEXTS),
        revised_prompt=maybe(TEXTS),
        metadata=notes(),
    )


@cache
def documents() -> SearchStrategy[Document]:
    """A document from each kind of source."""
    mime, title, data = st.sampled_from(DOCUMENT_TYPES), maybe(WORDS), st.binary(max_size=20)
    urls = WORDS.map("https://example.org/{}.pdf".format)
    made = st.one_of(
        st.builds(Document.from_file, WORDS.map("{}.txt".format), title),
        st.builds(Document.from_url, urls, maybe(mime), title),
        st.builds(Document.from_bytes, data, mime, title),
        st.builds(
            Document.from_base64, data.map(lambda drawn: base64.b64encode(drawn).decode()), mime, title
        ),
    )
    return with_details(made, metadata=notes())


@cache
def parts() -> SearchStrategy[Part]:
    """A part of a message's content."""
    details = st.sampled_from(["auto", "low", "high"])
    return st.one_of(
        st.builds(TextPart, text=TEXTS, metadata=notes()),
        st.builds(ImagePart, image=images(), detail=details, metadata=notes()),
        st.builds(DocumentPart, document=documents(), metadata=notes()),
    )


@cache
def tool_names() -> SearchStrategy[str]:
    """A name that a tool may have."""
    names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
    return names.filter(lambda name: name not in RESERVED_TOOL_NAMES and name != TOOL_HELP)


def tool_calls(names: SearchStrategy[str] | None = None) -> SearchStrategy[ToolCall]:
    """A call, with arguments as complete as a provider makes them, or not; `names` are the tools it may call."""
    named = names or tool_names()
    return st.one_of(
        st.builds(_tool_call, IDS, named, arguments()),
        st.builds(ToolCall, id=IDS, name=named, arguments=arguments()),
        st.builds(_tool_call, IDS, named, BROKEN),
    )


@cache
def messages() -> SearchStrategy[Message]:
    """A message of any role, valid on its own."""
    content = TEXTS | st.lists(parts(), max_size=3)
    kept: SearchStrategy[dict[str, Any]] = st.just({}) | notes()
    return st.one_of(
        st.builds(
            Message,
            role=st.sampled_from(["user", "system"]),
            content=content,
            name=NAMES,
            metadata=notes(),
        ),
        replies(),
        st.builds(
            Message, role=st.just("tool"), content=content, tool_call_id=IDS, name=NAMES, metadata=kept
        ),
        st.builds(message_calling, content, calls_of_one_message(), NAMES),
    )


@st.composite
def threads(draw: st.DrawFn, open_calls: bool = False, max_turns: int = 3) -> Thread:
    """A conversation in which every call is answered; with `open_calls` the last message's calls may be open.

    A turn may have broken off before the model's last word: after what the user said, or after a tool's answer.
    """
    said = [draw(_said_by("system"))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(0, max_turns))):
        role, rounds, replied = draw(_TURNS)
        said.append(draw(_said_by(role)))
        for number in rounds:
            said += _answered(draw, draw(calls_of_one_message(f"t{turn}{number}")))
        if replied:
            said.append(draw(replies()))
    if open_calls and draw(st.booleans()):
        said += _answered(draw, draw(calls_of_one_message("open")), completely=False)
    return Thread(messages=said, metadata=draw(notes()))


@cache
@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """A session whose fields agree with its status."""
    status = draw(st.sampled_from(get_args(SessionStatus)))
    fields: dict[str, Any] = {"thread": draw(threads()), "metadata": draw(notes())}
    calls: list[ToolCall] = []
    said: list[Message] = []
    left: list[ToolCall] = []
    if status in ("awaiting_user", "awaiting_tools") or (status == "error" and draw(st.booleans())):
        calls = draw(calls_of_one_message("pending"))
        said = _answered(draw, calls, completely=False)
        known = {message.tool_call_id for message in said}
        left = [call for call in calls if call.id not in known]
    if status == "awaiting_user":
        text, id = draw(TEXTS), calls[0].id  # it asks, so it is not left to the caller
        said = [message for message in said if message.tool_call_id != id]
        said.insert(1, Message(role="tool", content=AWAITING_USER, tool_call_id=id))
        left = [call for call in left if call.id != id]
        fields |= {"pending_question": text, "pending_tool_call_id": id}
        if not left:
            said.append(question(text, id))
    if status == "awaiting_tools" and not left:
        status = "idle"
    if status == "error":
        fields["metadata"] |= {"error": draw(errors())}
    fields |= {"thread": fields["thread"].add(*said), "pending_tool_calls": left}
    return Session(id=draw(maybe(IDS)), status=status, context=draw(notes()), **fields)


def tools(names: SearchStrategy[str] | None = None) -> SearchStrategy[Tool]:
    """A tool without a handler."""
    return st.builds(
        Tool,
        name=names or tool_names(),
        description=TEXTS,
        schema=_schemas(),
        manual=st.booleans(),
        compact=st.booleans(),
        summary=maybe(TEXTS),
        timeout=maybe(st.floats(0.1, 60)),
        isolation=st.sampled_from(["thread", "process"]),
        effect=st.sampled_from(["once", "idempotent", "pure"]),
        metadata=notes(),
    )


@cache
def requests() -> SearchStrategy[Request]:
    """A request that can be sent."""
    shapes = st.sampled_from([None, "text", {"type": "json_object"}])
    schemas = st.builds(json_schema, WORDS, _schemas(), st.booleans())
    return st.builds(
        _request,
        shape=st.tuples(shapes, st.just(False)) | st.tuples(schemas, st.booleans()),
        messages=threads().map(_to_answer),
        model=maybe(WORDS),
        tools=st.lists(tools(), max_size=3, unique_by=lambda tool: tool.name),
        choice=st.sampled_from([None, "auto", "none", "required", {"type": "any"}, _FIRST]),
        temperature=maybe(st.floats(0, 2)),
        max_tokens=maybe(st.integers(1, 10**5)),
        prompt_cache=maybe(
            st.fixed_dictionaries({"key": maybe(WORDS), "retention": st.sampled_from(["short", "long"])})
        ),
        stream=st.booleans(),
        options=json_objects(),
        metadata=notes(),
    )


@cache
def model_refs() -> SearchStrategy[ModelRef]:
    """A catalogue's entry."""
    can = st.dictionaries(st.sampled_from(["tools", "vision", "json_schema"]), st.booleans(), max_size=3)
    return st.builds(
        ModelRef,
        id=WORDS,
        provider=maybe(WORDS),
        capabilities=maybe(can),
        limits=maybe(json_objects()),
        pricing=maybe(
            st.fixed_dictionaries(
                {"input": COSTS, "output": COSTS},
                optional={"cached_input": COSTS, "cache_write_input": COSTS},
            )
        ),
        metadata=notes(),
    )


@cache
def replies() -> SearchStrategy[Message]:
    """An assistant message without calls: whole, cut off, or broken off."""
    content = TEXTS | st.lists(parts(), max_size=2)
    metadata = st.sampled_from(_ENDS).map(dict) | notes()
    return st.builds(Message, role=st.just("assistant"), content=content, name=NAMES, metadata=metadata)


@lru_cache(maxsize=64)
def calls_of_one_message(prefix: str = "c") -> SearchStrategy[list[ToolCall]]:
    """Some calls of one message: their ids differ. The arguments of some cannot be read."""
    given = st.one_of(arguments(), arguments().map(dict), BROKEN)
    calls = st.lists(st.tuples(tool_names(), given), min_size=1, max_size=3)
    return calls.map(
        lambda drawn: [_tool_call(f"{prefix}{i}", name, given) for i, (name, given) in enumerate(drawn)]
    )


def message_calling(content: str | list[Part], calls: list[ToolCall], name: str | None = None) -> Message:
    """The assistant message that makes these calls."""
    metadata = {"finish_reason": "tool_calls", "tool_calls": calls}
    return Message(role="assistant", content=content, name=name, metadata=metadata)


@lru_cache
def _said_by(role: Literal["system", "user"]) -> SearchStrategy[Message]:
    content = TEXTS | st.lists(parts(), max_size=2) if role == "user" else TEXTS
    return st.builds(Message, role=st.just(role), content=content, name=NAMES)


def _answered(draw: st.DrawFn, calls: list[ToolCall], completely: bool = True) -> list[Message]:
    order = draw(st.permutations(calls))
    count = len(order) if completely else draw(st.integers(0, len(order)))
    answers = [Message(role="tool", content=draw(_told()), tool_call_id=call.id) for call in order[:count]]
    return [message_calling(draw(TEXTS), calls), *answers]


@cache
def _told() -> SearchStrategy[str | list[Part]]:
    return st.one_of(TEXTS, TEXTS.map(str), TEXTS.map(str.strip), st.lists(parts(), min_size=1, max_size=2))


def _to_answer(thread: Thread) -> list[Message]:
    """What a model can be asked to go on with: the last word is the user's, or a tool's."""
    if thread.last is not None and thread.last.role in ("user", "tool"):
        return thread.messages
    return [*thread.messages, Message(role="user", content="hi")]


def _tool_call(id: str, name: str, given: dict[str, Any] | str) -> ToolCall:
    if isinstance(given, dict):
        return ToolCall(id=id, name=name, arguments=given, raw_arguments=json.dumps(given))
    told = {"arguments_error": "they are cut off"}
    return ToolCall(id=id, name=name, arguments={}, raw_arguments=given, metadata=told)


def _request(shape: tuple[Any, bool], choice: Any, tools: list[Tool], **fields: Any) -> Request:
    """A request whose second pass, if there is one, has a schema to answer in; the tool it chooses by name is there."""
    if choice is _FIRST and tools:
        choice = tools[0].name
    if not tools and choice not in ("auto", "none"):  # there is nothing that could be required
        choice = None
    return Request(
        response_format=shape[0], structured_finalize=shape[1], tool_choice=choice, tools=tools, **fields
    )


@cache
def _schemas() -> SearchStrategy[dict[str, Any]]:
    given = st.sampled_from([(schema, must) for must in (True, False) for schema in _PARAMETERS])
    return st.dictionaries(WORDS, given, max_size=3).map(_schema)


def _schema(properties: dict[str, tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    typed = {name: deepcopy(schema) for name, (schema, _) in properties.items()}
    return {
        "type": "object",
        "properties": typed,
        "required": [name for name, (_, must) in properties.items() if must],
    }
