"""Acts one to three: a conversation, a model call that is killed in the middle of it, a tool that crashes.

Rule of this file: an act does something, then checks what can be seen of it: events, results, the session's value, the
tree, and what the provider was really asked.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import allm_actors as allm
import supervisors

from .recording import Recording, calls_of, messages_of, tools_of
from .scene import Scene, Seen
from .tools import RUNS

__all__ = ["converse", "kill_a_model_call", "let_a_tool_crash", "replay"]

_STORY = "Tell me the story of the ferryman who kept the time."


def converse(scene: Scene, recording: Recording) -> None:
    """Two tools at once, and an answer that is printed while the provider is still writing it."""
    stage, turn = scene.stage, recording.turns[0]
    stage.act("A conversation: two tools, and an answer as it is written")
    session = scene.host.session("lisbon", scene.engine)
    stage.say("you", turn.prompt)
    gate = scene.provider.hold(words=4)
    held = threading.Event()

    def after_word(count: int) -> None:
        if count == 4:  # the provider sends no fifth word before this
            held.set()
            gate.open()

    seen = scene.watch(session.reply(turn.prompt), after_word)
    tags = seen.tags
    stage.observe(held.is_set(), "the first four words arrived before the provider sent the fifth")
    stage.observe(
        seen.text == turn.text, f"the text is what the provider sent: {seen.words} pieces, none lost"
    )
    first_end = tags.index("tool_execution_completed")
    stage.observe(tags[:first_end].count("tool_execution_started") == 2, "both tools ran at the same time")
    answers = [message for message in _asked(scene, -1) if message["role"] == "tool"]
    stage.observe(len(answers) == 2, "the second request carried both answers")
    _observe_completed(scene, seen, session)
    usage = [step.response.usage.total() for step in seen.result.steps]
    heard = (seen.first_word - scene.provider.requests[-1].at) * 1000
    stage.note(
        f"first word {heard:.1f} ms after the provider was asked; the turn took {seen.took:.2f} s, {sum(usage)} tokens"
    )


def kill_a_model_call(scene: Scene, recording: Recording) -> None:
    """The tree during a turn; then the process that reads the provider is killed, and the session goes on."""
    stage, session = scene.stage, scene.host.session("lisbon", scene.engine)
    stage.act("A model call is killed in the middle of an answer")
    gate, asked_before = scene.provider.hold(words=24), len(scene.provider.requests)
    stage.say("you", _STORY)

    killed: list[float] = []

    def after_word(count: int) -> None:
        if count == 24:
            killed.append(_kill_the_adapter(scene))

    seen = scene.watch(session.reply(_STORY), after_word)
    stage.note(f"the turn was over {(time.monotonic() - killed[0]) * 1000:.1f} ms after the kill")
    stage.observe(
        seen.tags[-3:] == ["error", "step_completed", "chat_completed"], "the turn ended once, with an error"
    )
    stage.observe(seen.result.halted_reason == "error", "its result says so: halted_reason is 'error'")
    stage.observe(
        session.messages[-1].content == seen.text, f"the {seen.words} pieces that had arrived are kept"
    )
    scene.provider.server.wait_for(lambda server: server.abandoned == 1)
    stage.observe(scene.provider.server.abandoned == 1, "the provider saw its connection close")
    asked = len(scene.provider.requests) - asked_before
    stage.observe(
        asked == 1 and not scene.children("adapters"),
        "the call was not made again: calls are never restarted",
    )
    gate.open()
    stage.observe(
        session.status == "error" and _refuses(session), "the session's status is 'error': it refuses a reply"
    )
    stage.observe(session.recover().status == "idle", "session.recover() makes it usable again")
    turn = recording.turns[1]
    stage.say("you", turn.prompt)
    seen = scene.watch(session.reply(turn.prompt))
    stage.observe(seen.text == turn.text, "the next reply works")
    _observe_completed(scene, seen, session)


def let_a_tool_crash(scene: Scene, recording: Recording) -> None:
    """A tool raises; the model is told, and answers."""
    stage, turn = scene.stage, recording.turns[0]
    stage.act("A tool crashes")
    session = scene.host.session("lisbon", scene.engine)
    stage.say("you", turn.prompt)
    seen = scene.watch(session.reply(turn.prompt))
    failed = [event.result for event in seen.events if isinstance(event, allm.ToolExecutionCompleted)]
    stage.observe(RUNS[-1] == "get_tides" and isinstance(failed[0], allm.Err), "get_tides ran, and raised")
    told = _asked(scene, -1)[-1]
    stage.observe("not available" in told["content"], "the model got the error as the answer to its call")
    stage.observe(seen.text == turn.text, "and answered without it")
    _observe_completed(scene, seen, session)
    stage.note(f"the turn took {seen.took:.2f} s")


def replay(scene: Scene, recording: Recording) -> None:
    """A recording from elsewhere, in place of the first act."""
    stage = scene.stage
    stage.act(f"A recorded conversation: {recording.name}")
    engine = scene.engine.merge(adapter_opts={}, retry=False, tools=_recorded_tools(recording))
    session = scene.host.session(recording.name, engine)
    scene.provider.play(recording.exchanges)
    for turn in recording.turns:
        if session.status == "error":
            session.recover()
        stage.say("you", turn.prompt)
        seen = scene.watch(session.reply(turn.prompt))
        if turn.refused is not None:
            error = seen.result.metadata.get("error")
            stage.observe(
                getattr(error, "status", None) == turn.refused, f"the provider's {turn.refused} is the result"
            )
        else:
            stage.observe(seen.text == turn.text, f"the text is what was recorded: {seen.words} pieces")
            stage.note(f"it ended with {seen.result.halted_reason!r} after {seen.took:.2f} s")
    scene.provider.play([])


def _kill_the_adapter(scene: Scene) -> float:
    """Kill it, and say when."""
    stage, victim = scene.stage, scene.only_child("adapters")
    tree = scene.host.tree()
    stage.note("the provider pauses; the supervision tree at this moment:")
    stage.picture(tree.replace(str(victim), stage.paint(str(victim), "bold", "red")))
    stage.observe(str(victim) in tree, f"{victim} is the only process under 'adapters'")
    stage.note(f'supervisors.exit({victim}, "kill")')
    now = time.monotonic()
    supervisors.exit(victim, "kill")
    stage.observe(not victim.is_alive(), "it is dead")
    return now


def _refuses(session: Any) -> bool:
    try:
        session.reply("Hello?").close()
    except allm.SessionError as error:
        return error.reason == "session_in_error_state"
    return False


def _observe_completed(scene: Scene, seen: Seen, session: Any) -> None:
    reason, ends = seen.result.halted_reason, seen.tags.count("chat_completed")
    scene.stage.observe(
        reason == session.status == "completed" and ends == 1,
        "the turn ended once; turn and session are 'completed'",
    )


def _asked(scene: Scene, index: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = scene.provider.requests[index].json["messages"]
    return messages


def _recorded_tools(recording: Recording) -> list[allm.Tool]:
    """The tools that were offered: they answer what was recorded, and halt where nothing was."""
    later = [exchange for turn in recording.turns for exchange in turn.exchanges[1:]]
    messages = [message for exchange in later for message in messages_of(exchange)]
    answers = {m["tool_call_id"]: str(m.get("content")) for m in messages if m.get("role") == "tool"}

    called = {id for exchange in recording.exchanges for id in calls_of(exchange)}
    unnamed = iter([answer for id, answer in answers.items() if id not in called])

    def handler(_arguments: dict[str, Any], context: allm.ToolContext) -> str | allm.Halt:
        assert context.tool_call is not None
        id = context.tool_call.id
        found = answers.get(id) if id in called else next(unnamed, None)
        return allm.Halt("not_recorded") if found is None else found

    offered = [tool for exchange in recording.exchanges for tool in tools_of(exchange)]
    return [
        allm.tool(
            name=tool["name"],
            description=tool.get("description") or "",
            schema=tool.get("parameters") or {},
            handler=handler,
        )
        for tool in {tool["name"]: tool for tool in offered}.values()
    ]
