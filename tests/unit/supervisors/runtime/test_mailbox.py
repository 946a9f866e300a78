"""A mailbox runs its owner one activation at a time, control first, and loses nothing."""

from collections import deque
from functools import partial
from itertools import count

import pytest

from supervisors.errors import BadSpec
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.limit import Limit, MailboxConfig
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.running import running
from supervisors.runtime.signals import StopRequest
from supervisors.runtime.timers import RealClock


class Steps(Dispatcher):
    """Runs mailboxes when told to."""

    def __init__(self):
        self.ready = deque()

    def schedule(self, box):
        self.ready.append(box)

    def abandon(self, box, zombie):
        return False

    def stop(self, timeout=None):
        return []

    def run(self, budget=-1):
        while self.ready:
            self.ready.popleft().run(budget)


class Grave:
    """The ref of an owner: what is drained comes here, and what is refused."""

    def __init__(self, box):
        self.actor_inbox = box
        self.items = []

    def drain(self, _reason=None):
        self.items += self.actor_inbox.drain()

    def refuse(self, item, *_why):
        self.items.append(item)


class Moment:
    """One of the steps of the block: before it, `rival()` does its work, as another thread might."""

    def __init__(self, number):
        self.number = number
        self.came = False
        self.rival = None
        self._left = -2

    def __enter__(self):
        self._left = self.number

    def __exit__(self, *_exc):
        self._left = -2

    def step(self):
        self._left -= 1
        if self._left == -1:
            self.came = True
            self.rival()


class Watched(deque):
    """A lane whose every use is a step."""

    def __init__(self, items, moment):
        super().__init__(items)
        self.moment = moment

    def __len__(self):
        self.moment.step()
        return super().__len__()

    def append(self, item):
        self.moment.step()
        super().append(item)

    def appendleft(self, item):
        self.moment.step()
        super().appendleft(item)

    def extendleft(self, items):
        self.moment.step()
        super().extendleft(items)

    def pop(self):
        self.moment.step()
        return super().pop()

    def popleft(self):
        self.moment.step()
        return super().popleft()


def moments():
    """Each step that there is, one after the other, and none."""
    for number in count():
        moment = Moment(number)
        yield moment
        if not moment.came:
            assert number > 3
            return


class Owner:
    """Writes down what it is given; an item that can be called is called."""

    trap_exit = drain_on_shutdown = _actor_ends_quietly = False

    def __init__(self, box):
        self.box = box
        self.log = []
        self.ref = Grave(box)

    def _note(self, kind, item=None):
        assert running.process is self
        self.log.append(kind if item is None else (kind, item))
        if callable(item):
            item()

    def _actor_begin(self):
        self._note("begin")

    def _actor_passes(self, item):
        return item == "passes"

    def _actor_on_control(self, signal):
        self._note("control", signal)

    def _actor_on_user(self, item):
        self._note("user", item)

    def _actor_kill(self):
        self.box.closed = True
        self.log.append("killed")


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def box(steps):
    box = Mailbox()
    box.dispatcher = steps
    box.owner = Owner(box)
    return box


def started(box, steps):
    steps.schedule(box)
    steps.run()
    box.owner.log.clear()
    return box.owner


def test_puts_before_the_start_wait_for_it(box, steps):
    box.put(1)
    assert not steps.ready
    steps.schedule(box)
    steps.run()
    assert box.owner.log == ["begin", ("user", 1)]


def test_a_mailbox_is_scheduled_once_while_it_has_something_to_do(box, steps):
    owner = started(box, steps)
    box.put(1)
    box.put(2)
    box.put_control("c")
    assert len(steps.ready) == 1
    steps.run()
    assert owner.log == [("control", "c"), ("user", 1), ("user", 2)]
    assert not steps.ready
    assert running.process is None


def test_control_is_looked_at_before_every_user_message(box, steps):
    owner = started(box, steps)
    box.put(lambda: box.put_control("c"))
    box.put(2)
    steps.run()
    assert [kind for kind, _ in owner.log] == ["user", "control", "user"]


def test_a_budget_sends_the_mailbox_to_the_tail(box, steps):
    owner = started(box, steps)
    for n in range(5):
        box.put(n)
    steps.ready.popleft().run(2)
    assert [item for _, item in owner.log] == [0, 1]
    assert len(steps.ready) == 1
    steps.run(2)
    assert [item for _, item in owner.log] == [0, 1, 2, 3, 4]


def test_what_arrives_during_the_last_message_is_not_forgotten(box, steps):
    owner = started(box, steps)
    box.put(lambda: box.put("late"))
    steps.run()
    assert owner.log[-1] == ("user", "late")


def test_held_messages_keep_their_place_and_some_pass(box, steps):
    owner = started(box, steps)
    box.hold()
    for item in (1, "passes", 2):
        box.put(item)
    steps.run()
    assert owner.log == [("user", "passes")]
    assert len(box) == 2
    box.put_control(box.release)
    box.put(3)
    steps.run()
    assert [item for kind, item in owner.log if kind == "user"] == ["passes", 1, 2, 3]


