"""The tools of one step run at the same time, each in an actor of its own; one that fails does not stop the others."""

import threading

import allm_actors as allm
from allm_actors.testing import script

together = threading.Barrier(2)


@allm.tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    together.wait(timeout=10)  # passes only when the other one is running too
    return f"rain in {city}"


@allm.tool
def get_time(city: str) -> str:
    """The local time in a city."""
    together.wait(timeout=10)
    return f"18:40 in {city}"


@allm.tool
def get_tides(harbour: str) -> str:
    """High water at a harbour."""
    raise LookupError(f"no tide table for {harbour}")


calls = [
    script.tool_call("get_weather", {"city": "Lisbon"}),
    script.tool_call("get_time", {"city": "Lisbon"}),
    script.tool_call("get_tides", {"harbour": "Cascais"}),
]
engine = allm.Engine(
    adapter="fake",
    tools=[get_weather, get_time, get_tides],
    adapter_opts={
        "scripts": [
            [*calls, script.finish("tool_calls")],
            [script.text("Rain, 18:40, and no idea about the tides."), script.finish("stop")],
        ]
    },
)

answers = {}
for event in allm.stream(engine, [allm.user("Weather, time and tides?")]):
    match event:
        case allm.ToolExecutionStarted(name=name, arguments=arguments):
            print("starts  ", name, arguments)
        case allm.ToolResultEncoded(id=id, content=content):
            print("answers ", id, content)
            answers[id] = content
        case allm.TextDelta(delta=delta):
            print(delta)

assert answers["c0"] == "rain in Lisbon"
assert answers["c1"] == "18:40 in Lisbon"
assert "no tide table for Cascais" in answers["c2"]
