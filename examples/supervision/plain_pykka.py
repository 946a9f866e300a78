"""Pykka actors as they are, under a supervisor: what fails is started again, and nobody polls `is_alive`."""

import logging

import pykka

from supervisors import Crash, StartError, Supervisor, System, child, exit, tree

logging.getLogger("supervisors").setLevel(logging.CRITICAL)
logging.getLogger("pykka").setLevel(logging.CRITICAL)


class Counter(pykka.ThreadingActor):
    """Counts; knows nothing of supervision."""

    def __init__(self, start):
        super().__init__()
        self.count = start

    def on_receive(self, message):
        self.count += message
        return self.count


class Broken(pykka.ThreadingActor):
    """Cannot start; Pykka alone would only log it."""

    def on_start(self):
        raise OSError("no such device")


with System():
    sup = Supervisor.start_link([child(Counter, 40)])
    first = sup.which_child(Counter).ref
    assert first.ask(2) == 42

    exit(first, "kill")
    second = sup.which_child(Counter).ref
    print(tree(sup))
    assert second is not first
    assert not first.is_alive()
    assert second.ask(1) == 41  # started anew, with the arguments of its spec
    assert second.proxy().count.get() == 41

    reason = None
    try:
        sup.start_child(Broken)
    except StartError as error:
        print(error)
        reason = error.reason
    assert isinstance(reason, Crash)
    assert isinstance(reason.exc, OSError)

assert not second.is_alive()
