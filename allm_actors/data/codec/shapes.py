"""Which values have an encoding: the one table that both codecs are compiled from.

Rule of this file: a value's shape is its tag, its code, and its fields in order. Tags are the Elixir library's type
names, so that JSON can be exchanged with it. Stored bytes depend on the codes and on the order of fields: a
new field is appended, a code is never used again.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from allm_actors.data import errors, events, messages, requests, responses, results, sessions, threads, tools
from allm_actors.data.media import audio, documents, images
from allm_actors.data.services import classification, embeddings, moderation, speech, transcription

__all__ = [
    "CODES",
    "FIRST_CODE",
    "Field",
    "Kind",
    "Shape",
    "register",
    "shape_of",
    "shape_of_code",
    "shape_of_tag",
]

FIRST_CODE = 16  # below it the binary codec has its own codes, for tuples and the like
CODES: dict[type[Any], int] = {
    messages.Message: 16,
    messages.TextPart: 17,
    messages.ImagePart: 18,
    images.Image: 19,
    tools.Tool: 20,
    messages.ToolCall: 21,
    requests.Request: 22,
    responses.Response: 23,
    responses.Usage: 24,
    threads.Thread: 25,
    sessions.Session: 26,
    results.StepResult: 27,
    results.ChatResult: 28,
    requests.ModelRef: 29,
    images.ImageRequest: 30,
    images.ImageResponse: 31,
    images.ImageUsage: 32,
    tools.Ok: 33,
    tools.Err: 34,
    tools.AskUser: 35,
    tools.Halt: 36,
    messages.DocumentPart: 37,
    documents.Document: 38,
    errors.EngineError: 40,
    errors.AdapterError: 41,
    errors.ImageAdapterError: 42,
    errors.StreamError: 43,
    errors.ToolError: 44,
    errors.ValidationError: 45,
    errors.SessionError: 46,
    errors.SessionBusy: 47,
    errors.StoreError: 48,
    errors.UnwrapError: 49,
    errors.SessionStatusError: 50,
    errors.EmbeddingAdapterError: 51,
    errors.ModerationAdapterError: 52,
    errors.SpeechAdapterError: 53,
    errors.TranscriptionAdapterError: 54,
    errors.ClassificationAdapterError: 55,
    events.MessageStarted: 64,
    events.TextDelta: 65,
    events.TextCompleted: 66,
    events.ToolCallStarted: 67,
    events.ToolCallDelta: 68,
    events.ToolCallCompleted: 69,
    events.MessageCompleted: 70,
    events.RawChunk: 71,
    events.ErrorEvent: 72,
    events.ToolExecutionStarted: 73,
    events.ToolExecutionCompleted: 74,
    events.ToolResultEncoded: 75,
    events.AskUserRequested: 76,
    events.ToolHalt: 77,
    events.StepCompleted: 78,
    events.ChatCompleted: 79,
    embeddings.EmbeddingRequest: 96,
    embeddings.Embedding: 97,
    embeddings.EmbeddingResponse: 98,
    moderation.ModerationRequest: 99,
    moderation.ModerationResult: 100,
    moderation.ModerationResponse: 101,
    audio.Audio: 102,
    speech.SpeechRequest: 103,
    speech.SpeechResponse: 104,
    transcription.TranscriptionRequest: 105,
    transcription.TranscriptionResponse: 106,
    classification.ClassificationQuestion: 107,
    classification.ClassificationAnswer: 108,
    classification.ClassificationRequest: 109,
    classification.ClassificationResponse: 110,
    speech.SpeechStarted: 112,
    speech.AudioDelta: 113,
    speech.SpeechCompleted: 114,
    transcription.TranscriptionStarted: 115,
    transcription.PartialTranscript: 116,
    transcription.CommittedTranscript: 117,
    transcription.TranscriptionCompleted: 118,
}

Kind = Literal["any", "closed", "one", "many", "map", "absent"]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field: `kind` says what a reader expects in it.

    `any` is anything, `closed` one of the words in `of`, `one` a value of the class `of`, `many` a list of them, `map`
    a dict, `absent` never read back. A required field has the default None: decoding is lenient, `validate`
    is not.
    """

    name: str
    key: str
    kind: Kind = "any"
    of: Any = None
    make_default: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """How to take a value apart and put it together: `get` gives the fields in order, `build` takes them by name.

    `code` is None for a type that was registered from outside; its fields then travel by name in both codecs.
    """

    cls: type[Any]
    tag: str
    code: int | None
    fields: tuple[Field, ...]
    get: Callable[[Any], tuple[Any, ...]]
    build: Callable[[dict[str, Any]], Any]


_EVENTS = frozenset((*events.EVENTS, *speech.SPEECH_EVENTS, *transcription.TRANSCRIPTION_EVENTS))
_shapes: dict[type[Any], Shape] = {}
_tags: dict[str, type[Any]] = {}
_types: dict[int, type[Any]] = {code: cls for cls, code in CODES.items()}


