"""The play: five acts on a real HTTP server, without a key and without a network.

Rule of this file: it sets the stage and clears it, however the play ends.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import allm_actors as allm

from .conversation import converse, kill_a_model_call, let_a_tool_crash, replay
from .crashes import crash_a_session, kill_a_process, resume
from .provider import Provider
from .recording import OURS, Recording, load_recordings
from .scene import Scene
from .stage import DoesNotHold, Stage
from .tools import engine_for

__all__ = ["perform"]

_PATIENCE = 90.0  # seconds after which a demo that hangs says where, and ends


def perform(options: argparse.Namespace) -> int:
    """Play. 0 when everything held, 1 when something did not, 2 for a recording that cannot be played."""
    stage = Stage(sys.stdout, dict(os.environ))
    others = load_recordings(options.traffic) if options.traffic else []
    if options.traffic and not others:
        print(
            f"{options.traffic} holds no chat completions, the only format that the demo can play",
            file=sys.stderr,
        )
        return 2
    faulthandler.dump_traceback_later(_PATIENCE + 10 * len(others), exit=True)
    for name in ("supervisors", "allm_actors"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # the play itself shows what they would log
    for name in ("OPENAI_COMPATIBLE_API_KEY", "OPENAI_COMPATIBLE_BASE_URL"):
        os.environ.pop(name, None)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = (
        "127.0.0.1"  # nobody is to stand between us and our provider
    )
    try:
        _play(stage, others, fast=options.fast)
    except DoesNotHold as why:
        stage.fail(str(why))
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0


def _play(stage: Stage, others: list[Recording], *, fast: bool) -> None:
    ours = {recording.name: recording for recording in load_recordings(OURS)}
    lisbon, tides = ours["weather-and-time"], ours["tool-that-crashes"]
    exchanges = [exchange for recording in ours.values() for exchange in recording.exchanges]
    provider = Provider(exchanges, fast=fast)
    with provider.server, tempfile.TemporaryDirectory(prefix="allm-demo-") as folder:
        stage.title(
            f"allm-actors {allm.__version__}: a model, its tools and its memory, each in a process that may crash",
            f"Python {platform.python_version()}; a local stand-in for a provider listens at "
            f"{provider.server.url}",
        )
        store = Path(folder) / "sessions.db"
        acts: list[Callable[[Scene], None]] = [
            *([lambda scene: converse(scene, lisbon)] if not others else []),
            *[lambda scene, each=each: replay(scene, each) for each in others],
            lambda scene: kill_a_model_call(scene, lisbon),
            lambda scene: let_a_tool_crash(scene, tides),
            lambda scene: crash_a_session(scene, ours["where-were-we"]),
        ]
        _with_host(stage, provider, store, acts)
        other_store = Path(folder) / "another-process.db"
        kill_a_process(stage, provider, other_store, lisbon)
        _with_host(stage, provider, other_store, [lambda scene: resume(scene, lisbon)])
        sent = [request.headers for request in provider.requests]
        stage.act("The end")
        stage.observe(
            not any("authorization" in headers for headers in sent), f"{len(sent)} requests, none with a key"
        )
        stage.end()


def _with_host(stage: Stage, provider: Provider, store: Path, acts: list[Callable[[Scene], None]]) -> None:
    with allm.Host(store=store) as host:
        scene = Scene(stage, provider, host, store, engine_for(provider.url))
        unsubscribe = host.system.reports.subscribe(scene.reports.put)
        for act in acts:
            act(scene)
        unsubscribe()
