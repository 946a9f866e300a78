"""Random scenarios, and what makes one smaller.

The rule of this file: what a scenario asks for may well be refused, but what comes of it must not depend on how fast a
machine is. So whoever refuses to stop is killed soon or at once, and only those who have a lot of time are held.
"""

import copy
import random

REASONS = ["crash", "crash", "error", "normal", "shutdown", ["shutdown", "x"], "kill", "kill"]
FAILURES = [
    ["fail", "boom"],
    ["fail", "boom"],
    ["fail", "error"],
    ["fail", "normal"],
    ["ignore"],
    ["ok"],
    ["info", "x"],
]
SOON = 50
"""Milliseconds that whoever refuses to stop gets."""


class Generator:
    """Makes one scenario out of a seed."""

    def __init__(self, seed, *, killing=False):
        self.random = random.Random(seed)
        self.killing = killing  # whether supervisors may be killed
        self.families = {}  # of each supervisor, the children it may know
        self.dynamic = {}  # of each dynamic supervisor, its template
        self.autos = {}
        self.hurried = {}  # whether a child is killed at once or soon; then it may refuse to stop, and else be held

    def scenario(self):
        tree = self.family("top", 0)
        ops = [op for _ in range(self.random.randint(3, 12)) for op in self.step()]
        return {"tree": tree, "ops": ops}

    def chance(self, share):
        return self.random.random() < share

    def pick(self, *things):
        return self.random.choice(things)

    # --- descriptions -------------------------------------------------------------------------------------------------

    def family(self, name, depth):
        family = {"intensity": self.pick(0, 1, 2, 3, 3, 4, 10, 10)}
        self.families[name], self.autos[name] = {}, "never"
        if self.chance(0.15 if depth == 0 else 0.3):
            family["dynamic"] = self.dynamic[name] = self.child(f"of {name}", "never")
            for key in ("id", "significant"):
                family["dynamic"].pop(key, None)
            return family
        family["strategy"] = self.pick("one_for_one", "one_for_all", "rest_for_one")
        if self.chance(0.3):
            family["auto"] = self.autos[name] = self.pick("any_significant", "all_significant")
        prefix = "" if name == "top" else name
        family["children"] = children = []
        for letter in "abcd"[: self.random.randint(0, 4)]:
            id = prefix + letter
            if depth < 2 and self.chance(0.2):
                id = prefix + letter.upper()
                child = self.child(id, self.autos[name], sup=self.family(id, depth + 1))
            else:
                child = self.child(id, self.autos[name])
            children.append(child)
            self.families[name][id] = child
        if children and self.chance(0.01):
            children.append(copy.deepcopy(children[0]))
        return self.bent(family)

    def bent(self, family):
        if self.chance(0.02):
            family[self.pick("strategy", "auto")] = "nonsense"
        if self.chance(0.02):
            family[self.pick("intensity", "period")] = self.pick(-1, 0)
        return family

    def child(self, id, auto, sup=None):
        child = {"id": id, "restart": self.pick("permanent", "permanent", "transient", "temporary")}
        if sup is not None:
            child["sup"] = sup
            if self.killing and self.chance(0.3):
                child["shutdown"] = "brutal_kill"
        elif self.hurried.setdefault(id, self.chance(0.4)):
            child["shutdown"] = self.pick("brutal_kill", SOON, SOON)
        elif self.chance(0.2):
            child["shutdown"] = "infinity"
        likely = 0.6 if auto != "never" and child["restart"] != "permanent" else 0.02
        if self.chance(likely):
            child["significant"] = True
        if self.chance(0.01) and not id.startswith("of "):
            child[self.pick("restart", "shutdown")] = "nonsense"
        return child

    # --- operations ---------------------------------------------------------------------------------------------------

    def step(self):
        if self.chance(0.12):
            return self.holding()
        if self.chance(0.12):
            return self.failing()
        if self.chance(0.06):
            return self.stubborn()
        if self.chance(0.03):
            return [["stop", self.pick("normal", "shutdown", "crash", ["shutdown", "x"])]]
        if self.chance(0.04):
            return self.updating()
        return [self.plain()]

    def plain(self):
        return self.dying() if self.chance(0.45) else self.request()

    def dying(self):
        if self.killing and self.chance(0.2) and len(self.families) > 1:
            return ["die", self.pick(*[name for name in self.families if name != "top"]), "kill"]
        name = self.worker()
        if self.chance(0.04) and not any(name in self.families[sup] for sup in self.dynamic):
            return ["unlink", name]
        return ["die", name, self.random.choice(REASONS)]

    def request(self):
        sup = self.pick(*self.families)
        known = self.families[sup]
        dynamic = sup in self.dynamic
        request = self.pick(
            "start_child", "terminate_child", "terminate_child", "restart_child", "restart_child", "delete_child",
            "which_children", "which_children", "count_children", "get_childspec",
        )  # fmt: skip
        if request in ("which_children", "count_children"):
            return [request, sup]
        if dynamic:
            if request == "terminate_child" and known:
                return [request, sup, self.pick(*known)]
            name = f"{sup}{len(known) + 1}" if self.chance(0.8) or not known else self.pick(*known)
            known[name] = self.dynamic[sup]
            self.hurried[name] = self.hurried[f"of {sup}"]
            return ["start_child", sup, name]
        if request == "start_child":
            prefix = "" if sup == "top" else sup
            id = self.pick(*known) if known and self.chance(0.3) else prefix + self.pick("e", "f", "g", "h")
            if id in known and "sup" in known[id]:
                return ["start_child", sup, known[id]]
            known[id] = self.child(id, self.autos[sup])
            return ["start_child", sup, known[id]]
        name = self.pick(*known) if known and self.chance(0.97) else "nobody"
        return [request, sup, name]

    def holding(self):
        name = self.worker()
        moment = "start" if self.hurried.get(name, True) else self.pick("start", "stop")
        before = self.failing(name)[:1] if moment == "start" and self.chance(0.6) else []
        main = ["die", name, "crash"] if moment == "start" and self.chance(0.6) else self.plain()
        meanwhile = []
        for _ in range(self.random.randint(1, 4)):
            op = self.plain()
            counts = op[0] == "count_children" and op[1] in self.dynamic  # of the dead, and wrongly
            if not counts and op[0] != "unlink" and not (op[0] == "die" and op[1] in (name, *self.families)):
                meanwhile.append(op)
        return [*before, ["hold", moment, name, main, meanwhile]]

    def failing(self, name=None):
        name = name or self.worker(supervisors=True)
        # A dynamic supervisor of OTP fails itself once a child to be restarted is ignored.
        may_ignore = not any(name in self.families[sup] for sup in self.dynamic)
        possible = [outcome for outcome in FAILURES if may_ignore or outcome != ["ignore"]]
        outcomes = [self.random.choice(possible) for _ in range(self.random.randint(1, 3))]
        return [["next", name, *outcomes], self.plain()]

    def stubborn(self):
        name = self.worker()
        hows = ["crash", "normal", "obey", ["shutdown", "x"]]
        if (
            self.hurried.get(name) and not self.killing
        ):  # orphans that refuse are there for ever, in OTP as here
            hows += ["refuse"] * 4
        return [["stops", name, self.random.choice(hows)]]

    def updating(self):
        sup = self.pick(*self.families)
        if sup in self.dynamic:
            return [self.plain()]
        known = list(self.families[sup].values())
        self.random.shuffle(known)
        flags = {
            "strategy": self.pick("one_for_one", "one_for_all", "rest_for_one"),
            "intensity": self.pick(0, 2, 3, 10),
        }
        flags["auto"] = self.pick("never", "never", "any_significant", "all_significant")
        self.autos[sup] = flags["auto"]
        children = []
        for child in known[: self.random.randint(0, len(known))]:
            new = dict(child)
            if self.chance(0.4) and "sup" not in child:
                new = self.child(child["id"], flags["auto"])
            elif flags["auto"] == "never":
                new.pop("significant", None)
            children.append(new)
            self.families[sup][new["id"]] = new
        return [["update", sup, {**flags, "children": children}]]

    def worker(self, *, supervisors=False):
        names = [
            name
            for known in self.families.values()
            for name, spec in known.items()
            if supervisors or "sup" not in spec
        ]
        return self.pick(*names) if names else "nobody"


