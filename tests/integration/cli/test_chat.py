"""`allm chat`, with a pipe in place of a person, and with a person's terminal."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allm_actors.testing.loopback import LoopbackServer

Call = Callable[..., tuple[int, str, str]]


def test_lines_are_answered_one_after_the_other(allm: Call, options: list[str]) -> None:
    assert allm("chat", *options, typed="one\n\ntwo\n") == (0, "1 heard: one\n3 heard: two\n", "")


def test_a_line_may_go_on_in_the_next(allm: Call, options: list[str]) -> None:
    assert allm("chat", *options, typed="one\\\ntwo\n")[1] == "1 heard: one\ntwo\n"


def test_a_last_line_that_would_go_on_is_sent(allm: Call, options: list[str]) -> None:
    assert allm("chat", *options, typed="one\\\ntwo\\") == (0, "1 heard: one\ntwo\n", "")
    assert allm("chat", *options, typed="one\\\n") == (0, "1 heard: one\n", "")


def test_tools_are_shown_with_what_they_were_given_and_what_they_said(
    allm: Call, options: list[str], home: Path
) -> None:
    _, out, _ = allm("chat", "--tools", str(home / "kit.py"), *options, typed="weather\n")
    lines = out.splitlines()
    assert lines[0] == '  ⚙ get_weather(city="Lisbon")'
    assert lines[1].startswith('  ✓ get_weather  {"celsius":17,"city":"Lisbon"}')
    assert lines[2] == 'It said {"celsius":17,"city":"Lisbon"}.'


def test_a_question_is_asked_and_its_answer_is_the_next_line(
    allm: Call, options: list[str], home: Path
) -> None:
    _, out, _ = allm("chat", "--tools", str(home / "kit.py"), *options, typed="choose\naisle\n")
    assert "Window or aisle?" in out
    assert out.endswith("heard: aisle\n")


def test_a_manual_tool_is_answered_by_the_person(allm: Call, options: list[str], home: Path) -> None:
    _, out, _ = allm("chat", "--tools", str(home / "kit.py"), *options, typed="refund\ndone\n")
    assert out.endswith("It said done.\n")


def test_the_tree_is_drawn_and_the_session_listed(allm: Call, options: list[str]) -> None:
    _, out, _ = allm(
        "chat", "--session", "trip", *options, typed="one\n/tree\n/session\n/help\n/quit\nunread\n"
    )
    assert "'sessions'" in out
    assert "('sessions', 'trip')" in out
    assert "user      one" in out
    assert "assistant 1 heard: one" in out
    assert "/continue" in out
    assert "unread" not in out


def test_a_failed_turn_is_told_and_the_next_one_works(allm: Call, options: list[str]) -> None:
    code, out, err = allm("chat", *options, typed="401\none\n/nonsense\n")
    assert code == 1
    assert out.endswith("heard: one\n")
    assert [line[:5] for line in err.splitlines()] == ["allm:", "allm:"]
    assert "unknown command /nonsense" in err


def test_an_answer_that_is_none_or_not_all_is_told(allm: Call, options: list[str]) -> None:
    code, out, err = allm("chat", *options, typed="length\nrefuse\nnothing\none\n")
    assert code == 1
    assert out.startswith("half an\n")
    assert out.endswith("heard: one\n")
    assert [line[:24] for line in err.splitlines()] == [
        "allm: the answer was cut",
        "allm: the model refused:",
        "the answer is empty",
    ]


def test_a_session_goes_on_in_the_next_chat(allm: Call, options: list[str], home: Path) -> None:
    again = ("chat", "--session", "trip", "--store", str(home / "s.db"), *options)
    assert allm(*again, "--system", "Rhyme.", typed="one\n")[1] == "2 heard: one\n"
    assert allm(*again, typed="two\n")[1] == "4 heard: two\n"


def test_memory_keeps_nothing(allm: Call, options: list[str], home: Path) -> None:
    assert allm("chat", "--store", ":memory:", *options, typed="one\n")[0] == 0
    assert not (home / "data").exists()


class Person:
    """Somebody at a terminal."""

    def __init__(self, command: list[str]) -> None:
        self.master, slave = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "FORCE_COLOR": "", "NO_COLOR": ""}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def sees(self, text: str, seconds: float = 45) -> None:
        """Reads until `text` is there, and forgets what came before it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come; there was {self.seen!r}"
            try:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"it ended without {text!r}; there was {self.seen!r}")
        self.seen = self.seen.partition(text)[2]

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())


@pytest.fixture
def person(home: Path, options: list[str]) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def sit_down(*words: str) -> Person:
        people.append(Person([sys.executable, "-m", "allm_actors", "chat", *words, *options]))
        return people[-1]

    yield sit_down
    for each in people:
        each.process.kill()
        each.process.wait()
        os.close(each.master)


def test_ctrl_c_stops_the_answer_and_keeps_the_session(
    person: Callable[..., Person], server: LoopbackServer
) -> None:
    someone = person("--session", "trip")
    someone.sees("session trip (new)")
    someone.sees("> ")
    someone.types("wait\n")
    someone.sees("One ")
    someone.process.send_signal(signal.SIGINT)
    someone.sees("stopped; what has arrived so far is kept")
    server.wait_for(lambda s: s.abandoned == 1)
    someone.sees("> ")
    someone.types("two\n")
    someone.sees("3 heard: two")
    someone.sees("> ")
    someone.types("\x04")
    someone.sees("allm chat --session trip")
    assert someone.process.wait(45) == 0


def test_ctrl_c_at_the_prompt_leaves(person: Callable[..., Person]) -> None:
    someone = person()
    someone.sees("> ")
    for _ in range(
        20
    ):  # CPython's readline overlooks a signal between showing the prompt and waiting for a key
        someone.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert someone.process.wait(2) in (0, 130)  # 130 when it was leaving already
            return
    pytest.fail("it did not leave")


def test_what_was_typed_is_found_again_the_next_time(person: Callable[..., Person], home: Path) -> None:
    someone = person()
    someone.sees("> ")
    someone.types("a line to remember\n")
    someone.sees("1 heard: a line to remember")
    someone.sees("> ")
    someone.types("/quit\n")
    assert someone.process.wait(45) == 0
    again = person()
    again.sees("> ")
    again.types("\x1b[A\x1b[A\n")
    again.sees("1 heard: a line to remember")


def test_an_answer_cannot_steer_the_terminal(person: Callable[..., Person]) -> None:
    someone = person()
    someone.sees("> ")
    someone.types("a\x16\x1b[2Jb\n")  # Ctrl-V lets an escape character be typed
    someone.sees("heard: a␛[2Jb")


def test_neither_a_question_nor_a_name_can_steer_the_terminal(
    person: Callable[..., Person], home: Path
) -> None:
    name = "it's\x1b[2J\nmine"
    someone = person("--session", name, "--tools", str(home / "kit.py"), "--store", str(home / "s.db"))
    someone.sees("session it's␛[2J␊mine (new)")
    someone.sees("> ")
    someone.types("steer\n")
    someone.sees("Sure?␛[2J")
    someone.types("/session\n")
    someone.sees("it's␛[2J␊mine")
    someone.types("/quit\n")
    someone.sees("allm chat --session ")
    someone.sees(r"$'it\'s\U0000001b[2J\U0000000amine'")
    shell = subprocess.run(
        ["bash", "-c", r"printf %s $'it\'s\U0000001b[2J\U0000000amine'"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == name
