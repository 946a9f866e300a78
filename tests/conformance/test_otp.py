"""Our supervisors do what those of Erlang/OTP did, in scenarios that OTP has played: see `otp/README.md`.

The rule of this file: it needs no Erlang, but for the one test that records again, which says so when it is skipped.
"""

import shutil

import pytest

from tests.conformance.otp.comparing import RULES, differences, told
from tests.conformance.otp.playing import play
from tests.conformance.otp.scenarios import FILES, load, record

RECORDED = [(f"{name}-{nth}", scenario) for name in FILES for nth, scenario in enumerate(load(name), 1)]
SAME = [pytest.param(scenario, id=id) for id, scenario in RECORDED if "departs" not in scenario]
DEPARTURES = [pytest.param(scenario, id=id) for id, scenario in RECORDED if "departs" in scenario]


_PLAYED = {}


def played(scenario):
    """Our trace, made once."""
    if id(scenario) not in _PLAYED:
        _PLAYED[id(scenario)] = play(scenario)
    return _PLAYED[id(scenario)]


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level("CRITICAL", logger="supervisors")


@pytest.mark.parametrize("scenario", SAME)
def test_it_is_as_in_otp(scenario):
    found = differences(scenario, scenario["trace"], played(scenario))
    assert not found, told(found)
    if not any(op[0] == "hold" for op in scenario["ops"]):  # nothing waits that a shutdown could overtake
        found = differences(scenario, scenario["trace"], play(scenario, seed=1, patient=False))
        assert not found, told(found)


@pytest.mark.parametrize("scenario", DEPARTURES)
def test_it_is_not_as_in_otp_and_meant_to_be(scenario):
    ours = play(scenario, patient=scenario.get("patient", True))
    assert ours == scenario["ours"]
    assert differences(scenario, scenario["trace"], ours), scenario["departs"]
    if not scenario.get("patient", True):
        assert not differences(scenario, scenario["trace"], play(scenario)), (
            "with `drain_on_shutdown` it is as in OTP"
        )


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_forgives_what_nobody_does(rule, monkeypatch):
    monkeypatch.delitem(RULES, rule)
    same = [scenario for _, scenario in RECORDED if "departs" not in scenario]
    assert any(differences(scenario, scenario["trace"], played(scenario)) for scenario in same)


@pytest.mark.skipif(shutil.which("escript") is None, reason="Erlang/OTP is not installed (escript)")
def test_otp_does_today_what_was_recorded():
    picked = [scenario for _, scenario in RECORDED[::17] if "wait" not in str(scenario["ops"])]
    for scenario, trace in zip(picked, record(picked, timeout=50), strict=True):
        # Only what OTP leaves open, such as the order in which children that are stopped at once end, may differ.
        assert not differences(scenario, scenario["trace"], trace), scenario