def smaller(scenario):
    """Scenarios that are one step smaller."""
    tree, ops = scenario["tree"], scenario["ops"]
    for nth in range(len(ops)):
        yield {"tree": tree, "ops": ops[:nth] + ops[nth + 1 :]}
    for nth, op in enumerate(ops):
        if op[0] == "hold":
            yield {"tree": tree, "ops": [*ops[:nth], op[3], *ops[nth + 1 :]]}
            for less in _less(op[4]):
                yield {"tree": tree, "ops": [*ops[:nth], [*op[:4], less], *ops[nth + 1 :]]}
        if op[0] == "next":
            for less in _less(op[2:]):
                yield {"tree": tree, "ops": [*ops[:nth], [*op[:2], *less], *ops[nth + 1 :]]}
        for rest in _plainer(op[2]) if op[0] == "start_child" and isinstance(op[2], dict) else ():
            yield {"tree": tree, "ops": [*ops[:nth], [*op[:2], rest], *ops[nth + 1 :]]}
        for rest in _plainer(op[2]) if op[0] == "update" else ():
            yield {"tree": tree, "ops": [*ops[:nth], [*op[:2], rest], *ops[nth + 1 :]]}
    for less in _plainer(tree):
        yield {"tree": less, "ops": ops}


def _less(things):
    for nth in range(len(things)):
        yield things[:nth] + things[nth + 1 :]


def _plainer(said):
    for key, value in said.items():
        if key == "children":
            for children in _less(value):
                yield said | {key: children}
            for nth, child in enumerate(value):
                for less in _plainer(child):
                    yield said | {key: [*value[:nth], less, *value[nth + 1 :]]}
        elif isinstance(value, dict):
            for less in _plainer(value):
                yield said | {key: less}
        elif key == "intensity" and value != 10:
            yield said | {key: 10}
        elif key not in ("id", "shutdown", "intensity"):
            yield {other: said[other] for other in said if other != key}
