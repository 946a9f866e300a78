"""When a call is tried again, and how long after."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import AdapterError
from allm_actors.engine.retry import DEFAULT, NEVER, RetryPolicy, next_delay, policy_of

BUSY = AdapterError("rate_limited", status=429)


def test_delays_double_from_the_base_and_stay_within_the_cap():
    policy = RetryPolicy(max_attempts=10, base_delay=0.5, max_delay=3.0, jitter=0.25)
    assert [next_delay(policy, attempt, BUSY, 0.0) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [next_delay(policy, attempt, BUSY, 1.0) for attempt in range(1, 6)] == [0.75, 1.25, 2.25, 3.0, 3.0]


def test_the_last_attempt_is_the_last():
    assert next_delay(DEFAULT, 2, BUSY, 0.0) is not None
    assert next_delay(DEFAULT, 3, BUSY, 0.0) is None
    assert next_delay(NEVER, 1, BUSY, 0.0) is None
    assert next_delay(policy_of({"max_attempts": 0}), 1, BUSY, 0.0) is None


@pytest.mark.parametrize(("status", "again"), [(None, True), (499, True), (500, False)])
def test_a_reason_stands_for_its_status_where_no_server_failed(status, again):
    error = AdapterError("rate_limited", status=status)
    assert (next_delay(RetryPolicy(retry_on=(429,)), 1, error, 0.0) is not None) is again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (AdapterError("provider_unavailable", status=503), True),
        (AdapterError("provider_unavailable", status=529), True),
        (AdapterError("network_error", metadata={"phase": "connect"}), True),
        (AdapterError("timeout", metadata={"phase": "connect"}), True),
        (AdapterError("network_error", metadata={"partial": True}), False),
        (AdapterError("provider_unavailable"), True),
        (AdapterError("rate_limited"), True),
        (AdapterError("rate_limited", metadata={"retry": False}), False),
        (AdapterError("rate_limited", metadata={"retry": None}), True),
        (AdapterError("provider_unavailable", metadata={"partial": True}), False),
        (AdapterError("provider_unavailable", status=501), False),
        (AdapterError("provider_unavailable", status=498), True),
        (AdapterError("content_filter", status=498), False),
        (AdapterError("timeout", metadata={"phase": "silence"}), False),
        (AdapterError("authentication_failed", status=401), False),
        (AdapterError("rate_limited", status=429, metadata={"retry": False}), False),
    ],
)
def test_what_is_tried_again(error, again):
    assert (next_delay(DEFAULT, 1, error, 0.0) is not None) is again


def test_these_statuses_are_tried_again_and_no_others():
    def again(status):
        return next_delay(DEFAULT, 1, AdapterError("unknown", status=status), 0.0) is not None

    assert [status for status in range(100, 600) if again(status)] == [429, 500, 502, 503, 504, 529]


@pytest.mark.parametrize(
    ("retry_on", "error", "words"),
    [
        ("timeout", TypeError, "a list"),
        (429, TypeError, "a list"),
        (b"\x1d", TypeError, "a list"),
        (["timout"], ValueError, "did you mean 'timeout'"),
        (
            ["whatever"],
            ValueError,
            r"error\. The reasons are: authentication_failed, batch_too_large, connect, ",
        ),
        ([None], TypeError, "statuses and reasons"),
        ([True], TypeError, "statuses and reasons"),
        ([429.0], TypeError, "statuses and reasons"),
    ],
)
def test_what_nothing_could_be_tried_again_for_is_refused(retry_on, error, words):
    with pytest.raises(error, match=words):
        policy_of({"retry_on": retry_on})


@pytest.mark.parametrize(
    "retry_on", [[], (), {429}, ["connect", "idle", "total", "first_byte"], ["batch_too_large"]]
)
def test_every_list_of_statuses_and_reasons_is_taken_and_stays_what_it_is(retry_on):
    given_ = {"retry_on": retry_on}
    assert policy_of(given_).retry_on == tuple(retry_on)
    assert given_["retry_on"] is retry_on


def test_retry_on_takes_reasons_too():
    stalled = AdapterError("timeout", metadata={"phase": "silence"})
    assert next_delay(policy_of({"retry_on": ["timeout"]}), 1, stalled, 0.0) == 0.5


def test_an_error_without_a_status_counts_as_the_status_of_its_reason():
    overloaded = AdapterError("provider_unavailable")
    assert next_delay(policy_of({"retry_on": [503]}), 1, overloaded, 0.0) == 0.5
    assert next_delay(policy_of({"retry_on": [429]}), 1, overloaded, 0.0) is None


def test_the_servers_wait_is_kept_up_to_the_cap_and_beyond_it_the_error_is_returned():
    def asked(ms):
        return AdapterError("rate_limited", status=429, retry_after_ms=ms)

    assert next_delay(DEFAULT, 1, asked(1500), 0.0) == 1.5
    assert next_delay(DEFAULT, 1, asked(1500), 1.0) == 1.75
    assert next_delay(DEFAULT, 1, asked(100), 0.0) == 0.1
    assert next_delay(DEFAULT, 1, asked(30_000), 1.0) == 30.0
    assert next_delay(DEFAULT, 1, asked(30_001), 0.0) is None
    assert next_delay(policy_of({"respect_retry_after": False}), 1, asked(30_001), 0.0) == 0.5


def test_after_very_many_attempts_the_delay_is_the_cap():
    assert next_delay(RetryPolicy(max_attempts=20_000), 10_000, BUSY, 1.0) == 30.0


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 40_000))
def test_a_delay_is_never_over_the_cap_and_never_under_what_was_asked(attempt, jitter, asked):
    error = AdapterError("rate_limited", status=429, retry_after_ms=asked)
    delay = next_delay(RetryPolicy(max_attempts=20_000), attempt, error, jitter)
    assert delay is None if asked > 30_000 else asked / 1000 <= delay <= 30.0


@pytest.mark.parametrize("given_", ["never", "", 3, ["default"], b"default"], ids=repr)
def test_any_other_name_is_refused(given_):
    with pytest.raises(TypeError, match="retry must be 'default', False or a mapping"):
        policy_of(given_)


@pytest.mark.parametrize("given_", ["default", None, True])
def test_names_of_the_default(given_):
    assert policy_of(given_) is DEFAULT


def test_false_is_never_and_a_policy_is_itself():
    assert policy_of(False) is NEVER
    mine = RetryPolicy(max_attempts=7)
    assert policy_of(mine) is mine


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": -1},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"base_delay": -1},
        {"base_delay": True},
        {"max_delay": -1},
        {"max_delay": math.nan},
        {"jitter": "a"},
    ],
    ids=str,
)
def test_values_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        policy_of(wrong)


@pytest.mark.parametrize(
    ("name", "hint"), [("max_attemps", "; did you mean 'max_attempts'"), ("zzz", " It has: max_attempts,")]
)
def test_a_setting_that_there_is_not_is_refused(name, hint):
    with pytest.raises(TypeError, match=f"retry has no setting '{name}'{re.escape(hint)}"):
        policy_of({name: 1})
