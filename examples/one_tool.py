"""A tool is a function: its name, its signature and its docstring are what the model sees."""

from typing import Literal

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool
def get_weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, object]:
    """The weather in a city, now.

    Args:
        city: Its name in English.
    """
    return {"city": city, "temperature": 17 if unit == "c" else 63}


weather = engine(
    calls(("get_weather", {"city": "Lisbon"})), says("It is 17 °C in Lisbon."), tools=[get_weather]
)

result = allm.chat(weather, [allm.user("How warm is it in Lisbon?")])
assert result.thread is not None
for message in result.thread.messages:
    called = [call.name for call in message.tool_calls]
    print(f"{message.role:9}", called or message.content)

assert get_weather.schema["properties"]["city"] == {"type": "string", "description": "Its name in English."}
assert [message.role for message in result.thread.messages] == ["user", "assistant", "tool", "assistant"]
said(result.thread.messages[2].content, '{"city":"Lisbon","temperature":17}')
said(result.thread.messages[3].content, "It is 17 °C in Lisbon.")
assert result.halted_reason == "completed"
assert len(result.steps) == 2
assert get_weather(city="Porto", unit="f") == {"city": "Porto", "temperature": 63}  # still a function
