"""The same scenarios, played with our processes in a simulation; the trace has the form of the recorder's.

The rule of this file: it follows `recorder.escript` name by name, and knows nothing of what is expected.
"""

import pykka

from supervisors import (
    IGNORE,
    NO_REPLY,
    NOPROC,
    AlreadyStarted,
    CallingSelf,
    Deadlock,
    GenServer,
    ProcessDown,
    Registry,
    Sim,
    StartError,
    Stop,
    Timeout,
    call,
    cast,
    exit,
    send,
    stop,
    via,
    whereis,
)
from supervisors.testing import Event
from tests.conformance.otp.playing import as_reason, reason_text

KEY, NAME = "x", "y"
"""A key of a registry, which a process can get and give up at any time, and a name, which it has from its start."""


class Server(GenServer):
    """Does what its messages bring: a list of actions each."""

    at_end = ()

    def __init__(self, director, name, program):
        super().__init__()
        self.director, self.name, self.program, self.monitors = director, name, program, {}
        self.trap_exit = name in director.traps
        # Who does not trap exits dies of a shutdown at once in OTP; to others it is a message in its place.
        self.drain_on_shutdown = self.trap_exit

    def init(self):
        self.director.born(self.name, self.ref)
        self.log("init")
        match self.run(self.program):
            case outcome if outcome is IGNORE:
                return IGNORE
            case Stop(reason):
                self.exit(reason)
        return None

    def handle_call(self, request, from_):
        label, program = request
        self.log("call", label)
        match self.run(program):
            case "keep", key:
                self.director.requests[key] = from_
                return NO_REPLY
            case "return", value:
                return value
            case Stop(reason, None):
                self.exit(reason)
            case Stop() as outcome:
                return outcome
        return "ok"

    def handle_cast(self, request):
        label, program = request
        self.log("cast", label)
        return self.run(program)

    def handle_info(self, msg):
        match msg:
            case Timeout(timer, (label, program)):
                self.log("timer", self.director.keys[timer], label)
            case (label, program):
                self.log("info", label)
        return self.run(program)

    def handle_down(self, down):
        self.log("down", self.director.keys[down.mref], reason_text(down.reason))

    def handle_exit(self, exit):
        self.log("exit", self.director.who(exit.ref), reason_text(exit.reason))

    def handle_timeout(self):
        self.log("timeout")

    def handle_continue(self, arg):
        label, program = arg
        self.log("continue", label)
        return self.run(program)

    def terminate(self, reason):
        self.log("terminate", reason_text(reason))
        self.run(self.at_end)

    def log(self, *words):
        self.director.log(self.director.who(self.ref), *words)

    # --- actions: one after the other, until one says what comes of all this ------------------------------------------

    def run(self, program):
        for word, *rest in program:
            outcome = getattr(self, f"act_{word}")(*rest)
            if outcome is not None:
                return outcome
        return None

    def act_link(self, name):
        self.link(self.director.target(name))

    def act_unlink(self, name):
        self.unlink(self.director.target(name))

    def act_monitor(self, key, name):
        self.monitors[key] = mref = self.monitor(self.director.target(name))
        self.director.keys[mref] = key

    def act_demonitor(self, key, flush):
        if key in self.monitors:
            self.demonitor(self.monitors[key], flush=flush)

    def act_exit(self, name, reason):
        exit(self.director.target(name), as_reason(reason))

    def act_cast(self, name, label, program):
        cast(self.director.target(name), (label, program))

    def act_send(self, name, label, program):
        send(self.director.target(name), (label, program))

    def act_call(self, name, label, program, milliseconds):
        timeout = None if milliseconds == "infinity" else milliseconds / 1000
        self.log("asks", label, answer(call, self.director.target(name), (label, program), timeout))

    def act_after(self, key, milliseconds, name, label, program):
        timer = self.send_after(milliseconds / 1000, self.director.target(name), (label, program))
        self.director.timers[key] = timer

    def act_timer(self, key, milliseconds, name, label, program):
        timer = self.start_timer(milliseconds / 1000, self.director.target(name), (label, program))
        self.director.timers[key], self.director.keys[timer] = timer, key

    def act_cancel(self, key):
        self.log("cancel", key, left(self.director.timers.get(key), "cancel"))

    def act_read(self, key):
        self.log("read", key, left(self.director.timers.get(key), "read"))

    def act_register(self, key):
        self.log("register", key, "yes" if self.director.registry.register(key) else "no")

    def act_unregister(self, key):
        self.director.registry.unregister(key)

    def act_whereis(self, name):
        self.log("whereis", name, self.director.who(whereis(self.director.target(name))))

    def act_reply(self, key, value):
        if key in self.director.requests:
            self.director.requests[key].reply(value)

    def act_at_end(self, program):
        self.at_end = program

    def act_hold(self):
        self.director.hold(self.ref)

    def act_halt(self, name, reason):
        self.log("halts", name, answer(halt, self.director.target(name), as_reason(reason)))

    def act_start(self, *how):
        self.log("starts", *self.director.start(Server.start, *how))

    def act_start_link(self, *how):
        self.log("starts", *self.director.start(Server.start_link, *how))

    def act_quit(self, reason):
        self.exit(as_reason(reason))

    def act_error(self):
        raise RuntimeError("as told")

    def act_stop(self, reason, *value):
        return Stop(as_reason(reason), *value)

    def act_continue(self, label, program):
        self.continue_((label, program))
        return "continue"

    def act_idle(self, milliseconds):
        self.idle_timeout(milliseconds / 1000)
        return "idle"

    def act_ignore(self):
        return IGNORE

    def act_return(self, value):
        return "return", value

    def act_keep(self, key):
        return "keep", key


