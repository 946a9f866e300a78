"""Plays random scenarios on both, and shows the smallest in which they differ.

    python -m tests.conformance.otp.exploring FIRST COUNT [killing]     scenarios of so many seeds, from the first

Needs the OTP that it compares with. What it finds is a mistake of ours, or one of OTP's, or a departure that nobody has
written down (those in departures.jsonl are found again), or a scenario that depends on how fast a machine is.
"""

import json
import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.conformance.otp.comparing import differences
from tests.conformance.otp.generating import Generator, smaller
from tests.conformance.otp.playing import play
from tests.conformance.otp.scenarios import record

AT_ONCE = 250


class Kind(NamedTuple):
    """A kind of scenarios: how they are made, made smaller, recorded in OTP, and compared with its trace."""

    generate: Callable
    smaller: Callable
    record: Callable
    differing: Callable


def recorded(kind, first, count):
    """Random scenarios with OTP's traces."""
    for start in range(first, first + count, AT_ONCE):
        scenarios = [kind.generate(seed) for seed in range(start, min(start + AT_ONCE, first + count))]
        yield from zip(scenarios, kind.record(scenarios), strict=True)


def shrunk(kind, scenario):
    """The smallest scenario on the way from this one in which they differ."""
    while True:
        candidates = list(kind.smaller(scenario))
        traces = kind.record(candidates) if candidates else []
        pairs = zip(candidates, traces, strict=True)
        less = next((one for one, trace in pairs if kind.differing(one, trace)), None)
        if less is None:
            return scenario
        scenario = less


def show(kind, first, count):
    """Show what differs."""
    logging.disable(logging.CRITICAL)
    for scenario, trace in recorded(kind, int(first), int(count)):
        if not kind.differing(scenario, trace):
            continue
        small = shrunk(kind, scenario)
        sys.stdout.write(f"{json.dumps(small)}\n")
        for op, theirs, ours in kind.differing(small, *kind.record([small])):
            sys.stdout.write(f"    {json.dumps(op)}\n        OTP  {theirs}\n        here {ours}\n")
        sys.stdout.flush()


def main(first, count, *options):
    """Show what differs."""
    kind = Kind(
        lambda seed: Generator(seed, killing="killing" in options).scenario(),
        smaller,
        record,
        lambda scenario, trace: differences(scenario, trace, play(scenario)),
    )
    show(kind, first, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
