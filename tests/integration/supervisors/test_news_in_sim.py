"""Tables that tell of their changes, with senders that are interrupted in the middle of telling, in many orders."""

from contextlib import suppress

from supervisors import GroupJoined, Process, ProcessDown, Registered, Registry, explore

INTERRUPTED = {"preemption": 0.7, "real_patience": 5.0}


class Member(Process):
    """Does what it is told, with whatever it shares with the others."""

    def on_receive(self, act):
        act(self)


class Reader(Process):
    """Keeps the news it gets, and from them who is there now."""

    def __init__(self, enters):
        super().__init__()
        self.enters = enters
        self.present = []

    def on_receive(self, news):
        if callable(news):
            news(self)
        elif isinstance(news, self.enters):
            self.present += [news.ref] if self.enters is Registered else news.refs
        else:
            for ref in [news.ref] if self.enters is Registered else news.refs:
                self.present.remove(ref)  # who was not there cannot have left


def join(groups, member):
    with suppress(ProcessDown):
        groups.join("g", member)


def test_news_of_groups_add_up_to_the_members():
    def scenario(sim):
        groups = sim.system.groups
        members = [Member.start() for _ in range(4)]
        readers = [Reader.start(GroupJoined) for _ in range(2)]
        for reader in readers:
            sim.client(reader.tell, lambda self: self.present.extend(groups.monitor("g")[1]))
        for member in members:
            sim.client(member.send, lambda self: groups.join("g", self.ref))
            sim.client(join, groups, member)
            sim.client(member.send, lambda self: groups.leave("g", self.ref))
        sim.client(members[0].stop)
        sim.run_until_idle()
        there = sorted(ref.number for ref in groups.members("g"))
        for reader in readers:
            assert sorted(ref.number for ref in reader.actor_inbox.owner.present) == there

    explore(scenario, seeds=range(100), **INTERRUPTED)


def test_news_of_a_registry_add_up_to_who_has_the_key():
    def scenario(sim):
        readers = [Reader.start(Registered) for _ in range(2)]
        registry = Registry(listeners=readers)
        members = [Member.start() for _ in range(4)]
        for member in members:
            sim.client(member.send, lambda self: registry.register("k"))
            sim.client(member.send, lambda self: registry.unregister("k", self.ref))
            sim.client(member.send, lambda self: registry.register("k"))
        sim.client(members[0].stop)
        sim.run_until_idle()
        there = [entry.ref for entry in registry.lookup("k")]
        for reader in readers:
            assert reader.actor_inbox.owner.present == there

    explore(scenario, seeds=range(100), **INTERRUPTED)
