"""The end of a turn that cannot end by itself is that of one that is cut off before its model has answered."""

import re

import pytest

import allm_actors as allm
from allm_actors.actors import turn_spec
from allm_actors.actors.turns.ending import ending
from allm_actors.execution import loop
from allm_actors.execution.effects import Finish
from allm_actors.execution.fold import fold
from allm_actors.execution.inputs import Cancelled
from supervisors import SHUTDOWN

THREAD = allm.Thread.from_messages([allm.user("hi")])
SHAPE = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
KINDS = {
    "chat": ("chat", {}),
    "two passes": ("chat", {"structured_finalize": True, "response_format": SHAPE}),
    "step": ("step", {}),
    "answer": ("generate", {}),
}
WHY = {"cancelled": None, "interrupted": SHUTDOWN}


def spec_of(kind):
    return turn_spec(KINDS[kind][0], allm.Engine(adapter="fake"), KINDS[kind][1], thread=THREAD)


def without_words(result):
    """The result without the words of its error: only a turn that never began says that it did not."""
    return re.sub(r"message='[^']*'", "", repr(result))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("halted", WHY)
def test_it_has_the_same_result(kind, halted):
    spec = spec_of(kind)
    _, effects = loop.step(loop.start(spec.options, THREAD)[0], Cancelled(halted))
    assert isinstance(effects[-1], Finish)
    assert without_words(ending(spec, THREAD, WHY[halted])[0]) == without_words(effects[-1].result)


@pytest.mark.parametrize("kind", ["chat", "two passes", "step"])
@pytest.mark.parametrize("reason", [None, SHUTDOWN, "a crash"])
def test_its_last_events_fold_to_its_result(kind, reason):
    result, last = ending(spec_of(kind), THREAD, reason)
    folded = fold(last, THREAD)
    assert result == (folded.step_result() if kind == "step" else folded.chat_result())