def test_what_is_put_back_comes_before_what_is_held(box, steps):
    owner = started(box, steps)
    box.hold()
    box.put("held")
    steps.run()
    box.put_control(lambda: (box.put_back([1, 2]), box.release()))
    steps.run()
    assert [item for kind, item in owner.log if kind == "user"] == [1, 2, "held"]


def test_after_the_close_nothing_runs_and_the_rest_is_drained_in_order(box, steps):
    owner = started(box, steps)
    box.put(lambda: setattr(box, "closed", True))
    box.put(1)
    box.put_control("c")
    box.put(2)
    steps.run()
    box.put_control("d")
    assert box.drain() == ["d", 1, 2]
    assert box.put(3) is False
    assert box.put_control("e") is False
    assert box.drain() == ["e", 3]
    assert box.closed
    assert not steps.ready
    assert len(owner.log) == 2


def test_an_owner_that_died_in_the_run_queue_is_not_run(box, steps):
    owner = started(box, steps)
    box.put(1)
    box.owner = None
    steps.run()
    assert owner.log == []


def test_an_owner_that_raises_is_killed_and_does_not_take_the_worker_with_it(box, steps, caplog):
    owner = started(box, steps)
    caplog.set_level("CRITICAL", logger="supervisors")
    box.put(lambda: 1 / 0)
    steps.run()
    assert owner.log[-1] == "killed"
    assert running.process is None


def test_a_quiet_put_takes_the_turn_here_unless_somebody_else_has_it(box, steps):
    owner = started(box, steps)
    box.put_quiet("now", control=False)
    assert owner.log == [("user", "now")]
    box.put("before")
    box.put_quiet("later", control=True)
    assert len(owner.log) == 1
    steps.run()
    assert owner.log[1:] == [("control", "later"), ("user", "before")]


def watched(moment, **lanes):
    """A mailbox with these lanes, and its owner."""
    box = Mailbox()
    box.dispatcher = Steps()
    box.fresh = False
    box.owner = Owner(box)
    for name, items in lanes.items():
        setattr(box, name, Watched(items, moment))
    return box, box.owner


def test_whenever_a_kill_meets_a_release_nothing_is_left_and_the_killer_gets_all_but_one_item():
    for moment in moments():
        box, owner = watched(moment, held=[1, 2, 3], user=[4, 5])
        killed = moment.rival = Killer(box, owner)
        with moment:
            if not box.release():
                owner.ref.drain()
        if moment.came:
            assert len(killed.got) >= 4
            assert sorted(owner.ref.items) == [1, 2, 3, 4, 5]
            assert len(box) == 0
        else:
            assert list(box.user) == [1, 2, 3, 4, 5]


def test_whenever_a_kill_meets_a_turn_nothing_is_left():
    for moment in moments():
        box, owner = watched(moment, control=["c"], held=[1], user=[2, 3])
        moment.rival = Killer(box, owner)
        with moment:
            box.run(-1)
        handled = [item for _kind, item in owner.log]
        if moment.came:
            assert sorted(map(str, [*handled, *owner.ref.items])) == ["1", "2", "3", "c"]
            assert len(box) == len(box.control) == 0
        else:
            assert (handled, list(box.held)) == (["c"], [1, 2, 3])


class Killer:
    """Kills the owner of a mailbox, and knows what it got of what waited."""

    def __init__(self, box, owner):
        self.box = box
        self.ref = owner.ref
        self.got = []

    def __call__(self):
        self.box.closed = True
        self.ref.drain()
        self.got = list(self.ref.items)


@pytest.mark.parametrize("sender_first", [True, False])
def test_whenever_a_release_meets_a_sender_that_drops_the_oldest_no_signal_is_lost(sender_first):
    limit = Limit(MailboxConfig(maxlen=4, policy="drop_old"), RealClock())
    spared = StopRequest()
    for moment in moments():
        box, owner = watched(moment, held=[spared, 1], user=[2, 3])
        send = partial(limit.admit, owner.ref, 4)
        first, moment.rival = (send, box.release) if sender_first else (box.release, send)
        with moment:
            first()
        if not moment.came:
            moment.rival()
        assert not box.held
        assert box.user[0] is spared
        assert sorted([*owner.ref.items, *list(box.user)[1:]]) == [1, 2, 3]
        assert len(owner.ref.items) <= 1


def test_whenever_a_kill_meets_a_sender_that_drops_the_oldest_nothing_is_left():
    limit = Limit(MailboxConfig(maxlen=4, policy="drop_old"), RealClock())
    for moment in moments():
        box, owner = watched(moment, held=[StopRequest(), 1], user=[2, 3])
        moment.rival = Killer(box, owner)
        with moment:
            limit.admit(owner.ref, 4)
        if moment.came:
            assert len(set(owner.ref.items)) == len(owner.ref.items) == 4
            assert len(box) == 0


@pytest.mark.parametrize("bad", [{"maxlen": 0}, {"maxlen": True}, {"maxlen": 1, "policy": "hope"}])
def test_a_bad_mailbox_configuration_is_refused(bad):
    with pytest.raises(BadSpec):
        MailboxConfig(**bad)
