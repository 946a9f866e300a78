"""Plays random scenarios on both, and shows the smallest in which they differ.

    python -m tests.conformance.otp.exploring FIRST COUNT [killing]     scenarios of so many seeds, from the first

Needs the OTP that it compares with. What it finds is a mistake of ours, or one of OTP's, or a departure that nobody has
written down (those in departures.jsonl are found again), or a scenario that depends on how fast a machine is.
"""

import json
import logging
import sys

from tests.conformance.otp.comparing import differences
from tests.conformance.otp.generating import Generator, smaller
from tests.conformance.otp.playing import play
from tests.conformance.otp.scenarios import record

AT_ONCE = 250


def explore(first, count, *, killing=False):
    """The scenarios that differ."""
    for start in range(first, first + count, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, first + count))
        scenarios = [Generator(seed, killing=killing).scenario() for seed in seeds]
        for scenario, trace in zip(scenarios, record(scenarios), strict=True):
            if differences(scenario, trace, play(scenario)):
                yield scenario


def shrunk(scenario):
    """The smallest scenario on the way from this one in which they differ."""
    while True:
        candidates = list(smaller(scenario))
        traces = record(candidates) if candidates else []
        differing = (
            one for one, trace in zip(candidates, traces, strict=True) if differences(one, trace, play(one))
        )
        less = next(differing, None)
        if less is None:
            return scenario
        scenario = less


def main(first, count, *options):
    """Show what differs."""
    logging.disable(logging.CRITICAL)
    for scenario in explore(int(first), int(count), killing="killing" in options):
        small = shrunk(scenario)
        sys.stdout.write(f"{json.dumps(small)}\n")
        for op, theirs, ours in differences(small, record([small])[0], play(small)):
            sys.stdout.write(f"    {json.dumps(op)}\n        OTP  {theirs}\n        here {ours}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
