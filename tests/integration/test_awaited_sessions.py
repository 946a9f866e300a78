"""A session of a host on the caller's loop: its handle shows what is stored, or says that it cannot know yet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors.sessions.handle import SessionHandle
from allm_actors.testing import script
from supervisors import exit as exit_process

SOON = 5.0
SAYS = [script.text("Hello."), script.finish("stop")]
ASKS = [script.tool_call("refund", {"order": "A-17"}, id="c1"), script.finish("tool_calls")]
REFUND = allm.tool(name="refund", description="", schema={"type": "object"}, manual=True)
LOOKS: dict[str, Callable[[SessionHandle], object]] = {
    "value": lambda chat: chat.value,
    "status": lambda chat: chat.status,
    "messages": lambda chat: chat.messages,
    "pending_tool_calls": lambda chat: chat.pending_tool_calls,
}


def fake(*scripts: Any) -> allm.Engine:
    return allm.Engine(adapter="fake", tools=[REFUND], adapter_opts={"scripts": list(scripts)})


def run(main: Awaitable[Any]) -> Any:
    async def soon() -> Any:
        return await asyncio.wait_for(main, SOON)

    return asyncio.run(soon())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in which session `s` waits for an approval."""
    with allm.Host(store=tmp_path / "s.db") as host:
        host.session("s", fake(ASKS)).reply("It came broken.").result()
    return tmp_path / "s.db"


