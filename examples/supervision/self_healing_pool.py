"""A pool of workers under a supervisor: jobs that crash a worker cost one answer, and nothing else.

Supervisor 'shop'                    rest_for_one: without its workers the desk is of no use
├─ PartitionSupervisor 'workers'     one worker for each of four keys
│  ├─ Worker 0 ... Worker 3
└─ Desk                              hands out jobs, counts what came of them
"""

import logging
from collections import Counter
from threading import Semaphore

from supervisors import (
    GenServer,
    PartitionSupervisor,
    ProcessDown,
    Supervisor,
    System,
    TaskSupervisor,
    call,
    child,
    get_state,
    tree,
)

logging.getLogger("supervisors").setLevel(logging.CRITICAL)  # crashes are what this is about


class Worker(GenServer):
    """Divides; a zero is the end of it."""

    def handle_call(self, request, from_):
        return 100 / request


class Desk(GenServer):
    """Gives each job to the worker of its key, through a task, so that a worker's crash is only news here."""

    def __init__(self):
        super().__init__()
        self.outcomes = Counter()

    def handle_call(self, request, from_):
        tasks = self.system.whereis("tasks")
        worker = PartitionSupervisor.via("workers", request)
        task = tasks.async_nolink(call, worker, request)
        try:
            task.await_()
            outcome = "done"
        except ProcessDown as down:
            outcome = type(down.reason.exc).__name__
        self.outcomes[outcome] += 1
        return outcome


with System() as system:
    shop = Supervisor.start_link(
        [
            child(PartitionSupervisor, Worker, name="workers", partitions=4, max_restarts=10),
            child(TaskSupervisor, name="tasks"),
            child(Desk, name="desk"),
        ],
        strategy="rest_for_one",
        name="shop",
    )
    restarted = Semaphore(0)
    system.reports.subscribe(
        lambda report: (
            report.kind == "child_started" and report.ref.actor_class is Worker and restarted.release()
        )
    )
    outcomes = []
    for job in (1, 2, 0, 4, 7, 0, 8):
        outcomes.append(call("desk", job))
        if outcomes[-1] != "done":
            assert restarted.acquire(timeout=10)  # the next job of the same key wants somebody to do it
    workers = [line.ref for line in shop.which_child("workers").ref.which_children()]
    print(tree(shop))
    print(outcomes)

    assert outcomes == ["done", "done", "ZeroDivisionError", "done", "done", "ZeroDivisionError", "done"]
    assert get_state("desk") == {"outcomes": {"done": 5, "ZeroDivisionError": 2}}
    assert all(worker.is_alive() for worker in workers)
