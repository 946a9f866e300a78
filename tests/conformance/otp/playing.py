"""The same scenarios, played on our supervisors in a simulation; the trace has the form of the recorder's.

The rule of this file: it follows `recorder.escript` name by name, and knows nothing of what is expected.
"""

import math

from supervisors import (
    IGNORE,
    KILLED,
    NOPROC,
    NORMAL,
    OK,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    BadSpec,
    ChildSpec,
    Crash,
    DynamicFlags,
    DynamicSupervisor,
    FailedToStart,
    Flags,
    NotFound,
    Process,
    ProcessDown,
    Restarting,
    Running,
    Shutdown,
    Sim,
    StartError,
    Supervisor,
    exit,
)
from supervisors.testing import Event
from tests.conformance.otp.scenarios import completed

MOMENT = 0.5
"""Virtual seconds in which whatever an operation causes is over, and no `shutdown` of 5 seconds is."""

REASONS = {"normal": NORMAL, "shutdown": SHUTDOWN, "killed": KILLED, "noproc": NOPROC}
WORDS = {reason: word for word, reason in REASONS.items()}
FLAGS = {
    "strategy": "strategy",
    "max_restarts": "intensity",
    "max_seconds": "period",
    "auto_shutdown": "auto_shutdown",
}


class Worker(Process):
    """Begins, ends and refuses to as the director says."""

    trap_exit = True

    def __init__(self, director, name):
        super().__init__()
        self.director, self.name = director, name

    def init(self):
        match self.director.begins(self.name, self.ref):
            case ["info", info]:
                return OK, info
            case ["ignore"]:
                return IGNORE
            case ["fail", reason]:
                self.end(reason)
        return None

    def on_receive(self, message):
        match message:
            case ("die", reason):
                self.end(reason)
            case ("unlink",):
                self.unlink(self.ref.parent)

    def handle_shutdown(self, reason):
        match self.director.asked(self.name, self.ref, reason):
            case "obey":
                self.finish(reason)
            case "refuse":
                Event().wait()
            case other:
                self.finish(as_reason(other))

    def end(self, reason):
        if reason == "error":
            raise RuntimeError("as told")
        self.exit(as_reason(reason))


class Family(Supervisor):
    """A supervisor in module style: the director knows its children."""

    def init(self, director, name):
        return begin_family(self, director, name)


class DynamicFamily(DynamicSupervisor):
    """As simple_one_for_one: the director knows the template, which `start_child` uses."""

    def init(self, director, name):
        return begin_family(self, director, name)


class PatientFamily(Family):
    """No shutdown overtakes what arrived before: so it is in OTP."""

    drain_on_shutdown = True


class PatientDynamicFamily(DynamicFamily):
    """The same."""

    drain_on_shutdown = True


def begin_family(process, director, name):
    match director.begins(name, process.ref):
        case ["ignore"]:
            return IGNORE
        case ["fail", "error"]:
            raise RuntimeError("as told")
        case ["fail", reason]:
            process.exit(as_reason(reason))
    return director.configuration(name)


