"""Plays random scenarios of servers on both, and shows the smallest in which they differ.

    python -m tests.conformance.otp.servers.exploring FIRST COUNT     scenarios of so many seeds, from the first

Needs the OTP that it compares with. What it finds is a mistake of ours, or one of OTP's, or a departure that nobody has
written down (those in departures.jsonl are found again), or a scenario that depends on how fast a machine is.
"""

import json
import logging
import sys

from tests.conformance.otp.servers.comparing import differences
from tests.conformance.otp.servers.generating import Generator, smaller
from tests.conformance.otp.servers.playing import play
from tests.conformance.otp.servers.scenarios import record

AT_ONCE = 250
WAYS = 8
"""In how many ways a scenario is played here, each time in another order, and a bit slower."""


def explore(first, count):
    """The scenarios that differ."""
    for start in range(first, first + count, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, first + count))
        scenarios = [Generator(seed).scenario() for seed in seeds]
        for scenario, trace in zip(scenarios, record(scenarios), strict=True):
            if differing(scenario, trace):
                yield scenario


def differing(scenario, theirs):
    """What differs, if neither luck nor the speed of a machine decides it."""
    found = differences(scenario, theirs, play(scenario))
    return found if found and not by_luck(scenario) else []


def by_luck(scenario):
    """Whether it may come out in several ways: here it does."""
    ways = [play(scenario, seed, pace=seed / 1000, preemption=seed % 2 / 2) for seed in range(WAYS)]
    return any(way != ways[0] for way in ways)


def shrunk(scenario):
    """The smallest scenario on the way from this one in which they differ."""
    while True:
        candidates = list(smaller(scenario))
        traces = record(candidates) if candidates else []
        pairs = zip(candidates, traces, strict=True)
        less = next((one for one, trace in pairs if differing(one, trace)), None)
        if less is None:
            return scenario
        scenario = less


def main(first, count):
    """Show what differs."""
    logging.disable(logging.CRITICAL)
    for scenario in explore(int(first), int(count)):
        small = shrunk(scenario)
        sys.stdout.write(f"{json.dumps(small)}\n")
        for op, theirs, ours in differing(small, record([small])[0]):
            sys.stdout.write(f"    {json.dumps(op)}\n        OTP  {theirs}\n        here {ours}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
