"""The flag that tells a handler to stop reads naturally in every form."""

from allm_actors.actors.turns.cancelled import Cancelled
from allm_actors.engine import ToolContext


def test_it_is_set_once_and_reads_in_every_form():
    cancelled = Cancelled()
    assert not cancelled
    assert not cancelled()
    assert not cancelled.wait(0)
    cancelled.set()
    assert cancelled
    assert cancelled()
    assert cancelled.is_set()
    assert cancelled.wait()


def test_a_context_without_a_flag_was_not_cancelled():
    assert not ToolContext().cancelled
