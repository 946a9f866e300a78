"""Chooses the random scenarios that are worth keeping, and writes random.jsonl.

    python -m tests.conformance.otp.servers.choosing FIRST COUNT KEPT     out of so many seeds, from the first

The rule of this file: a scenario is kept for what it shows that those before it have not: which kinds of events follow
each other in one process.
"""

import logging
import sys

from tests.conformance.otp.exploring import recorded
from tests.conformance.otp.servers.comparing import differences
from tests.conformance.otp.servers.exploring import KIND, by_luck
from tests.conformance.otp.servers.playing import play
from tests.conformance.otp.servers.scenarios import save


def candidates(first, count):
    """Random scenarios with their traces, on which both agree."""
    for scenario, trace in recorded(KIND, first, count):
        if not by_luck(scenario) and not differences(scenario, trace, play(scenario)):
            yield scenario | {"trace": trace}


def shows(scenario):
    """The pairs of events that follow each other in one process, without names and numbers."""
    events = {}
    for line in (line for step in scenario["trace"] for line in step):
        who, what, *details = line.split()
        kind = (
            what,
            who[0] in scenario["traps"],
            *(each for each in details if each.isalpha() and len(each) > 1),
        )
        events.setdefault(who, []).append(kind)
    return {pair for kinds in events.values() for pair in zip(kinds, [*kinds[1:], None], strict=True)}


def choose(scenarios, kept):
    """As many, of which each shows the most that is new for its length."""
    left, seen, chosen = [(shows(each), len(str(each)), each) for each in scenarios], set(), []
    while left and len(chosen) < kept:
        best = max(left, key=lambda one: len(one[0] - seen) / (one[1] + 300))
        left.remove(best)
        seen |= best[0]
        chosen.append(best[2])
    return chosen


def main(first, count, kept):
    """Write the file."""
    logging.disable(logging.CRITICAL)
    save("random", choose(list(candidates(int(first), int(count))), int(kept)))


if __name__ == "__main__":
    main(*sys.argv[1:])
