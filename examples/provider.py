"""Who answers in the examples: a script, or a real model if ALLM_PROVIDER names one.

    ALLM_PROVIDER="openai:gpt-4.1-mini" OPENAI_API_KEY=… .venv/bin/python examples/one_tool.py

A real model says what it likes, so what it said is compared with a script only when there is one: `said`. Pictures are
drawn by whom ALLM_IMAGE_PROVIDER names, such as "openai:gpt-image-2.6-flare".
"""

import os
from typing import Any

import allm_actors as allm
from allm_actors.testing import script
from allm_actors.testing.script import Entry

MODEL = os.environ.get("ALLM_PROVIDER")
ARTIST = os.environ.get("ALLM_IMAGE_PROVIDER")


def engine(*replies: list[Entry], **fields: Any) -> allm.Engine:
    """An engine whose model gives these replies, one for each time it is asked; or the real one."""
    if MODEL:
        return allm.Engine(adapter=MODEL, **fields)
    return allm.Engine(adapter="fake", adapter_opts={"scripts": list(replies)}, **fields)


def artist(*replies: Entry, **options: Any) -> allm.Engine:
    """An engine whose artist gives these replies; or the real one. `options` are the scripted one's."""
    if ARTIST:
        return allm.Engine(image_adapter=ARTIST)
    return allm.Engine(image_adapter="fake", adapter_opts={"image_script": list(replies), **options})


def says(*fragments: str) -> list[Entry]:
    """A reply of text."""
    return [*map(script.text, fragments), script.finish("stop")]


def calls(*wanted: tuple[str, dict[str, Any]]) -> list[Entry]:
    """A reply that calls tools: their names and arguments. The calls have the ids c0, c1, …"""
    return [*(script.tool_call(name, arguments) for name, arguments in wanted), script.finish("tool_calls")]


def said(text: object, scripted: str) -> None:
    """Assert what the model said: word for word if it was scripted, anything at all if it was not."""
    assert text == scripted if MODEL is None else text
