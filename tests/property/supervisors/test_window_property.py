"""The restart window against its definition, over any times."""

from hypothesis import given
from hypothesis import strategies as st

from supervisors.core.window import RestartWindow

# Eighths are exact in binary: the boundary is then met, and not missed by a rounding error.
gaps = st.lists(st.integers(0, 40).map(lambda eighths: eighths / 8), max_size=60)


@given(gaps=gaps, max_restarts=st.integers(0, 5), eighths=st.integers(1, 40))
def test_a_restart_is_allowed_while_no_more_than_so_many_lie_within_the_period(gaps, max_restarts, eighths):
    period, now, times = eighths / 8, 100.0, []
    window = RestartWindow(max_restarts, period)
    for gap in gaps:
        now += gap
        times.append(now)
        within = [t for t in times if t >= now - period]
        assert window.add(now) == (len(within) <= max_restarts)
        assert len(window) == len(within)
