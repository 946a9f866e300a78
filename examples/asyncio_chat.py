"""On an event loop: the same calls, awaited; asynchronous tools run on the caller's own loop."""

import asyncio

import allm_actors as allm
from allm_actors.testing import script


@allm.tool
async def get_price(item: str) -> float:
    """What an item costs."""
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None
    return 3.2 if item == "coffee" else 1.1


engine = allm.Engine(
    adapter="fake",
    tools=[get_price],
    adapter_opts={
        "scripts": [
            [script.tool_call("get_price", {"item": "coffee"}), script.finish("tool_calls")],
            [script.text("A coffee is 3.20."), script.finish("stop")],
            [script.text("You are "), script.text("welcome."), script.finish("stop")],
        ]
    },
)


async def main() -> None:
    """Chat, then talk in a session."""
    result = await allm.aio.chat(engine, [allm.user("What is a coffee?")])
    print(result.final_response.text() if result.final_response else None)
    assert result.halted_reason == "completed"

    async with allm.Host() as host:
        session = host.session("cafe", engine)
        async for event in session.reply("Thank you!"):
            if isinstance(event, allm.TextDelta):
                print(event.delta, end="")
        print()
        assert session.status == "completed"
        assert session.messages[-1].content == "You are welcome."


asyncio.run(main())
