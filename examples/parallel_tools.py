"""The tools of one step run at the same time, each in an actor of its own; one that fails does not stop the others."""

import threading

import allm_actors as allm
from provider import MODEL, calls, engine, says

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


traveller = engine(
    calls(
        ("get_weather", {"city": "Lisbon"}),
        ("get_time", {"city": "Lisbon"}),
        ("get_tides", {"harbour": "Cascais"}),
    ),
    says("Rain, 18:40, and no idea about the tides."),
    tools=[get_weather, get_time, get_tides],
)

answers = {}
for event in allm.stream(traveller, [allm.user("Weather and time in Lisbon, and the tides at Cascais?")]):
    match event:
        case allm.ToolExecutionStarted(name=name, arguments=arguments):
            print("starts  ", name, arguments)
        case allm.ToolResultEncoded(id=id, content=content):
            print("answers ", id, content)
            answers[id] = content
        case allm.ChatCompleted(result=result):
            print(result.text())
            assert result.halted_reason == "completed"

if MODEL is None:
    assert answers["c0"] == "rain in Lisbon"
    assert answers["c1"] == "18:40 in Lisbon"
    assert "no tide table for Cascais" in answers["c2"]
