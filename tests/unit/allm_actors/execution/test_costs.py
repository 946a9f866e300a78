"""What an answer cost: only what is missing, and only what can be known."""

from decimal import Decimal

import pytest

from allm_actors.data import Usage
from allm_actors.execution.costs import missing_costs
from tests.unit.allm_actors.execution.driver import World, options, text

PRICES = {"input": 2.0, "output": 8.0}
BOTH = Usage(input_tokens=500_000, output_tokens=10)
HALF = Usage(input_tokens=1_000_000)
CACHED = Usage(input_tokens=1_000_000, cached_input_tokens=600_000, cache_write_input_tokens=300_000)


@pytest.mark.parametrize(
    ("usage", "prices", "costs"),
    [
        (
            Usage(input_tokens=500_000, output_tokens=10),
            PRICES,
            {"input_cost": 1.0, "output_cost": 8e-5, "total_cost": 1.00008},
        ),
        (HALF, PRICES, {"input_cost": 2.0}),
        (
            Usage(input_tokens=0, output_tokens=0),
            PRICES,
            {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0},
        ),
        (Usage(input_cost=5.0, output_tokens=1_000_000), PRICES, {"output_cost": 8.0, "total_cost": 13.0}),
        (
            Usage(input_tokens=1_000_000, output_tokens=0, total_cost=9.0),
            PRICES,
            {"input_cost": 2.0, "output_cost": 0.0},
        ),
        (Usage(output_tokens=1_000_000), PRICES, {"output_cost": 8.0}),
        (Usage(), PRICES, {}),
        (HALF, {}, {}),
        (HALF, {"input": None}, {}),
        (HALF, {"input": "2"}, {"input_cost": 2.0}),  # as a decimal comes out of JSON
        (HALF, {"input": Decimal(2)}, {"input_cost": 2.0}),
        *((HALF, {"input": none}, {}) for none in ("two", "nan", "-2", float("nan"), -2, [2])),
        (Usage(input_tokens="many"), PRICES, {}),
        (Usage(input_tokens=True), PRICES, {}),
        (HALF, {"input": True}, {}),
        (  # what was read from the cache, and written to it, is part of the input
            CACHED,
            {**PRICES, "cached_input": 0.2, "cache_write_input": 2.5},
            {"input_cost": 0.1 * 2 + 0.6 * 0.2 + 0.3 * 2.5},
        ),
        (CACHED, {**PRICES, "cached_input": 0.2}, {"input_cost": 0.4 * 2 + 0.6 * 0.2}),
        (CACHED, {**PRICES, "cache_write_input": 2.5}, {"input_cost": 0.7 * 2 + 0.3 * 2.5}),
        (CACHED, {**PRICES, "cached_input": 0}, {"input_cost": 0.8}),
        (CACHED, {**PRICES, "cached_input": None}, {"input_cost": 2.0}),
        (CACHED, {"cached_input": 0.2}, {}),
        (HALF, {**PRICES, "cached_input": 0.2}, {"input_cost": 2.0}),
        (Usage(cached_input_tokens=5), {**PRICES, "cached_input": 0.2}, {}),
        (  # a provider that leaves them out of the input has charged no less than nothing
            Usage(input_tokens=0, cached_input_tokens=1_000_000),
            {**PRICES, "cached_input": 0.2},
            {"input_cost": 0.0},
        ),
        (  # without what was read, the total does not tell where the thinking is counted
            Usage(output_tokens=1_000_000, reasoning_tokens=10, total_tokens=1_000_010),
            PRICES,
            {"output_cost": 8.0},
        ),
        (  # and without the total nothing does
            Usage(input_tokens=0, output_tokens=1_000_000, reasoning_tokens=10),
            PRICES,
            {"input_cost": 0.0, "output_cost": 8.0, "total_cost": 8.0},
        ),
        (  # what was thought is counted beside what was said, and paid for like it
            Usage(input_tokens=0, output_tokens=10, reasoning_tokens=1000, total_tokens=1010),
            PRICES,
            {"input_cost": 0.0, "output_cost": 0.00808, "total_cost": 0.00808},
        ),
        (  # or among it
            Usage(input_tokens=0, output_tokens=1010, reasoning_tokens=1000, total_tokens=1010),
            PRICES,
            {"input_cost": 0.0, "output_cost": 0.00808, "total_cost": 0.00808},
        ),
    ],
)
def test_costs(usage, prices, costs):
    assert missing_costs(usage, prices) == pytest.approx(costs)


def test_a_run_tells_its_reader_and_its_result_what_it_cost():
    world = World(
        [text("hi", usage={"input_tokens": 1_000_000, "output_tokens": 1_000_000, "input_cost": 1.0})]
    )
    response = world.run(options("generate", pricing=PRICES))
    assert (response.usage.input_cost, response.usage.output_cost, response.usage.total_cost) == (
        1.0,
        8.0,
        9.0,
    )
    assert world.events[-1].payload == ("usage", {"output_cost": 8.0, "total_cost": 9.0})
