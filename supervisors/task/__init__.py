"""Tasks: a function, run once, in a supervised process of its own.

supervisor.py  TaskSupervisor: starts tasks, and stops them at its end
handle.py      Task: the handle that whoever starts a task gets
stream.py      one task for each of many items, a limited number at a time
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
