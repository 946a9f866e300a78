"""On an event loop: the same calls, awaited; asynchronous tools run on the caller's own loop."""

import asyncio

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool
async def get_price(item: str) -> float:
    """What an item costs."""
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None
    return 3.2 if item == "coffee" else 1.1


cafe = engine(
    calls(("get_price", {"item": "coffee"})),
    says("A coffee is 3.20."),
    says("You are ", "welcome."),
    tools=[get_price],
)


async def main() -> None:
    """Chat, then talk in a session."""
    result = await allm.aio.chat(cafe, [allm.user("What is a coffee?")])
    print(result.text())
    assert result.halted_reason == "completed"

    async with allm.Host() as host:
        session = await host.session("cafe", cafe)
        async for event in session.reply("Thank you!", tool_choice="none"):
            if isinstance(event, allm.TextDelta):
                print(event.delta, end="")
        print()
        assert session.status == "completed"
        said(session.messages[-1].content, "You are welcome.")


asyncio.run(main())
