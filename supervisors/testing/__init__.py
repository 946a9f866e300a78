"""For tests of what is built on supervisors: a world that can be repeated, and what goes wrong in it.

    def two_deposits(sim):
        account = Account.start()
        clients = [sim.client(deposit, account) for _ in range(2)]
        sim.run_until_idle()
        assert account.ask("balance") == 2

    explore(two_deposits)           # tries 200 orders; raises ScenarioFailed with the shortest one that fails

exploration.py   explore, run_in_sim: a scenario over many seeds, and what is left of the one that failed
shrinking.py     from a failing list of choices to a small one
probes.py        processes that record, events that simulated time knows of
wholeness.py     assert_tree_whole: nobody is orphaned, forgotten or misnamed
"""

from supervisors.errors import OutsideSimulation, SimulationError, Stuck
from supervisors.runtime.choices import Choice
from supervisors.runtime.faults import Faults, InjectedFault
from supervisors.runtime.sim import Sim
from supervisors.testing.exploration import ScenarioFailed, explore, run_in_sim
from supervisors.testing.probes import Event, Probe
from supervisors.testing.wholeness import assert_tree_whole

__all__ = [
    "Choice",
    "Event",
    "Faults",
    "InjectedFault",
    "OutsideSimulation",
    "Probe",
    "ScenarioFailed",
    "Sim",
    "SimulationError",
    "Stuck",
    "assert_tree_whole",
    "explore",
    "run_in_sim",
]
