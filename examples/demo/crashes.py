"""Acts four and five: the session's own actor crashes, and the whole process is killed.

Rule of this file: as in the other acts, only what can be seen is told. Of another process that is what it printed, how
it ended, and what it left on disk.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import allm_actors as allm
import supervisors
from allm_actors.actors.store import SQLiteStore

from .provider import Provider
from .recording import Recording
from .scene import Scene
from .stage import DoesNotHold, Stage
from .tools import RUNS

__all__ = ["crash_a_session", "kill_a_process", "resume"]


def crash_a_session(scene: Scene, recording: Recording) -> None:
    """The actor that owns the conversation dies; its supervisor brings it back with the conversation."""
    stage, turn = scene.stage, recording.turns[0]
    stage.act("The session's own actor crashes")
    session = scene.host.session("lisbon", scene.engine)
    before, victim = session.messages, scene.actor_of("lisbon")
    _forget(scene)
    stage.line()
    stage.note(f"supervisors.exit({victim}, RuntimeError('a bug in the session'))")
    begun = time.monotonic()
    supervisors.exit(victim, RuntimeError("a bug in the session"))
    end = scene.await_report("process_ended", lambda report: report.ref is victim)
    stage.observe(not victim.is_alive(), f"it ended: {end.reason!r}")
    report = scene.await_report("child_started", lambda report: report.ref is not victim)
    took = (time.monotonic() - begun) * 1000
    heir = scene.actor_of("lisbon")
    stage.observe(report.ref is heir, f"its supervisor started {heir} {took:.1f} ms after the crash")
    tree = scene.host.tree()
    stage.picture(tree.replace(str(heir), stage.paint(str(heir), "bold", "green")))
    stage.observe("1 restart" in tree, "the tree remembers it: 1 restart")
    kept = _on_disk(scene.store, "lisbon")
    stage.observe(
        session.messages == before == kept, f"all {len(before)} messages were restored, as they are on disk"
    )
    stage.say("you", turn.prompt)
    seen = scene.watch(session.reply(turn.prompt))
    asked = scene.provider.requests[-1].json["messages"]
    stage.observe(len(asked) == len(before) + 1, f"the model was asked with all {len(asked)} messages")
    stage.observe(seen.text == turn.text, "the conversation goes on")


def kill_a_process(stage: Stage, provider: Provider, store: Path, recording: Recording) -> None:
    """Another process begins a turn on a store of its own, and is killed in the middle of the answer."""
    stage.act("The whole process is killed")
    provider.hold(words=6)
    stage.line()
    command = [
        sys.executable,
        "-m",
        "examples.demo.victim",
        provider.url,
        str(store),
        recording.turns[0].prompt,
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = _read_until_mid_answer(stage, child, recording)
        child.kill()
        code = child.wait(timeout=10)
    finally:
        child.kill()
        child.communicate()
    killed = code == -signal.SIGKILL if hasattr(signal, "SIGKILL") else code != 0
    stage.observe(
        killed, f"process {child.pid} was killed (exit code {code}) in the middle of its answer: {said!r}"
    )


def resume(scene: Scene, recording: Recording) -> None:
    """This process opens the store of the dead one, and the turn goes on where its tools had ended."""
    stage, turn = scene.stage, recording.turns[0]
    stage.note("this process opens the store of the dead process")
    ran, asked, begun = len(RUNS), len(scene.provider.requests), time.monotonic()
    session = scene.host.session("night-train", scene.engine)
    roles = [message.role for message in session.messages]
    stage.observe(
        roles == ["user", "assistant", "tool", "tool"], f"the session is on disk: {', '.join(roles)}"
    )
    for message in session.messages[2:]:
        stage.happened(stage.paint(str(message.content), "dim"), mark="↩")
    stage.note("session.continue_()")
    seen = scene.watch(session.continue_())
    asked = len(scene.provider.requests) - asked
    stage.observe(
        asked == 1 and seen.text == turn.text, "the model was asked once more, and its answer is whole"
    )
    stage.observe(len(RUNS) == ran and "tool_execution_started" not in seen.tags, "no tool ran twice")
    stage.observe(session.status == "completed", "the session's status is 'completed'")
    stage.note(
        f"the first word came {(seen.first_word - begun) * 1000:.0f} ms after the session was requested"
    )


def _read_until_mid_answer(stage: Stage, child: subprocess.Popen[str], recording: Recording) -> str:
    stage.note(f"process {child.pid} runs its own session, stored on disk")
    stage.say("you", recording.turns[0].prompt)
    said, tools = "", 0
    assert child.stdout is not None
    for line in child.stdout:
        event: dict[str, Any] = json.loads(line)
        match event:
            case {"text": text}:
                said += text
                if said.count(" ") == 6:
                    break
            case {"tool": text}:
                tools += 1
                stage.happened(text)
            case {"answer": text}:
                stage.happened(stage.paint(text, "dim"), mark="↩")
    stage.say("model", said)
    if tools != 2 and child.poll() is not None and child.stderr is not None:
        raise DoesNotHold(
            f"process {child.pid} runs; it ended with {child.returncode}:\n{child.stderr.read()}"
        )
    stage.observe(
        tools == 2 and bool(said), f"process {child.pid} ran two tools, and the answer has begun to arrive"
    )
    return said


def _on_disk(place: Path, name: str) -> list[allm.Message]:
    store = SQLiteStore(place)
    store.open()
    try:
        session = store.load(name)
        return [] if session is None else session.messages
    finally:
        store.close()


def _forget(scene: Scene) -> None:
    while not scene.reports.empty():
        scene.reports.get()
