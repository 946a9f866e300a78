"""Each gate, as its row says."""

import re

import pytest

from allm_actors.data import AdapterError, Response, StepResult, Thread, ToolCall
from allm_actors.execution import gates
from allm_actors.execution.gates import GATES, Standing, decide

ERROR = AdapterError("timeout")
LEFT = [ToolCall(id="m1", name="mine", arguments={})]
ASKED = {"pending_question": "?", "pending_tool_call_id": "c0", "ask_user_opts": {}}

STANDINGS = {
    1: {"metadata": {"halted_reason": "ask_user", **ASKED}},
    2: {"metadata": {"halted_reason": "tool_error", "halt_tool_call_id": "c0"}},
    3: {"metadata": {"halted_reason": "plan", "halt_tool_call_id": "c0", "halt_result": 1}},
    4: {"metadata": {"manual_tool_calls": LEFT}},
    5: {"metadata": {"mode": "manual"}},
    6: {"finish": "length"},
    7: {"finish": "error"},
    8: {"verdict": "yes"},
    9: {"index": 6},
}


def standing(metadata=None, finish="tool_calls", verdict=None, index=3):
    response = Response(finish_reason=finish, metadata={"error": ERROR} if finish == "error" else {})
    step = StepResult(thread=Thread(), response=response, metadata=metadata or {})
    return Standing(step=step, index=index, limit=7, verdict=verdict)


def rows():
    """The table of the docstring: reason and metadata keys, by number."""
    table = {}
    for line in gates.__doc__.splitlines():
        number, *cells = re.split(r"  +", line.strip())
        if number.isdigit():
            reason, metadata = cells[1], "".join(cells[2:])
            table[int(number)] = (reason, set(re.sub(r"\[.*\]|,", " ", metadata).split()))
    return table


def test_the_table_lists_every_gate_in_order():
    assert list(rows()) == [gate.number for gate in GATES] == list(range(1, len(GATES) + 1))


@pytest.mark.parametrize("number", STANDINGS)
def test_a_gate_halts_with_the_reason_and_the_metadata_of_its_row(number):
    reason, keys = rows()[number]
    halted = decide(standing(**STANDINGS[number]), GATES)
    assert halted.reason == ("plan" if number == 3 else reason)
    assert set(halted.metadata) == keys


@pytest.mark.parametrize("number", STANDINGS)
def test_an_earlier_gate_decides_before_a_later_one(number):
    later = {field: value for other in range(9, number - 1, -1) for field, value in STANDINGS[other].items()}
    assert decide(standing(**later), GATES) == decide(standing(**later), GATES[number - 1 :])
    assert decide(standing(**later), GATES).reason == GATES[number - 1].halted(standing(**later)).reason


def test_a_step_that_passes_every_gate_goes_on():
    assert decide(standing(), GATES) is None


@pytest.mark.parametrize("verdict", [None, False, 0, "", []])
def test_only_what_is_true_halts(verdict):
    assert decide(standing(verdict=verdict), GATES) is None


def test_halts_of_the_loop_say_where():
    assert decide(standing(**STANDINGS[4]), GATES).metadata["manual_turn_index"] == 3
    assert decide(standing(**STANDINGS[8]), GATES).metadata == {"halt_when_step_index": 3}
    assert decide(standing(**STANDINGS[9]), GATES).metadata == {"max_turns": 7}


def test_calls_left_to_the_caller_are_told_with_any_halt_of_a_tool():
    both = STANDINGS[3]["metadata"] | STANDINGS[4]["metadata"]
    assert decide(standing(metadata=both), GATES).metadata["manual_tool_calls"] == LEFT
