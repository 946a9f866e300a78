"""A race that ordinary tests miss, found in a simulation, with the order that it takes.

Two customers pay into one account. Each asks for the balance, adds, and sets it: the account is a process and handles
one message at a time, and still a payment can get lost. The simulator tries orders until one fails, and then takes away
from that order what does not matter. The second account adds up by itself, and survives every order, crashes included.
"""

from supervisors import Faults, GenServer, ScenarioFailed, Sim, Supervisor, call, child, explore
from supervisors.testing import assert_tree_whole, run_in_sim


class Account(GenServer):
    """Does what it is told, by people who know the balance."""

    def __init__(self):
        super().__init__()
        self.balance = 0

    def handle_call(self, request, from_):
        match request:
            case "balance":
                return self.balance
            case ("set", balance):
                self.balance = balance
            case ("pay", amount):
                self.balance += amount
        return self.balance


def read_add_write(amount):
    """The race: between the two calls, somebody else may do the same."""
    balance = call("account", "balance")
    call("account", ("set", balance + amount))


def leave_it_to_the_account(amount):
    """One message, so nothing can come in between."""
    call("account", ("pay", amount))


def two_payments(sim: Sim, pay):
    """Somebody pays 10 and, when the simulator says so, somebody else 5."""
    Supervisor.start_link([child(Account, name="account")])
    sim.client(pay, 10, name="Ann")
    if sim.pick("one after the other", "at once") == "one after the other":
        sim.run_until_idle()
    sim.client(pay, 5, name="Bob")
    sim.run_until_idle()
    balance = call("account", "balance")
    assert balance == 15, f"15 were paid in, and there are {balance}"


def find_the_race() -> ScenarioFailed:
    """The failure with its smallest order."""
    try:
        explore(lambda sim: two_payments(sim, read_add_write))
    except ScenarioFailed as failure:
        return failure
    raise AssertionError("the race was not found")


def fails_again(failure: ScenarioFailed) -> bool:
    """The same choices make the same run, tomorrow and elsewhere."""
    try:
        run_in_sim(lambda sim: two_payments(sim, read_add_write), replay=failure.choices)
    except AssertionError:
        return True
    return False


def survive_kills(sim: Sim):
    """Whatever happens to the account, there is one, and the tree is whole."""
    Supervisor.start_link([child(Account, name="account")], max_restarts=10)
    sim.system.whereis("account").send(("pay", 10))
    sim.run_until_idle()
    assert call("account", "balance") in (0, 10)
    assert_tree_whole()


def main() -> None:
    """Find it, run it again, and see that the cure cures."""
    failure = find_the_race()
    print(failure)
    assert sum(1 for choice in failure.choices if choice) <= 2
    assert fails_again(failure)

    explore(lambda sim: two_payments(sim, leave_it_to_the_account))
    explore(survive_kills, faults=Faults(kill=lambda ref: ref.name == "account", nth=1, at_most=1))
    print("\nleft to the account: 200 orders, no payment lost")


if __name__ == "__main__":
    main()
