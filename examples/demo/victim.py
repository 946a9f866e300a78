"""The process that is killed: it runs one turn, and prints what happens as lines of JSON.

Rule of this file: it knows nothing of its fate. `python -m examples.demo.victim URL STORE PROMPT`
"""

from __future__ import annotations

import json
import sys

import allm_actors as allm
from allm_actors.cli.transcript import call_text

from .tools import engine_for

__all__ = ["main"]


def main(url: str, store: str, prompt: str) -> None:
    """Run the turn."""
    with allm.Host(store=store) as host:
        for event in host.session("night-train", engine_for(url)).reply(prompt):
            match event:
                case allm.TextDelta(delta=delta):
                    _print(text=delta)
                case allm.ToolExecutionStarted(name=name, arguments=arguments):
                    _print(tool=call_text(name, arguments))
                case allm.ToolResultEncoded(content=content):
                    _print(answer=content)
                case _:
                    pass


def _print(**fields: str) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