def damage(path: Path) -> None:
    """Make of what is stored something that nobody can read."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE messages SET body = x'00'")


def approve(path: Path) -> None:
    """What another process does."""
    with allm.Host(store=path) as host:
        chat = host.session("s", fake(SAYS))
        chat.submit_tool_result("c1", "refunded")
        chat.continue_().result()


def not_loaded(chat: SessionHandle) -> None:
    """Nothing of it can be looked at."""
    for look in LOOKS.values():
        with pytest.raises(
            allm.SessionError, match=r"first await its handle, as in `session = await host"
        ) as e:
            look(chat)
        assert e.value.reason == "not_loaded"
    assert repr(chat) == f"<session {chat.id!r} not loaded>"


def test_who_wakes_a_session_after_a_crash_sees_what_it_waits_for(path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            chat = host.session("s", fake(SAYS))
            not_loaded(chat)
            assert await chat is chat
            assert (chat.status, len(chat.messages)) == ("awaiting_tools", 2)
            assert repr(chat) == "<session 's' awaiting_tools>"
            for call in chat.pending_tool_calls:
                await chat.submit_tool_result(call.id, "refunded")
            assert (await chat.continue_()).halted_reason == "completed"

    run(main())


def test_a_new_session_is_awaited_like_any_other() -> None:
    async def main() -> None:
        async with allm.Host() as host:
            chat = host.session("s", fake(SAYS))
            not_loaded(chat)
            await asyncio.gather(chat, chat)
            assert (chat.status, chat.messages) == ("idle", [])

    run(main())


def test_all_that_are_stored_may_be_awaited_together(path: Path) -> None:
    async def main() -> list[str]:
        async with allm.Host(store=path) as host:
            await (await host.session("s", fake())).fork("t")
            names = await host.session_ids()
            assert [each.id for each in await host.stored_sessions()] == ["s", "t"]
            chats = await asyncio.gather(*(host.session(name, fake()) for name in names))
            return [chat.status for chat in chats]

    assert run(main()) == ["awaiting_tools", "awaiting_tools"]


@pytest.mark.parametrize("used", ["reply", "admitted", "submit"])
def test_who_has_used_a_session_may_look_at_it(path: Path, used: str) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            chat = host.session("s" if used == "submit" else "new", fake(SAYS))
            if used == "reply":
                await chat.reply("hi")
            elif used == "admitted":
                turn = await chat.reply("hi").admitted()
                assert [message.content for message in chat.messages] == ["hi"]
                await turn.aclose()
            else:
                await chat.submit_tool_result("c1", "refunded")
            assert chat.status == ("completed" if used == "reply" else "idle")

    run(main())


def test_one_that_cannot_be_loaded_says_so_when_it_is_awaited(path: Path) -> None:
    damage(path)

    async def main() -> None:
        async with allm.Host(store=path) as host:
            chat = host.session("s", fake(SAYS))
            for _ in range(2):
                with pytest.raises(allm.StoreError, match="cannot be decoded"):
                    await chat
                not_loaded(chat)
            await host.delete_session("s")
            assert (chat.status, chat.messages) == ("idle", [])
            assert (await chat.reply("hi")).halted_reason == "completed"

    run(main())


def test_a_session_that_is_at_work_here_is_shown_at_once() -> None:
    async def main() -> None:
        async with allm.Host() as host:
            await host.session("s", fake(SAYS)).reply("hi")
            assert host.session("s", fake()).status == "completed"

    run(main())


def test_a_fork_is_loaded_when_it_was_awaited(path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            branch = await host.session("s", fake()).fork("t")
            assert (branch.id, branch.status) == ("t", "awaiting_tools")

    run(main())


def test_after_others_went_on_a_handle_that_was_kept_shows_what_was_and_a_new_one_what_is(path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            kept = await host.session("s", fake(SAYS))
            await kept.stop()
            await asyncio.to_thread(approve, path)
            assert kept.status == "awaiting_tools"
            opened = host.session("s", fake(SAYS))
            not_loaded(opened)
            assert (await opened).status == "completed"
            assert (kept.status, len(kept.messages)) == ("completed", 4)

    run(main())


@pytest.mark.parametrize("use", ["await", "reply", "refused"])
def test_a_handle_that_was_kept_shows_what_is_stored_when_it_is_used_again(path: Path, use: str) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            kept = await host.session("s", fake(SAYS))
            await kept.stop()
            await asyncio.to_thread(approve, path)
            if use == "await":
                await kept
            elif use == "reply":
                await kept.reply("Thank you.")
            else:
                with pytest.raises(allm.SessionStatusError, match="no tool call is pending"):
                    await kept.submit_tool_result("c1", "refunded")
            assert (kept.status, len(kept.messages)) == ("completed", 6 if use == "reply" else 4)

    run(main())


def test_a_handle_that_was_kept_in_a_host_of_its_own_shows_what_is_stored_when_it_is_used_again(
    path: Path,
) -> None:
    with allm.Host(store=path) as host:
        kept = host.session("s", fake(SAYS))
        kept.stop()
        approve(path)
        assert kept.status == "awaiting_tools"
        kept.reply("Thank you.").result()
        assert (kept.status, len(kept.messages)) == ("completed", 6)


def test_a_crash_hides_nothing_from_who_has_looked() -> None:
    async def main() -> None:
        async with allm.Host() as host:
            chat = host.session("s", fake(SAYS))
            await chat.reply("hi")
            exit_process(host.system.whereis(("sessions", "s")), RuntimeError("a bug"))
            assert chat.status == "completed"
            assert (await host.session("s", fake())).messages == chat.messages

    run(main())


def test_what_was_loaded_can_be_looked_at_when_the_host_is_left(path: Path) -> None:
    async def main() -> SessionHandle:
        async with allm.Host(store=path) as host:
            chat = await host.session("s", fake())
        with pytest.raises(allm.SessionError, match="its host is stopped"):
            await chat
        return chat

    assert run(main()).status == "awaiting_tools"


# --- from elsewhere --------------------------------------------------------------------------------------------------


def test_a_thread_beside_the_loop_waits_until_it_is_loaded(path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:

            def look() -> tuple[str, int]:
                chat = host.session("s", fake())
                return chat.status, len(chat.messages)

            assert await asyncio.to_thread(look) == ("awaiting_tools", 2)
            await host.session("s", fake()).stop()
            damage(path)
            with pytest.raises(allm.StoreError, match="cannot be decoded"):
                await asyncio.to_thread(look)

    run(main())


CALLS: dict[str, tuple[Callable[[Any, Any], object], object]] = {
    "submit_tool_result": (lambda _host, chat: chat.submit_tool_result("c1", "no").status, "idle"),
    "fork": (lambda _host, chat: chat.fork("t").status, "awaiting_tools"),
    "replace_messages": (lambda _host, chat: chat.replace_messages([allm.user("hi")]).status, "idle"),
    "recover": (lambda _host, chat: chat.recover().status, "awaiting_tools"),
    "stop": (lambda _host, chat: chat.stop(), True),
    "session_ids": (lambda host, _chat: host.session_ids(), ["s"]),
    "stored_sessions": (lambda host, _chat: [stored.id for stored in host.stored_sessions()], ["s"]),
    "delete_session": (lambda host, chat: (host.delete_session("s"), chat.messages), (None, [])),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_awaited_on_the_loop_waits_on_a_thread_beside_it(path: Path, name: str) -> None:
    call, expected = CALLS[name]

    async def main() -> object:
        async with allm.Host(store=path) as host:
            return await asyncio.to_thread(call, host, await host.session("s", fake()))

    assert run(main()) == expected


def test_what_was_refused_is_raised_on_a_thread_beside_the_loop(path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=path) as host:
            chat = await host.session("s", fake())
            with pytest.raises(allm.SessionError, match="not in pending_tool_calls"):
                await asyncio.to_thread(chat.submit_tool_result, "c9", "no")
            with pytest.raises(allm.SessionError, match="already exists"):
                await asyncio.to_thread(chat.fork, "s")

    run(main())


@pytest.mark.parametrize("awaited", [False, True, "given up"])
def test_what_was_refused_and_never_awaited_is_told_to_the_loop(path: Path, awaited: bool | str) -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        async with allm.Host(store=path) as host:
            chat = await host.session("s", fake())
            answer = chat.submit_tool_result("c9", "no")
            if awaited == "given up":
                waiting = asyncio.ensure_future(_awaiting(answer))
                await asyncio.sleep(0)  # it has begun to wait
                waiting.cancel()
                await chat.submit_tool_result("c1", "refunded")
            elif awaited:
                with pytest.raises(allm.SessionError):
                    await answer
            else:
                await chat.submit_tool_result("c1", "refunded")  # which is answered after it
            del answer

    run(main())
    gc.collect()
    reasons = [] if awaited else ["unknown_tool_call_id"]
    assert [context["exception"].reason for context in told] == reasons
    assert all("was never retrieved" in context["message"] for context in told)


def test_a_tool_on_a_thread_waits_for_another_session_and_looks_at_it(path: Path) -> None:
    async def main() -> str:
        async with allm.Host(store=path) as host:
            look = allm.tool(
                name="look",
                description="",
                schema={},
                handler=lambda _: host.session("s", fake()).status,
            )
            asks = [script.tool_call("look", {}, id="c0"), script.finish("tool_calls")]
            engine = allm.Engine(adapter="fake", tools=[look], adapter_opts={"scripts": [asks, SAYS]})
            result = await host.session("other", engine).reply("How is s?")
            return str(result.thread.messages[2].content)

    assert run(main()) == "awaiting_tools"


def test_where_the_loop_stands_still_nobody_waits_for_it(path: Path) -> None:
    host = allm.Host(store=path)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(host.__aenter__())
        chat = host.session("s", fake())
        not_loaded(chat)

        async def loaded() -> str:
            return (await chat).status

        assert loop.run_until_complete(loaded()) == "awaiting_tools"
        loop.run_until_complete(host.__aexit__(None, None, None))


def test_in_a_host_with_a_loop_of_its_own_it_may_be_awaited_and_need_not(path: Path) -> None:
    async def main(host: allm.Host) -> None:
        chat = host.session("s", fake())
        assert chat.status == "awaiting_tools"
        assert (await chat).status == "awaiting_tools"

    with allm.Host(store=path) as host:
        run(main(host))


async def _awaiting(answer: Any) -> None:
    await answer
