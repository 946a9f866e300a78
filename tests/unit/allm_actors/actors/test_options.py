"""The options that checkers know are those that the code takes: no name is forgotten, and none is too many."""

import typing

import pytest

from allm_actors import aio, facade, session
from allm_actors.actors import SessionHandle, options
from allm_actors.actors.calls.call import _OPTIONS
from allm_actors.actors.tree import DISPATCHERS, DispatcherName
from allm_actors.data import ImageRequest, Request, Tool
from allm_actors.data.build import ImageRequestOptions, RequestOptions, ToolOptions
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.engine import Engine, EngineOptions
from allm_actors.engine.places import KNOWN, split
from supervisors import ChildSpec
from supervisors.spec import ChildSpecFields

OURS = KNOWN - {"when_busy"}  # known, so that it is refused with a hint
PROVIDERS_OWN = set(options.ProviderOptions.__annotations__)
SERVICES = {
    "image": (options.ImageOptions, ["generate_image"]),
    "embed": (options.EmbeddingOptions, ["embed"]),
    "moderate": (options.ModerationOptions, ["moderate"]),
    "speech": (options.SpeechOptions, ["synthesize", "stream_synthesize"]),
    "transcribe": (options.TranscriptionOptions, ["transcribe", "stream_transcribe"]),
    "classify": (options.ClassificationOptions, ["classify"]),
}
CHATS = ["generate", "stream_generate", "step", "stream_step", "chat", "stream"]
TURNS = [
    "start",
    "reply",
    "continue_",
    "step",
    *(f"stream_{name}" for name in ("start", "reply", "continue", "step")),
]
DOORS = [
    *((home, name, options.ChatOptions) for home in (facade, aio) for name in CHATS),
    *((home, name, options.ChatOptions) for home in (session, aio.session) for name in TURNS),
    *((SessionHandle, name, options.ChatOptions) for name in ("reply", "continue_", "step")),
    *((home, name, kind) for home in (facade, aio) for kind, names in SERVICES.values() for name in names),
    *(
        (home, f, options.ImageEditOptions)
        for home in (facade, aio)
        for f in ("edit_image", "image_variations")
    ),
]


def test_a_chat_has_every_option_that_has_a_place():
    assert set(options.ChatOptions.__annotations__) - PROVIDERS_OWN == OURS


def test_help_names_every_option_of_a_chat():
    assert [name for name in sorted(OURS) if f"`{name}`" not in facade.chat.__doc__] == []


def test_the_providers_own_are_those_that_their_rows_know_and_all_are_sent():
    rows = [row.quirks for row in PROVIDERS.values()]
    known = {name for row in rows for names in (row.renames, row.refuses, row.most) for name in names}
    known |= {name for row in rows for names in (row.words, row.ranges, row.only_for) for name in names}
    assert known - OURS - {"n"} <= PROVIDERS_OWN
    assert set(split(dict.fromkeys(PROVIDERS_OWN, False)).provider) == PROVIDERS_OWN


@pytest.mark.parametrize("span", CAPABILITIES)
def test_a_call_that_is_not_chat_has_the_fields_of_its_request(span):
    row = CAPABILITIES[span]
    given = {row.field, "questions"}  # arguments of their own
    assert set(SERVICES[span][0].__annotations__) == ({*row.request.__struct_fields__} - given) | _OPTIONS


def test_an_edit_says_itself_what_it_is():
    set_by_us = {"operation", "input_images"}
    wanted = set(options.ImageOptions.__annotations__) - set_by_us
    assert set(options.ImageEditOptions.__annotations__) == wanted


@pytest.mark.parametrize(("home", "name", "kind"), DOORS, ids=lambda value: getattr(value, "__name__", value))
def test_every_door_takes_its_options(home, name, kind):
    (taken,) = typing.get_args(typing.get_type_hints(getattr(home, name))["options"])
    assert taken is kind


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (EngineOptions, Engine.__dataclass_fields__),
        (RequestOptions, Request.__struct_fields__),
        (ImageRequestOptions, ImageRequest.__struct_fields__),
        (ToolOptions, {*Tool.__struct_fields__} - {"name", "description", "schema", "handler"}),
        (ChildSpecFields, ChildSpec.__dataclass_fields__),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_value_is_made_of_all_its_fields(kind, names):
    assert set(kind.__annotations__) == {*names}


def test_every_dispatcher_has_a_name_that_checkers_know():
    assert set(typing.get_args(DispatcherName)) == DISPATCHERS.keys()
