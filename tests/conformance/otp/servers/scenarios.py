"""The scenarios of servers: files, and how OTP is asked to play them.

    python -m tests.conformance.otp.servers.scenarios       record all of them again

The rule of this file: a scenario is JSON. README.md explains the form.
"""

import math
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.otp import scenarios as shared

RECORDER = shared.HERE / "servers" / "recorder.escript"

FILES = ("picked", "random", "departures")


def load(name):
    """The scenarios of a file, each with its `trace`."""
    return shared.load(f"servers/{name}")


def save(name, scenarios):
    """Write a file of scenarios, one on each line."""
    shared.save(f"servers/{name}", scenarios)


AT_THE_SAME_TIME = 8
"""How many recorders run at once: most of their time they wait for timers."""


def record(scenarios, timeout=600):
    """The traces of these scenarios, on the OTP that is installed."""
    asked = [{"traps": each.get("traps", []), "ops": each["ops"]} for each in scenarios]
    share = max(1, math.ceil(len(asked) / AT_THE_SAME_TIME))
    parts = [asked[at : at + share] for at in range(0, len(asked), share)]
    with ThreadPoolExecutor() as pool:
        traces = pool.map(lambda part: shared.ask_otp(RECORDER, part, timeout), parts)
        return [trace for part in traces for trace in part]


if __name__ == "__main__":
    for file in FILES:
        found = load(file)
        save(file, [one | {"trace": trace} for one, trace in zip(found, record(found), strict=True)])
