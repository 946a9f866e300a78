"""Scenarios as data, what is left unsaid in them, and how OTP is asked to play them.

    python -m tests.conformance.otp.scenarios       record all of them again

The rule of this file: a scenario is JSON, and says only what is not the default. README.md explains the form.
"""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
RECORDER = HERE / "recorder.escript"

FILES = ("picked", "alone", "nested", "dynamic", "killed", "departures")

FAMILY = {"strategy": "one_for_one", "intensity": 3, "period": 3600, "auto": "never"}
CHILD = {"restart": "permanent", "significant": False, "type": "worker", "shutdown": 5000}


def family(said):
    """The description of a supervisor with its defaults filled in."""
    full = FAMILY | said
    if "dynamic" in said:
        full["dynamic"] = child({"id": "template"} | said["dynamic"])
    else:
        full["children"] = [child(each) for each in said["children"]]
    return full


def child(said):
    """The description of a child with its defaults filled in."""
    full = CHILD | ({"type": "supervisor", "shutdown": "infinity"} if "sup" in said else {}) | said
    if "sup" in said:
        full["sup"] = family(said["sup"])
    return full


def operation(op):
    """The operation with all defaults filled in."""
    match op:
        case ["hold", moment, name, main, meanwhile]:
            return ["hold", moment, name, operation(main), [operation(each) for each in meanwhile]]
        case ["start_child", sup, dict() as said]:
            return ["start_child", sup, child(said)]
        case ["update", sup, said]:
            return ["update", sup, family(said)]
        case _:
            return op


def completed(scenario):
    """The scenario with all defaults filled in."""
    return {"tree": family(scenario["tree"]), "ops": [operation(op) for op in scenario["ops"]]}


def load(name):
    """The scenarios of a file, each with its `trace`."""
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()]


def save(name, scenarios):
    """Write a file of scenarios, one on each line."""
    lines = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in scenarios)
    (HERE / f"{name}.jsonl").write_text(lines, "utf-8")


def record(scenarios, timeout=600):
    """The traces of these scenarios, on the OTP that is installed."""
    return ask_otp(RECORDER, map(completed, scenarios), timeout)


def ask_otp(recorder, scenarios, timeout):
    """What this recorder writes about the scenarios, which leave nothing unsaid."""
    terms = "".join(f"{term(each)}.\n" for each in scenarios)
    done = subprocess.run(
        ["escript", str(recorder)], input=terms, capture_output=True, text=True, check=False, timeout=timeout
    )
    if done.returncode:
        raise RuntimeError(f"the recorder failed: {done.stdout[-500:]}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def term(value):
    """The value as an Erlang term; texts are atoms."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'"
        case dict():
            return "#{" + ",".join(f"'{key}' => {term(each)}" for key, each in value.items()) + "}"
        case list():
            return f"[{','.join(map(term, value))}]"
        case _:
            return str(value)


if __name__ == "__main__":
    for file in FILES:
        found = load(file)
        save(file, [one | {"trace": trace} for one, trace in zip(found, record(found), strict=True)])
