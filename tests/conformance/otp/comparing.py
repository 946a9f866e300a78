"""Whether two traces of a scenario say the same.

The rule of this file: whatever ours may say differently in any scenario is in `RULES`, each with its reason; nothing
else is forgiven. Departures of single scenarios are in their file (README.md).
"""

from itertools import groupby

RULES = {
    "children are listed in start order": lambda op, dynamic, theirs, ours: (
        op[0] == "which_children" and not dynamic and ours.split() == ["children", *theirs.split()[:0:-1]]
    ),
    "the children of a dynamic supervisor have no order": lambda op, dynamic, theirs, ours: (
        op[0] == "which_children" and dynamic and sorted(ours.split()) == sorted(theirs.split())
    ),
    "a dynamic supervisor has as many specs as children, and no template": lambda op, dynamic, theirs, ours: (
        op[0] == "count_children" and dynamic and ours.split()[1:] == theirs.split()[1:]
    ),
    "a dynamic supervisor does not know the dead": lambda op, dynamic, theirs, ours: (
        op[0] == "terminate_child" and dynamic and (theirs, ours) == ("ok", "not_found")
    ),
    "of two faults of a spec another is named": lambda op, _, theirs, ours: (
        op[0] in ("start_child", "update")
        and theirs == "failed bad:bad_combination"
        and ours.startswith("failed bad:")
    ),
    "what can never be right is refused in the call, also for the dead": lambda op, _, theirs, ours: (
        op[0] in ("start_child", "update") and theirs == "down" and ours.startswith("failed bad:")
    ),
}


def differences(scenario, theirs, ours):
    """The steps that differ, as triples: the operation, OTP's step, our step."""
    families = Families(scenario)
    ops = [["start"], *scenario["ops"], ["stop", "shutdown"], ["left"]]
    pad = [[]] * len(ops)
    steps = zip(ops, theirs + pad, ours + pad, strict=False)
    return [(op, one, other) for op, one, other in steps if not _same_step(op, families, one, other)]


class Families:
    """Who is whose child in a scenario, and which supervisors are dynamic."""

    def __init__(self, scenario):
        self.parents, self.dynamic = {}, set()
        self.may_be_killed = False  # whether a supervisor may be, so that its children are orphans
        self.meet("top", scenario["tree"])
        for op in scenario["ops"]:
            for each in [op[3], *op[4]] if op[0] == "hold" else [op]:
                match each:
                    case ["start_child", sup, dict() as child]:
                        self.meet_child(sup, child)
                    case ["start_child", sup, name]:
                        self.parents[name] = sup
                    case ["update", sup, family]:
                        self.meet(sup, family)
                    case ["die", name, "kill"]:
                        self.may_be_killed |= name == "top" or name in self.parents.values()

    def meet(self, sup, family):
        if "dynamic" in family:
            self.dynamic.add(sup)
        for child in family.get("children", ()):
            self.meet_child(sup, child)

    def meet_child(self, sup, child):
        self.parents[child["id"]] = sup
        if "sup" in child:
            self.meet(child["id"], child["sup"])
            self.may_be_killed |= child.get("shutdown", "infinity") != "infinity"

    def parent(self, line):
        """Whose child a line of the log is about."""
        return self.parents.get(line.split("#")[0], "")


def _same_step(op, families, theirs, ours):
    if not (theirs and ours):
        return not theirs and not ours
    main, meanwhile = (op[3], op[4]) if op[0] == "hold" else (op, [])
    if _in_order(op, theirs[1], families) != _in_order(op, ours[1], families):
        return False
    answers = [(main, theirs[0], ours[0])]
    if theirs[2:]:  # somebody was held: the log says so, and so in both
        answers += zip(meanwhile, theirs[2], ours[2], strict=True)
    return all(_same_answer(families, *each) for each in answers)


def _same_answer(families, op, theirs, ours):
    return theirs == ours or any(rule(op, op[1] in families.dynamic, theirs, ours) for rule in RULES.values())


def _in_order(op, log, families):
    """The log, and what may happen in any order in one.

    While somebody is held, and afterwards, several supervisors are at work at once: then each has a log of its own. A
    dynamic supervisor stops its children all at once.
    """
    if families.may_be_killed:
        return _of_each(log, families)
    if op[0] == "hold":
        log = sorted(log, key=families.parent)
    together = []
    for stopping, group in groupby(log, key=lambda line: _stops_with_others(line, families)):
        lines = list(group)
        together += sorted(lines) if stopping else lines
    return together


def _of_each(log, families):
    """What each process did, and in which order each supervisor started children: orphans end beside all that.

    They end with the reason of their supervisor in OTP, and with a shutdown here.
    """
    alike = [line.replace(": killed", ": shutdown") for line in log]
    starts = sorted((line for line in log if " begins: " in line), key=families.parent)
    return sorted(alike, key=lambda line: line.split(" ", 1)[0]), starts


def _stops_with_others(line, families):
    return families.parent(line) in families.dynamic and (" asked: " in line or " ends: " in line)


def told(found):
    """The steps that differ, for people."""
    return "\n".join(f"{op}\n    OTP  {theirs}\n    here {ours}" for op, theirs, ours in found)
