"""Whether two traces of a scenario say the same.

The rule of this file: whatever ours may say differently in any scenario is in `RULES`, each with its reason; nothing
else is forgiven. Departures of single scenarios are in their file (README.md).
"""

RULES = {
    "every process runs terminate, also one that does not trap exits": lambda traps, line, theirs: (
        line.split()[1] == "terminate" and line.split("#")[0] not in traps and line not in theirs
    ),
}


def differences(scenario, theirs, ours):
    """The steps that differ, as triples: the operation, OTP's step, our step."""
    forgiven = [_forgiven(scenario.get("traps", ()), *each) for each in zip(theirs, ours, strict=True)]
    steps = zip(scenario["ops"], map(_sent, theirs), map(_sent, forgiven), strict=True)
    found = [(op, one, other) for op, one, other in steps if one != other]
    if _absences(theirs) != _absences(ours):
        found.append(("who was not there", _absences(theirs), _absences(ours)))
    return found


def _forgiven(traps, theirs, ours):
    """Our lines without those that only we may have."""
    return [line for line in ours if not any(rule(traps, line, theirs) for rule in RULES.values())]


def _sent(lines):
    return [line for line in lines if not _absent(line)]


def _absent(line):
    return line.split()[1] in ("down", "exit") and line.endswith(" noproc")


def _absences(trace):
    """Who heard that somebody was not there, which nobody sends: it arrives at any time, or after the hearer's end."""
    lines = [line for step in trace for line in step]
    ended = {line.split()[0] for line in lines if line.split()[1] == "ends"}
    return sorted(line for line in lines if _absent(line) and line.split()[0] not in ended)
