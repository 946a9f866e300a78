"""Rate limits, as each provider writes them; the headers are recorded ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.ratelimits import rate_limits

NOW = 1742029100.0  # 2025-03-15T08:58:20Z
SAID = {
    "openai": (
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-remaining-tokens": "29000",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        {
            "requests": {"limit": 10000, "remaining": 9999, "reset": 0.12},
            "tokens": {"remaining": 29000, "reset": 360},
        },
    ),
    "anthropic": (
        {
            "Anthropic-RateLimit-Requests-Limit": "4000",
            "anthropic-ratelimit-input-tokens-remaining": "186000",
            "anthropic-ratelimit-input-tokens-reset": "2025-03-15T08:58:28Z",
        },
        {"requests": {"limit": 4000}, "input_tokens": {"remaining": 186000, "reset": 8}},
    ),
    "by the server's own clock": (
        {
            "Date": "Mon, 17 Mar 2025 10:00:00 GMT",
            "anthropic-ratelimit-requests-reset": "2025-03-17T10:00:08Z",
            "x-ratelimit-reset-tokens": "1742205660000",
        },
        {"requests": {"reset": 8}, "tokens": {"reset": 60}},
    ),
    "mistral": (
        {"x-ratelimit-limit-req-10-second": "60", "x-ratelimit-remaining-tokens-minute": "1999147"},
        {"requests_10_second": {"limit": 60}, "tokens_minute": {"remaining": 1999147}},
    ),
    "openrouter": (
        {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1742029160000"},
        {"requests": {"limit": 20, "remaining": 0, "reset": 60}},
    ),
    "huggingface": ({"ratelimit": '"api";r=999;t=295'}, {"requests": {"remaining": 999, "reset": 295}}),
    "more policies than one": (
        {"ratelimit-limit": "60", "ratelimit": '"burst";r=5, "day";r=99;t=7'},
        {"requests": {"limit": 60, "remaining": 5}},
    ),
    "a part of a second": (
        {"anthropic-ratelimit-tokens-reset": "2025-03-15T08:58:28.5Z"},
        {"tokens": {"reset": 8}},
    ),
    "other names": (
        {"x-ratelimit-policy": "5", "x-reset": "5", "x-ratelimit-reset": "7", "RateLimit": "x"},
        {"requests": {"reset": 7}},
    ),
    "more tokens than an epoch has seconds": (
        {"x-ratelimit-limit-tokens": "2000000000", "x-ratelimit-remaining-tokens": "1999999999"},
        {"tokens": {"limit": 2000000000, "remaining": 1999999999}},
    ),
    "a day after the last": (
        {"Date": "Fri, 31 Dec 9999 23:59:59 -2359", "ratelimit-reset": "1742029160"},
        {"requests": {"reset": 60}},
    ),
    "a limit that is no draft": ({"x-limits": '"api";r=9;t=2', "date": "a day"}, {}),
    "space around": ({"x-ratelimit-reset-tokens": " 120ms "}, {"tokens": {"reset": 0.12}}),
    "azure": ({"x-ratelimit-reset-tokens": "7"}, {"tokens": {"reset": 7}}),
    "a day and more": ({"x-ratelimit-reset-requests": "1d2h3m4.5s"}, {"requests": {"reset": 93784.5}}),
    "an epoch that has passed": ({"ratelimit-reset": "1742029000"}, {"requests": {"reset": 0}}),
    "a date that has passed": ({"ratelimit-reset": "2025-03-15T08:58:19Z"}, {"requests": {"reset": 0}}),
    "no sense": (
        {
            "x-ratelimit-limit-requests": "XXX",
            "x-ratelimit-reset-tokens": "",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-limit-tokens": "inf",
            "x-ratelimit-key": "7",
            "anthropic-ratelimit-tokens-reset": "2025-99-99T99:99:99Z",
            "ratelimit": "?",
        },
        {},
    ),
}


@pytest.mark.parametrize("provider", SAID)
def test_headers_of(provider):
    headers, said = SAID[provider]
    assert rate_limits(headers, NOW) == said


names = st.sampled_from([name for headers, _ in SAID.values() for name in headers]) | st.text()


@given(st.dictionaries(names, st.text() | st.floats().map(str)), st.floats(0, 1e12))
def test_it_reads_anything(headers, now):
    for said in rate_limits(headers, now).values():
        assert said
        assert all(number >= 0 for number in said.values())