class Director:
    """Knows what everybody is to do, and writes down what they did."""

    def __init__(self, sim, tree, patient):
        self.sim, self.patient = sim, patient
        self.numbers, self.latest, self.labels, self.next, self.stops = {}, {}, {}, {}, {}
        self.alive, self.families = {}, {}
        self.log, self.hold, self.held = [], None, None
        self.describe("top", tree)

    # --- what the processes ask ---------------------------------------------------------------------------------------

    def begins(self, name, ref):
        self.numbers[name] = number = self.numbers.get(name, 0) + 1
        self.labels[ref] = label = f"{name}#{number}"
        outcome = self.next[name].pop(0) if self.next.get(name) else ["ok"]
        self.write(label, "begins:", *map(text, outcome))
        if outcome[0] in ("ok", "info"):
            self.alive[ref], self.latest[name] = True, ref
            ref.add_exit_callback(lambda reason: self.ended(ref, reason))
        self.hold_if("start", name)
        return outcome

    def asked(self, name, ref, reason):
        self.write(self.labels[ref], "asked:", reason_text(reason))
        self.hold_if("stop", name)
        return self.stops.get(name, "obey")

    def hold_if(self, *moment):
        if self.hold == moment:
            self.hold, self.held = None, Event()
            self.write("(held)")
            self.held.wait()

    def ended(self, ref, reason):
        del self.alive[ref]
        self.write(self.labels[ref], "ends:", reason_text(reason))

    def write(self, *words):
        self.log.append(" ".join(words))

    # --- what happens -------------------------------------------------------------------------------------------------

    def play(self, ops):
        trace = [self.operation(op) for op in [["start"], *ops, ["stop", "shutdown"]]]
        left = sorted(self.labels[ref] for ref in self.alive)
        return trace + ([[" ".join(["left", *left]), []]] if left else [])

    def operation(self, op):
        match op:
            case ["hold", moment, name, main, meanwhile]:
                self.hold = (moment, name)
                asked, others = self.perform(main), []
                self.sim.advance(MOMENT)
                if self.held is not None:
                    self.sim.advance(MOMENT)
                    for each in meanwhile:
                        others.append(self.perform(each))
                        self.sim.advance(MOMENT)
                    self.write("(released)")
                    self.held.set()
                    self.sim.advance(MOMENT)
                self.hold = self.held = None
                log, self.log = self.log, []
                return [answer(asked), log, *([[answer(each) for each in others]] if others else [])]
            case _:
                asked = self.perform(op)
                self.sim.advance(MOMENT)
                log, self.log = self.log, []
                return [answer(asked), log]

    def perform(self, op):
        match op:
            case ["start"]:
                return self.sim.client(self.say, "top", self.sup_class("top").start, self, "top")
            case ["stop", reason]:
                if "top" in self.latest:
                    exit(self.latest["top"], as_reason(reason))
            case ["next", name, *outcomes]:
                self.next[name] = outcomes
            case ["stops", name, how]:
                self.stops[name] = how
            case ["wait", milliseconds]:
                self.sim.advance(milliseconds / 1000)
            case ["die", name, "kill"] if self.latest.get(name) in self.alive:
                exit(self.latest[name], "kill")
            case ["die" | "unlink" as word, name, *reason]:
                if self.latest.get(name) in self.alive:
                    self.latest[name].send((word, *reason))
            case [request, sup, *args]:
                return self.request(request, sup, args)
        return "-"

    def request(self, request, sup, args):
        ref = self.latest.get(sup)
        if ref is None:
            return "nobody"
        dynamic = "dynamic" in self.families[sup]
        if request == "update":
            self.describe(sup, args[0])
            args = as_pair(self.configuration(sup))
        elif request == "start_child":
            args = [self.template(sup, *args) if dynamic else self.child(*args)]
        elif dynamic and args:
            if args[0] not in self.latest:
                return "nobody"
            args = [self.latest[args[0]]]
        return self.sim.client(self.say, request, getattr(ref, request), *args)

    # --- descriptions -------------------------------------------------------------------------------------------------

    def describe(self, name, family):
        self.families[name] = family
        for child in family.get("children", ()):
            if "sup" in child:
                self.describe(child["id"], child["sup"])

    def configuration(self, name):
        family = self.families[name]
        intensity = {"max_restarts": family["intensity"], "max_seconds": family["period"]}
        if "dynamic" in family:
            return DynamicFlags(**intensity)
        flags = Flags(strategy=family["strategy"], auto_shutdown=family["auto"], **intensity)
        return flags, [self.child(each) for each in family["children"]]

    def child(self, said):
        start = Worker
        if "sup" in said:
            self.describe(said["id"], said["sup"])
            start = self.sup_class(said["id"])
        return self.spec(said, start, said["id"])

    def template(self, sup, name):
        return self.spec(self.families[sup]["dynamic"], Worker, name)

    def spec(self, said, start, name):
        shutdown = said["shutdown"]
        return ChildSpec(
            id=said["id"],
            start=start,
            args=(self, name),
            restart=said["restart"],
            shutdown=math.inf
            if shutdown == "infinity"
            else shutdown / 1000
            if isinstance(shutdown, int)
            else shutdown,
            type=said["type"],
            significant=said["significant"],
        )

    def sup_class(self, name):
        if "dynamic" in self.families[name]:
            return PatientDynamicFamily if self.patient else DynamicFamily
        return PatientFamily if self.patient else Family

    # --- answers, as text ---------------------------------------------------------------------------------------------

    def say(self, request, call, *args):
        try:
            return self.said(request, call(*args))
        except AlreadyStarted as error:
            return f"already_started {self.labels[error.ref]}"
        except (NotFound, Running, Restarting, AlreadyPresent) as error:
            return {"NotFound": "not_found", "AlreadyPresent": "already_present"}.get(
                type(error).__name__, type(error).__name__.lower()
            )
        except (BadSpec, StartError) as error:
            return f"failed {reason_text(error.reason if isinstance(error, StartError) else error)}"
        except ProcessDown:
            return "down"

    def said(self, request, result):
        match request, result:
            case "which_children", children:
                shown = [(child.id, self.who(child.ref)) for child in children]
                named = [who if id is None else f"{id}={who}" for id, who in shown]
                return " ".join(["children", *named])
            case "count_children", counts:
                return " ".join(map(str, counts))
            case "get_childspec", spec:
                shutdown = spec.shutdown
                if not isinstance(shutdown, str):
                    shutdown = "infinity" if shutdown == math.inf else round(shutdown * 1000)
                return " ".join(map(text, ["spec", spec.restart, shutdown, spec.significant, spec.type]))
            case (("terminate_child" | "delete_child" | "update"), None):
                return "ok"
            case _, (ref, info):
                return f"ok {self.who(ref)} {info}"
            case "top", _ if result is IGNORE:
                return "ignore"
            case _, ref:
                return f"ok {self.who(ref)}"

    def who(self, ref):
        return "undefined" if ref is None else ref if isinstance(ref, str) else self.labels[ref]


def play(scenario, seed=0, *, patient=True):
    """The trace of a scenario with our supervisors; `patient` ones have `drain_on_shutdown`."""
    full = completed(scenario)
    with Sim(seed, preemption=0.0, max_zombies=1000) as sim:
        return Director(sim, full["tree"], patient).play(full["ops"])


def answer(asked):
    if isinstance(asked, str):
        return asked
    return asked.get() if asked.done() else "no answer"


def as_pair(configuration):
    return configuration if isinstance(configuration, tuple) else (configuration,)


def as_reason(said):
    match said:
        case ["shutdown", term]:
            return Shutdown(term)
        case word:
            return REASONS.get(word, word)


def reason_text(reason):
    match reason:
        case Shutdown(FailedToStart(id, inner)):
            return f"failed_to_start {id} {reason_text(inner)}"
        case Shutdown(term):
            return f"shutdown:{term}"
        case BadSpec(why="supervisor_data"):
            return f"bad:invalid_{FLAGS[reason.value[0]]}"
        case BadSpec():
            return f"bad:{'duplicate_child_name' if reason.why == 'duplicate_child_id' else reason.why}"
        case Crash():
            return "error"
        case _:
            return WORDS.get(reason, reason)


def text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
