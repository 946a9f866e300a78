"""Random scenarios of servers, and what makes one smaller.

The rule of this file: what comes of a scenario must not depend on how fast a machine is, and known departures
(README.md) are kept out, since they hide what follows. So only those who trap exits wait in a handler, for others die
there at once in OTP; they alone do something in `terminate`; a link, which may be to the dead, and an exit signal are
the last thing that a handler of the others does; timers are for oneself, unless nobody ends; a parent does not end.
"""

import random
from collections import defaultdict

NAMES = "abcd"
RIVALS = {"a": "x", "b": "x", "c": "y", "d": "y"}
"""The one name that a process may have: in OTP nobody has two. Only `x` can be had and given up after the start."""

REASONS = ["boom", "boom", "normal", "shutdown", ["shutdown", "x"], "kill"]
TICK = 100
"""Milliseconds, and much more than all operations of a scenario take."""
BIT = TICK // 10
"""Timers take whole ticks, timeouts a bit more or less, and waits two bits more: so no two of them end together."""


class Generator:
    """Makes one scenario out of a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.traps = sorted(name for name in NAMES if self.chance(0.5))
        self.timed = self.chance(0.25)  # whether there are timers and timeouts
        self.peaceful = self.timed and self.chance(0.3)  # whether nobody ends
        self.parent = "a" if "a" in self.traps and not self.peaceful and self.chance(0.3) else None
        self.keys = defaultdict(list)
        self.labels = self.waits = 0
        self.held = set()

    def scenario(self):
        ops = [self.start(name, first=True) for name in NAMES]
        for _ in range(self.random.randint(3, 12)):
            ops += self.step()
        ops += [["release", name] for name in sorted(self.held)]
        return {"traps": self.traps, "ops": [*ops, ["wait", 6 * TICK]] if self.timed else ops}

    def chance(self, share):
        return self.random.random() < share

    def pick(self, *things):
        return self.random.choice(things)

    def start(self, name, *, first=False):
        program = [] if first else [self.action(name) for _ in range(self.pick(0, 0, 1))]
        if self.chance(0.3) and not self.peaceful and name != self.parent:
            program.append(self.pick(["ignore"], ["error"], self.stop(), ["quit", self.reason()],
                                     ["idle", TICK - BIT] if first else self.going_on(name)))  # fmt: skip
        free = name in "ac" if first else True
        return ["start", name, program, *([RIVALS[name]] if free and self.chance(0.3) else [])]

    def step(self):
        if self.held and self.chance(0.25):
            name = self.pick(*sorted(self.held))
            self.held.remove(name)
            return [["release", name]]
        if self.timed and self.waits < 4 and self.chance(0.25):
            self.waits += 1
            return [["wait", self.pick(TICK, 2 * TICK) + 2 * BIT]]
        if self.chance(0.12):
            return [self.start(self.pick(*NAMES))]
        name = self.pick(*NAMES)
        return [["do", name, self.program(name, depth=0)]]

    # --- programs -----------------------------------------------------------------------------------------------------

    def program(self, name, depth, *, asked=False):
        """What `name` does when it gets a message; nobody may know who has a name of the registry."""
        actions = [self.action(name, depth) for _ in range(self.pick(0, 1, 1, 2, 2, 3))]
        if name in self.traps and depth == 0 and self.chance(0.12):
            actions.insert(self.random.randint(0, len(actions)), ["hold"])
            self.held.add(name)
        ending = self.ending(name, asked)
        return actions if ending is None else [*actions, ending]

    def action(self, name, depth=9):
        choices = ["unlink", "monitor", "monitor", "demonitor", "whereis", "reply"]
        choices += ["register", "unregister"] if RIVALS[name] == "x" else []
        if depth < 2:
            choices += ["cast", "cast", "send", "send"]
        if name in self.traps:
            choices += ["link", "link", "at_end", *(["call"] * 4 if depth < 2 else [])]
            if not self.peaceful:
                choices += ["start", *(["halt"] if depth < 2 else [])]
            if name == self.parent:
                choices += ["start_link"] * 3
        if self.timed:
            choices += ["cancel", "cancel", "read", *(["after", "after", "timer"] if depth < 2 else [])]
        return getattr(self, f"_{self.pick(*choices)}")(name, depth)

    def ending(self, name, asked):
        if self.chance(0.3) and not self.peaceful:
            signal = self.signal(name, itself=name not in self.traps and not asked)
            if name == self.parent:
                return signal
            return self.pick(signal, signal, ["quit", self.reason()], ["error"], self.stop(asked=asked))
        if asked and self.chance(0.6):
            return self.pick(["return", self.label("v")], ["keep", self.key("request")])
        if self.chance(0.3) and not asked and name not in self.traps:
            return self._link(name, 0)
        return self.going_on(name) if self.chance(0.2) else None

    def signal(self, name, *, itself):
        """Not to itself from whoever traps exits: `gen_server` takes it for its parent's; nor in a call."""
        target = self.pick(*NAMES) if itself else self.other(name)
        return ["exit", target, "boom" if target == self.parent else self.reason()]

    def going_on(self, name):
        if self.timed and self.chance(0.4):
            return ["idle", self.pick(TICK, 2 * TICK) - BIT]
        return ["continue", self.label("c"), self.program(name, depth=2)]

    def stop(self, *, asked=False):
        return ["stop", self.reason(), *([self.label("v")] if asked and self.chance(0.6) else [])]

    def _link(self, name, _depth):
        return ["link", self.other(name)]

    def _unlink(self, name, _depth):
        return ["unlink", self.other(name)]

    def _monitor(self, name, _depth):
        return ["monitor", self.key(f"monitor of {name}"), self.target(name)]

    def _demonitor(self, name, _depth):
        return ["demonitor", self.known(f"monitor of {name}"), True]

    def _register(self, name, _depth):
        return ["register", RIVALS[name]]

    def _unregister(self, name, _depth):
        return ["unregister", RIVALS[name]]

    def _whereis(self, _name, _depth):
        return ["whereis", self.pick("x", "y")]

    def _reply(self, _name, _depth):
        return ["reply", self.known("request"), self.label("v")]

    def _at_end(self, name, _depth):
        program = [self.action(name) for _ in range(self.pick(1, 1, 2))]
        return ["at_end", [action for action in program if action[0] not in ("at_end", "link")]]

    def _start(self, name, _depth):
        other = self.other(name)
        ending = self.pick([], [], [["ignore"]], [self.stop()], [["error"]])
        return ["start", other, ending, *([RIVALS[other]] if self.chance(0.4) else [])]

    def _start_link(self, name, _depth):
        other = self.other(name)
        return ["start_link", other, [], *([RIVALS[other]] if self.chance(0.3) else [])]

    def _cast(self, name, depth):
        return ["cast", *self.message(name, depth)]

    def _send(self, name, depth):
        return ["send", *self.message(name, depth)]

    def _call(self, name, depth):
        """Only of those after it, so that nobody waits in a circle."""
        later = [other for other in NAMES if other > name] or [name]
        target = self.pick(*later)
        timeout = self.pick(TICK + BIT, "infinity") if self.timed else "infinity"
        return ["call", target, self.label("m"), self.program(target, depth + 1, asked=True), timeout]

    def _halt(self, name, _depth):
        later = [other for other in NAMES if other > name]
        return ["halt", self.pick(*later), self.reason()] if later else ["whereis", "x"]

    def _after(self, name, depth):
        return ["after", *self.delayed(name, depth)]

    def _timer(self, name, depth):
        return ["timer", *self.delayed(name, depth)]

    def _cancel(self, _name, _depth):
        return ["cancel", self.known("timer")]

    def _read(self, _name, _depth):
        return ["read", self.known("timer")]

    def delayed(self, name, depth):
        target = None if self.peaceful else name
        return [self.key("timer"), TICK * self.pick(1, 1, 2, 3), *self.message(name, max(depth, 1), target)]

    # --- parts --------------------------------------------------------------------------------------------------------

    def message(self, name, depth, target=None):
        target = target or self.pick(name, *NAMES, self.target(name))
        # Whoever has a name of the registry may not trap exits, so it must not wait.
        program = [] if target in "xy" else self.program(target, depth + 1)
        return [target, self.label("m"), program]

    def target(self, name):
        return self.pick("x", "y", self.other(name), self.other(name), self.other(name))

    def other(self, name):
        return self.pick(*[other for other in NAMES if other != name])

    def reason(self):
        return self.random.choice(REASONS)

    def label(self, letter):
        self.labels += 1
        return f"{letter}{self.labels}"

    def key(self, kind):
        self.keys[kind].append(self.label(kind[0]))
        return self.keys[kind][-1]

    def known(self, kind):
        return self.pick(*self.keys[kind][-3:]) if self.keys[kind] else self.key(kind)


def smaller(scenario):
    """Scenarios that are one step smaller."""
    first = len(NAMES)  # that everybody has begun once is taken for granted
    for ops in _less(scenario["ops"][first:]):
        yield scenario | {"ops": scenario["ops"][:first] + ops}
    for traps in _less(scenario.get("traps", [])):
        yield scenario | {"traps": traps}
    for nth, op in enumerate(scenario["ops"]):
        for less in _plainer(op):
            yield scenario | {"ops": [*scenario["ops"][:nth], less, *scenario["ops"][nth + 1 :]]}


def _less(things):
    for nth in range(len(things)):
        yield things[:nth] + things[nth + 1 :]


def _plainer(op):
    """The operation or action with less in its program."""
    for nth, part in enumerate(op):
        if isinstance(part, list) and all(isinstance(action, list) for action in part):
            for program in (*_less(part), *_inside(part)):
                yield [*op[:nth], program, *op[nth + 1 :]]


def _inside(program):
    """The program with less in one of its actions."""
    for nth, action in enumerate(program):
        for less in _plainer(action):
            yield [*program[:nth], less, *program[nth + 1 :]]
