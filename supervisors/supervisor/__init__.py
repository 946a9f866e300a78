"""Supervisors as processes: they perform what the core decides.

supervision.py   what both kinds do: turn what arrives into operations of the core
performer.py     the steps of these operations, without ever blocking a thread
static.py        Supervisor: a list of children
dynamic.py       DynamicSupervisor: children that come and go
partition.py     PartitionSupervisor: several copies of one child, found by a key
starter.py       children whose start is a function
"""

from supervisors.supervisor.dynamic import DynamicSupervisor, DynamicSupervisorRef
from supervisors.supervisor.partition import PartitionSupervisor, partition_of
from supervisors.supervisor.performer import START_TIMEOUT
from supervisors.supervisor.static import Supervisor, SupervisorRef
from supervisors.supervisor.supervision import Request

__all__ = [
    "START_TIMEOUT",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "PartitionSupervisor",
    "Request",
    "Supervisor",
    "SupervisorRef",
    "partition_of",
]
