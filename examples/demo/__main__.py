"""`python -m examples.demo`: see it work, without a key and without a network.

Rule of this file: nothing but the command line, so that Ctrl-C works from the first moment. 0 when everything held, 1
when something did not, 2 for a recording that cannot be played, 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Play, or say why not."""
    options = _parser().parse_args()
    try:
        from .play import perform

        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        return perform(options)
    except KeyboardInterrupt:
        sys.unraisablehook = lambda _: (
            None
        )  # what was half made when Ctrl-C came complains when it is thrown away
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has left; so does the interpreter, without a word
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="See it work: streaming, tools, crashes, a kill and a resume, without a key and without a network.",
    )
    parser.add_argument(
        "--traffic",
        metavar="PATH",
        type=_existing,
        help="a recorded exchange and its sequence, or a folder of them, to play in place of the first act",
    )
    parser.add_argument("--fast", action="store_true", help="do not wait between the words of an answer")
    return parser


def _existing(text: str) -> Path:
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"there is no file or folder {text!r}")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