def register(
    cls: type[Any],
    tag: str,
    *,
    to_fields: Callable[[Any], dict[str, Any]] | None = None,
    from_fields: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Give the values of `cls` an encoding under `tag`; call it where the class is defined.

    A msgspec Struct or a dataclass needs neither function. `from_fields` may get fewer or more fields than
    `to_fields` returned, because another version may have written them. Raises ValueError for a tag that is
    taken.
    """
    if _tags.get(tag, cls) is not cls:
        raise ValueError(
            f"the tag {tag!r} belongs to {_tags[tag].__name__}; choose another for {cls.__name__}"
        )
    if cls in CODES:
        raise ValueError(f"{cls.__name__} already has an encoding")
    _shapes[cls] = _registered(cls, tag, to_fields, from_fields)
    _tags[tag] = cls


def shape_of(cls: type[Any]) -> Shape | None:
    """The shape of a class, compiled at first use, or None."""
    shape = _shapes.get(cls)
    if shape is None and cls in CODES:
        shape = _shapes[cls] = _compile(cls)
    return shape


def shape_of_tag(tag: str) -> Shape | None:
    """The shape behind a JSON tag."""
    cls = _tags.get(tag)
    return None if cls is None else shape_of(cls)


def shape_of_code(code: int | str) -> Shape | None:
    """The shape behind a binary code; the code of a registered type is its tag."""
    cls = _tags.get(code) if isinstance(code, str) else _types.get(code)
    return None if cls is None else shape_of(cls)


def _tag_of(cls: type[Any]) -> str:
    if issubclass(cls, errors.AllmError):
        return f"ALLM.Error.{cls.__name__}"
    return f"ALLM.Event.{cls.__name__}" if cls in _EVENTS else f"ALLM.{cls.__name__}"


_tags.update({_tag_of(cls): cls for cls in CODES})


def _compile(cls: type[Any]) -> Shape:
    if issubclass(cls, errors.AllmError):
        fields, build = _error_fields(cls), _error_builder(cls)
    elif cls is tools.AskUser:
        fields, build = (Field("question", "question"), _MAP_OPTIONS), _build_ask_user
    else:
        fields, build = tuple(map(_struct_field, msgspec.structs.fields(cls))), _builder(cls)
    return Shape(cls, _tag_of(cls), CODES[cls], fields, _getter([f.name for f in fields]), build)


def _registered(
    cls: type[Any],
    tag: str,
    to_fields: Callable[[Any], dict[str, Any]] | None,
    from_fields: Callable[[dict[str, Any]], Any] | None,
) -> Shape:
    if to_fields is not None and from_fields is not None:
        return Shape(cls, tag, None, (), lambda value: (to_fields(value),), from_fields)
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls)]
    elif issubclass(cls, msgspec.Struct):
        names = [f.name for f in msgspec.structs.fields(cls)]
    else:
        raise TypeError(
            f"{cls.__name__} is neither a msgspec Struct nor a dataclass; give to_fields and from_fields"
        )
    get, known = _getter(names), frozenset(names)
    return Shape(
        cls,
        tag,
        None,
        (),
        lambda value: (dict(zip(names, get(value), strict=True)),),
        lambda fields: cls(**{name: value for name, value in fields.items() if name in known}),
    )


def _struct_field(info: Any) -> Field:
    kind, of = _kind(info.type)
    return Field(info.name, info.encode_name, kind, of, _default(info))


def _default(info: Any) -> Callable[[], Any]:
    if info.default_factory is not msgspec.NODEFAULT:
        factory: Callable[[], Any] = info.default_factory
        return factory
    value = None if info.default is msgspec.NODEFAULT else info.default
    return lambda: value


def _kind(annotation: Any) -> tuple[Kind, Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        alternatives = [a for a in get_args(annotation) if a is not type(None)]
        annotation = alternatives[0] if len(alternatives) == 1 else Any
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "closed", frozenset(arguments)
    if origin is dict:
        return "map", None
    if annotation in CODES:
        return "one", annotation
    if origin is list and arguments[0] in CODES:
        return "many", arguments[0]
    return ("absent" if origin is Callable else "any"), None


def _error_fields(cls: type[errors.AllmError]) -> tuple[Field, ...]:
    reason = Field("reason", "reason", "closed" if cls.reasons else "any", cls.reasons)
    metadata = Field("metadata", "metadata", "map", make_default=dict)
    own = [Field(n, n, make_default=list) if n == "errors" else Field(n, n) for n in cls.fields]
    return (reason, Field("message", "message"), Field("cause", "cause"), metadata, *own)


_MAP_OPTIONS = Field("options", "options", "map", make_default=dict)


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _builder(cls: type[Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda fields: cls(**fields)


def _error_builder(cls: type[errors.AllmError]) -> Callable[[dict[str, Any]], Any]:
    def build(fields: dict[str, Any]) -> errors.AllmError:
        if not (isinstance(fields.get("reason"), str) and isinstance(fields.get("message"), str | None)):
            raise TypeError("an error's reason and message must be text")
        return cls.from_fields(fields)

    return build


def _build_ask_user(fields: dict[str, Any]) -> tools.AskUser:
    return tools.AskUser(fields["question"], **fields["options"])
