"""You run the tools: with `mode="manual"` every call is handed to you, and you hand back the answers."""

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"rain in {city}"


weather = engine(calls(("get_weather", {"city": "Lisbon"})), says("Take an umbrella."), tools=[get_weather])

result = allm.chat(
    weather, [allm.user("Do I need an umbrella in Lisbon?")], mode="manual", tool_choice="required"
)
assert result.halted_reason == "manual_tool_calls"
while result.halted_reason == "manual_tool_calls":
    thread = result.thread
    assert thread is not None
    for call in thread.messages[-1].tool_calls:
        print("wants   ", call.name, call.arguments)
        thread = thread.add(allm.tool_result(call.id, get_weather(**call.arguments)))
    result = allm.chat(weather, thread, mode="manual")

print("answers ", result.text())
said(result.text(), "Take an umbrella.")
assert result.halted_reason == "completed"
