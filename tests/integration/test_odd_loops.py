"""Loops, threads and exceptions that are not as one would wish: hung, full, closed, or raised again and again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

import allm_actors as allm

LONG = 20.0


class Embedder:
    """Asks for its key on the event loop of all calls."""

    name = "embedder"

    async def embed(self, _request: Any, call: Any) -> Any:
        if callable(call.api_key):
            call.api_key()
        return allm.EmbeddingResponse(embeddings=[])


def embedding() -> allm.Engine:
    return allm.Engine(embed_adapter=Embedder())


def in_time(work: Any, seconds: float = LONG) -> Any:
    """What `work` gives, or raises, on a thread of its own: a test that hangs fails."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            box.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert box, "it hangs"
    result, error = box[0]
    if error is not None:
        raise error
    return result


# A function that has the key.


def test_a_vault_that_hangs_does_not_keep_the_interpreter() -> None:
    program = """
        import threading
        import allm_actors as allm
        from tests.integration.test_odd_loops import embedding

        try:
            allm.embed(embedding(), "x", api_key=lambda: threading.Event().wait(), request_timeout=0.1)
        except allm.AllmError:
            print("over")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert done.stdout == "over\n"


def test_vaults_that_hang_do_not_starve_the_others() -> None:
    hold = threading.Event()
    try:
        for _ in range(40):  # no executor has so many threads
            with pytest.raises(allm.AllmError):
                allm.embed(embedding(), "x", api_key=hold.wait, request_timeout=0.01)
        assert allm.embed(embedding(), "x", api_key=lambda: "key", request_timeout=LONG).embeddings == []
    finally:
        hold.set()


def test_a_vault_that_runs_dry_is_an_error() -> None:
    keys: Any = iter(())
    with pytest.raises(allm.AllmError, match="StopIteration"):
        in_time(lambda: allm.embed(embedding(), "x", api_key=lambda: next(keys)))
