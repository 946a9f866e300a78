"""The restart intensity: so many restarts in so many seconds, and not one more."""

from supervisors.core.window import RestartWindow


def test_as_many_restarts_as_allowed_are_allowed():
    window = RestartWindow(3, 5.0)
    assert [window.add(t) for t in (0.0, 0.0, 0.0, 0.0)] == [True, True, True, False]


def test_a_restart_exactly_one_period_ago_still_counts():
    window = RestartWindow(1, 5.0)
    assert window.add(0.0)
    assert not window.add(5.0)


def test_a_restart_longer_ago_is_forgotten():
    window = RestartWindow(1, 5.0)
    assert window.add(0.0)
    assert window.add(5.000001)
    assert len(window) == 1


def test_intensity_zero_gives_up_at_the_first():
    assert not RestartWindow(0, 5.0).add(0.0)


def test_slow_restarts_go_on_forever():
    window = RestartWindow(1, 1.0)
    assert all(window.add(t * 1.5) for t in range(1000))
    assert len(window) == 1
