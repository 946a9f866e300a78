"""Tasks: a function, run once, in a supervised process of its own.

supervisor.py  TaskSupervisor: who starts tasks and stops them at its end
handle.py      Task: what the one who started it does with it
stream.py      one task for each of many items, so many at a time
work.py        the process that runs the function
"""

from supervisors.task.handle import Task
from supervisors.task.supervisor import TaskSupervisor, TaskSupervisorRef
from supervisors.task.work import Ended, Returned, TaskResult, callers, current_process

__all__ = [
    "Ended",
    "Returned",
    "Task",
    "TaskResult",
    "TaskSupervisor",
    "TaskSupervisorRef",
    "callers",
    "current_process",
]
