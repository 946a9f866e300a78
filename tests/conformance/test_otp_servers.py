"""Our processes do what those of Erlang/OTP did, in scenarios that OTP has played: see `otp/servers/README.md`.

The rule of this file: it needs no Erlang, but for the one test that records again, which says so when it is skipped.
"""

import shutil

import pytest

from tests.conformance.otp.comparing import told
from tests.conformance.otp.servers.comparing import RULES, differences
from tests.conformance.otp.servers.playing import play
from tests.conformance.otp.servers.scenarios import FILES, load, record

RECORDED = [(f"{name}-{nth}", scenario) for name in FILES for nth, scenario in enumerate(load(name), 1)]
SAME = [pytest.param(scenario, id=id) for id, scenario in RECORDED if "departs" not in scenario]
DEPARTURES = [pytest.param(scenario, id=id) for id, scenario in RECORDED if "departs" in scenario]


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level("CRITICAL", logger="supervisors")


@pytest.mark.parametrize("scenario", SAME)
def test_it_is_as_in_otp(scenario):
    for way in (0, 1):
        found = differences(scenario, scenario["trace"], play(scenario, way))
        assert not found, told(found)


@pytest.mark.parametrize("scenario", DEPARTURES)
def test_it_is_not_as_in_otp_and_meant_to_be(scenario):
    ours = play(scenario)
    assert ours == scenario["ours"]
    assert differences(scenario, scenario["trace"], ours), scenario["departs"]


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_forgives_what_nobody_does(rule, monkeypatch):
    monkeypatch.delitem(RULES, rule)
    same = [scenario for _, scenario in RECORDED if "departs" not in scenario]
    assert any(differences(scenario, scenario["trace"], play(scenario)) for scenario in same)


@pytest.mark.skipif(shutil.which("escript") is None, reason="Erlang/OTP is not installed (escript)")
def test_otp_does_today_what_was_recorded():
    picked = [scenario for _, scenario in RECORDED[::11] if "wait" not in str(scenario["ops"])]
    for scenario, trace in zip(picked, record(picked, timeout=50), strict=True):
        assert not differences(scenario, scenario["trace"], trace), scenario
