"""A tool is a function: its name, its signature and its docstring are what the model sees."""

from typing import Literal

import allm_actors as allm
from allm_actors.testing import script


@allm.tool
def get_weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, object]:
    """The weather in a city, now.

    Args:
        city: Its name in English.
    """
    return {"city": city, "temperature": 17 if unit == "c" else 63}


engine = allm.Engine(
    adapter="fake",
    tools=[get_weather],
    adapter_opts={
        "scripts": [
            [script.tool_call("get_weather", {"city": "Lisbon"}), script.finish("tool_calls")],
            [script.text("It is 17 °C in Lisbon."), script.finish("stop")],
        ]
    },
)

result = allm.chat(engine, [allm.user("How warm is it in Lisbon?")])
assert result.thread is not None
for message in result.thread.messages:
    called = [call.name for call in message.tool_calls]
    print(f"{message.role:9}", called or message.content)

assert get_weather.schema["properties"]["city"] == {"type": "string", "description": "Its name in English."}
assert [message.role for message in result.thread.messages] == ["user", "assistant", "tool", "assistant"]
assert result.thread.messages[2].content == '{"city":"Lisbon","temperature":17}'
assert result.halted_reason == "completed"
assert len(result.steps) == 2
assert get_weather(city="Porto", unit="f") == {"city": "Porto", "temperature": 63}  # still a function
