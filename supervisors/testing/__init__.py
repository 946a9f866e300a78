"""For tests of what is built on supervisors: simulations that can be repeated, and faults in them.

    def two_deposits(sim):
        account = Account.start()
        clients = [sim.client(deposit, account) for _ in range(2)]
        sim.run_until_idle()
        assert account.ask("balance") == 2

    explore(two_deposits)           # runs it in 200 orders; raises ScenarioFailed with a small one that fails

exploration.py   explore, run_in_sim: runs a scenario with many seeds, and makes a failure small
shrinking.py     makes a failing list of choices small
probes.py        a process that records what it gets, and an event that simulations know of
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