class Director:
    """Knows what everybody may know, and writes down what they saw."""

    def __init__(self, sim, traps, pace):
        self.sim, self.traps, self.pace = sim, traps, pace
        self.registry = Registry()
        self.numbers, self.latest, self.labels, self.held = {}, {}, {}, {}
        self.timers, self.requests, self.keys = {}, {}, {}
        self.lines = []

    def born(self, name, ref):
        self.numbers[name] = number = self.numbers.get(name, 0) + 1
        self.latest[name], self.labels[ref] = ref, f"{name}#{number}"
        ref.add_exit_callback(lambda reason: self.log(self.labels[ref], "ends", reason_text(reason)))

    def log(self, *words):
        self.lines.append(" ".join(words))

    def who(self, ref):
        return "nobody" if ref is None else self.labels[ref]

    def target(self, name):
        return via(self.registry, name) if name == KEY else name if name == NAME else self.latest[name]

    def hold(self, ref):
        self.held[ref] = event = Event()
        event.wait()

    def start(self, how, name, program, key=None):
        try:
            started = how(self, name, program, name=None if key is None else self.target(key))
        except AlreadyStarted as error:
            return name, "already_started", self.who(error.ref)
        except StartError as error:
            return name, "failed", reason_text(error.reason)
        return (name, "ignore") if started is IGNORE else (name, "ok", self.who(started))

    def operation(self, op):
        match op:
            case ["start", *how]:
                self.sim.client(lambda: self.log("-", "starts", *self.start(Server.start, *how)))
            case ["do", name, program] if name in self.latest:
                self.latest[name].send(("do", program))
            case ["release", name] if self.latest.get(name) in self.held:
                self.held.pop(self.latest[name]).set()
            case ["wait", milliseconds]:
                self.sim.advance(milliseconds / 1000)
        self.sim.advance(self.pace)
        lines, self.lines = self.lines, []
        return sorted(lines, key=lambda line: line.split(" ", 1)[0])


def halt(target, reason):
    """`stop`, which tells by the ref what OTP's raises: that the process ended for another reason."""
    ref = whereis(target)
    if ref is None or not stop(ref, reason=reason):
        raise ProcessDown(NOPROC, target)
    if ref.exit_reason != reason:
        raise ProcessDown(ref.exit_reason, ref)
    return "ok"


def answer(ask, *args):
    """What came of it, as text."""
    try:
        return f"ok {ask(*args)}"
    except pykka.Timeout:
        return "timeout"
    except CallingSelf:
        return "calling_self"
    except Deadlock:
        return "deadlock"
    except ProcessDown as down:
        return f"down {reason_text(down.reason)}"
    except RuntimeError:
        return "down error"


def left(timer, word):
    """Whether there was time left to cancel or read, as text."""
    if timer is None:
        return "unknown"
    return "gone" if getattr(timer, word)() is None else "left"


def play(scenario, way=0):
    """The trace of a scenario with our processes; each way has another order, and is a bit slower."""
    with Sim(seed=way, preemption=way % 2 / 2, max_zombies=1000) as sim:
        director = Director(sim, scenario.get("traps", ()), pace=way / 1000)
        trace = [director.operation(op) for op in scenario["ops"]]
        for ref in list(director.labels):
            ref.kill()
        return trace
