"""The command line, as argparse knows it.

Rule of this file: it defines what may be typed, and reads nothing but the command line and the two
environment variables that name defaults.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Options", "parse"]

# A text, because the class takes its parameter in stubs only, and argparse has no public name for it.
_Formatter = argparse.RawDescriptionHelpFormatter
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

_EXAMPLES = """\
examples:
  allm chat                                        chat; needs OPENAI_API_KEY
  allm chat --adapter groq --model openai/gpt-oss-120b
  allm chat --base-url http://localhost:11434/v1 --model llama3.2
  allm run "Three names for a grey cat"            ask once
  git diff | allm run "Review this change:" -      ask about piped input
  allm providers                                   list the providers, and which keys are set

`allm COMMAND --help` says more about a command.
"""
_CHAT_EXAMPLES = """\
examples:
  allm chat --session trip                         start or continue the session `trip`
  allm chat --tools tools.py                       use every @allm.tool function of a file
  allm chat --tools mypackage.tools:get_weather    use one tool of a module
  allm chat --store :memory: --system "Answer in rhyme."

at the prompt: /help lists the commands. Ctrl-C stops an answer and keeps the session; at the prompt it quits.
"""
_RUN_EXAMPLES = """\
examples:
  allm run "What is a monad?"
  cat report.txt | allm run                        use the piped input as the prompt
  cat report.txt | allm run "Summarise:" -         `-` stands for the piped input
  allm run "Weather in Lisbon?" --tools tools.py --json
  allm run "And tomorrow?" --session trip          continue a stored session

exit codes: 0 answered, 1 the provider or the turn failed, or the answer was cut off or refused, 2 wrong command
line, 130 Ctrl-C.
"""
_SESSIONS_EXAMPLES = """\
examples:
  allm sessions                                    list the names, one per line
  allm sessions --long                             add status, size and the last message
  allm sessions --store work.db
"""
_PROVIDERS_EXAMPLES = """\
A key is read from the variable named here, each time a call is made. No command ever prints or stores a key.
"""


class Options(argparse.Namespace):
    """What was typed. Only the fields of `command` are there."""

    command: str
    adapter: str | None
    model: str | None
    base_url: str | None
    session: str | None
    store: str | None
    system: str | None
    tools: list[str]
    timeout: float | None
    max_tokens: int | None
    verbose: bool
    prompt: list[str]
    json: bool
    long: bool


def parse(argv: Sequence[str] | None) -> Options:
    """The options of a command line. Raises SystemExit, as argparse does, when it has said what is wrong."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv, namespace=Options())
    # argparse takes words before the first option only: `allm run "Review:" --json -` has another word after it.
    if options.command == "run" and (more := _words(rest)) is not None:
        options.prompt += more
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}{_nearest(options, rest)}")
    return options


def _words(rest: Sequence[str]) -> list[str] | None:
    """The words of a prompt among the remaining arguments, with everything after `--`; None if there is an option."""
    end = rest.index("--") if "--" in rest else len(rest)
    if any(word != "-" and word.startswith("-") for word in rest[:end]):
        return None
    return [*rest[:end], *rest[end + 1 :]]


def _nearest(options: Options, rest: Sequence[str]) -> str:
    """The option that was meant, if there is one of nearly that name."""
    known = [f"--{name.replace('_', '-')}" for name in vars(options) if name not in ("command", "prompt")]
    for word in rest:
        near = difflib.get_close_matches(word.partition("=")[0], known, n=1)
        if word.startswith("--") and near:
            return f"; did you mean {near[0]}?"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = _describe(
        argparse.ArgumentParser(prog="allm", allow_abbrev=False, formatter_class=_Formatter),
        "Talk to language models. Each conversation is a session, supervised while it runs and stored as it "
        "goes.",
        _EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"allm {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    chat = _command(commands, "chat", "chat in a session; the answer appears as it arrives", _CHAT_EXAMPLES)
    _add_model_options(chat)
    _add_session_options(chat, session="the session's name (default: a new name)")

    run = _command(commands, "run", "ask once and print the answer", _RUN_EXAMPLES)
    run.add_argument(
        "prompt",
        nargs="*",
        metavar="PROMPT",
        help="what to ask; `-`, or no prompt at all, stands for the piped input",
    )
    _add_model_options(run)
    _add_session_options(run, session="start or continue a stored session; without it nothing is stored")
    run.add_argument("--json", action="store_true", help="print the whole ChatResult as JSON")

    sessions = _command(commands, "sessions", "list the sessions of a store", _SESSIONS_EXAMPLES)
    _add_store(sessions)
    sessions.add_argument(
        "--long", "-l", action="store_true", help="also show status, size and the last message"
    )
    _command(commands, "providers", "list the providers, and which keys are set", _PROVIDERS_EXAMPLES)
    return parser


def _command(commands: _Commands, name: str, purpose: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, allow_abbrev=False, formatter_class=_Formatter
    )
    return _describe(parser, f"{purpose[0].upper()}{purpose[1:]}.", epilog)


def _describe(parser: argparse.ArgumentParser, description: str, epilog: str) -> argparse.ArgumentParser:
    parser.description, parser.epilog = description, epilog
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and provider")
    group.add_argument(
        "--adapter",
        metavar="NAME",
        type=_adapter,
        default=os.environ.get("ALLM_ADAPTER") or None,
        help=(
            "a provider that `allm providers` lists, or NAME:MODEL (default: $ALLM_ADAPTER, else openai; with "
            "only --base-url, openai-compatible)"
        ),
    )
    group.add_argument(
        "--model",
        metavar="NAME",
        type=_model,
        help="the model (default: the one in --adapter NAME:MODEL, else $ALLM_MODEL)",
    )
    group.add_argument(
        "--base-url",
        metavar="URL",
        help="another server that speaks the same format, such as http://localhost:8000/v1",
    )
    group.add_argument("--system", metavar="TEXT", help="the system prompt; only for a new session")
    group.add_argument(
        "--tools",
        metavar="MODULE[:NAME]",
        action="append",
        default=[],
        help="use the @allm.tool functions of a Python file or module; can be given more than once",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="the time limit of one model call (default: no limit)",
    )
    group.add_argument(
        "--max-tokens",
        metavar="COUNT",
        type=_count,
        help="the limit of one answer of the model, in tokens (default: the provider's)",
    )
    group.add_argument(
        "--verbose", "-v", action="store_true", help="show the log of the supervisors on stderr"
    )


def _add_session_options(parser: argparse.ArgumentParser, *, session: str) -> None:
    parser.add_argument("--session", metavar="NAME", type=_name, help=session)
    _add_store(parser)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="PATH",
        help="where sessions are kept (default: allm/sessions.db in the XDG data directory; `:memory:` keeps none)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above zero, got {text!r}")
    return seconds


def _count(text: str) -> int:
    # Limited to the size of a number in a request; other forms that `int` accepts, such as 1_000, are typing mistakes.
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number above zero, got {text!r}")
    return int(text)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a session's name must not be empty")
    return _utf8(text, "a session's name")


def _adapter(text: str) -> str:
    return _utf8(text, "an adapter's name")


def _model(text: str) -> str:
    return _utf8(text, "a model's name")


def _utf8(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # Python has a lone surrogate for each byte that is no UTF-8
        raise argparse.ArgumentTypeError(f"{what} must be UTF-8, got {text!r}") from error
    return text


def _version() -> str:
    from allm_actors import __version__

    return __version__
