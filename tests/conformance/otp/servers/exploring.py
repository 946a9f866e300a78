"""Plays random scenarios of servers on both, and shows the smallest in which they differ.

    python -m tests.conformance.otp.servers.exploring FIRST COUNT     scenarios of so many seeds, from the first

The rule of this file: a scenario that comes out in several ways here proves nothing, and is passed over. Besides what
`otp/exploring.py` says, what is found may be luck all the same: a process that is killed, or kills itself, is dead at
once here, and a message that it sent just before may overtake that in OTP.
"""

import sys

from tests.conformance.otp.exploring import Kind, show
from tests.conformance.otp.servers.comparing import differences
from tests.conformance.otp.servers.generating import Generator, smaller
from tests.conformance.otp.servers.playing import play
from tests.conformance.otp.servers.scenarios import record

WAYS = 8
"""In how many ways a scenario is played here to see whether it comes out in several."""


def differing(scenario, theirs):
    """What differs, if neither luck nor the speed of a machine decides it."""
    found = differences(scenario, theirs, play(scenario))
    return found if found and not by_luck(scenario) else []


def by_luck(scenario):
    """Whether it may come out in several ways: here it does."""
    ways = [play(scenario, way) for way in range(WAYS)]
    return any(way != ways[0] for way in ways)


KIND = Kind(lambda seed: Generator(seed).scenario(), smaller, record, differing)

if __name__ == "__main__":
    show(KIND, *sys.argv[1:])
