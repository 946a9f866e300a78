"""`allm run`: stdout is the answer, stderr says what went wrong, the exit code whose fault it was."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import allm_actors
from allm_actors.testing.loopback import LoopbackServer, Reply

Call = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[str]]


def test_the_answer_is_all_that_is_printed(allm: Call, options: list[str]) -> None:
    assert allm("run", "good", "morning", *options) == (0, "1 heard: good morning\n", "")


def test_the_prompt_may_be_piped(allm: Call, options: list[str]) -> None:
    assert allm("run", *options, typed="a letter\n")[1] == "1 heard: a letter\n"
    assert allm("run", "Sum up:", "-", *options, typed="a letter\n")[1] == "1 heard: Sum up:\n\na letter\n"


LOUD = '''
import subprocess, sys
import allm_actors as allm

print("loaded")

@allm.tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    print("asked")
    subprocess.run([sys.executable, "-c", "print('helped')"], check=True)
    return input("Sure? ")
'''


def test_what_tools_print_is_no_part_of_the_answer(process: Start, options: list[str], home: Path) -> None:
    (home / "loud.py").write_text(LOUD)
    loud = ("run", "weather", "--tools", str(home / "loud.py"), *options)
    out, err = process(*loud).communicate("yes\n", timeout=45)
    assert (out, err) == ("It said yes.\n", "loaded\nasked\nhelped\nSure? ")
    out, err = process(*loud, "--json").communicate("yes\n", timeout=45)
    assert allm_actors.from_json(out).text() == "It said yes."
    assert err == "loaded\nasked\nhelped\nSure? "


@pytest.mark.parametrize(
    ("words", "closed", "ended"),
    [
        ("run hi", "<&-", (0, "1 heard: hi\n", "")),
        ("run", "<&-", (2, "", "allm: the prompt is empty: nothing was typed or piped in\n")),
        ("run hi", "2>&-", (0, "1 heard: hi\n", "")),
        ("run 401", "2>&-", (1, "", "")),
        ("run hi --session s", "<&- 2>&-", (0, "1 heard: hi\n", "")),
        ("run hi --session s", ">&-", (1, "", "allm: stdout is closed, so nothing can be printed")),
        ("run hi", "<&- >&- 2>&-", (1, "", "")),
        ("chat", "<&-", (0, "", "")),
        ("chat", ">&-", (1, "", "allm: stdout is closed, so nothing can be printed")),
        ("--help", ">&-", (1, "", "allm: stdout is closed, so nothing can be printed")),
        ("chatter", "2>&-", (2, "", "")),
    ],
)
def test_a_stream_that_is_closed_is_no_traceback(
    home: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    closed: str,
    ended: tuple[int, str, str],
) -> None:
    monkeypatch.delenv("NO_COLOR")  # who wants no colour is not asked what his streams are
    asked = [*words.split(), *(options if words.startswith(("run", "chat")) else [])]
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "allm_actors", *asked],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == ended[:2]
    assert done.stderr.startswith(ended[2])
    assert done.stderr.count("\n") == bool(ended[2])


def test_a_process_that_may_open_hardly_any_file_says_so_in_a_line(home: Path, options: list[str]) -> None:
    script = 'ulimit -n 8; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "allm_actors", "run", "hi", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("allm: ")
    assert "open" in done.stderr


def test_the_system_message_is_sent_first(allm: Call, options: list[str], server: LoopbackServer) -> None:
    assert allm("run", "hi", "--system", "Rhyme.", *options)[0] == 0
    assert server.requests[0].json["messages"][0] == {"role": "system", "content": "Rhyme."}


def test_tools_of_a_file_are_used(allm: Call, options: list[str], home: Path) -> None:
    code, out, err = allm("run", "weather", "--tools", str(home / "kit.py"), *options)
    assert (code, out, err) == (0, 'It said {"celsius":17,"city":"Lisbon"}.\n', "")


def test_the_length_of_an_answer_is_limited_where_it_is_asked(
    allm: Call, options: list[str], server: LoopbackServer
) -> None:
    assert allm("run", "hi", "--max-tokens", "7", *options)[0] == 0
    assert allm("chat", "--max-tokens", "8", "--store", ":memory:", *options, typed="hi\n")[0] == 0
    assert [request.json["max_tokens"] for request in server.requests] == [7, 8]


def test_what_there_is_of_an_answer_that_is_cut_off_is_printed(allm: Call, options: list[str]) -> None:
    assert allm("run", "length", *options)[:2] == (1, "half an\n")


def test_a_refusal_without_words_is_one(allm: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": {}}
    events = (
        {"type": "message_start", "message": message},
        {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    chunks = tuple(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-that-nobody-may-see")
    with LoopbackServer(lambda _: Reply(chunks=chunks)) as server:
        ended = allm("run", "hi", "--adapter", "anthropic:c", "--base-url", server.url)
    assert ended == (1, "", "allm: the model refused: it gave no reason\n")


def test_an_empty_answer_is_spoken_of(allm: Call, options: list[str]) -> None:
    assert allm("run", "nothing", *options) == (0, "", "the answer is empty\n")


def test_an_empty_model_is_none(allm: Call, options: list[str], server: LoopbackServer) -> None:
    code, out, err = allm("run", "hi", "--model", "", *options[:2])
    assert (code, out) == (2, "")
    assert err.startswith("allm: openai-compatible needs a model")
    assert not server.requests


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize("what", ["session", "model", "adapter"])
def test_a_name_that_is_no_text_is_refused(
    process: Start, options: list[str], command: str, what: str
) -> None:
    ended = process(command, *options, f"--{what}", os.fsdecode(b"a\xff"))
    _, err = ended.communicate("hi", timeout=45)
    assert ended.returncode == 2
    assert err.splitlines()[-1].endswith(rf"{what}'s name must be UTF-8, got 'a\udcff'")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_model_of_the_environment_that_is_no_text_is_refused(
    allm: Call, options: list[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ALLM_MODEL", os.fsdecode(b"a\xff"))
    refused = (2, "", "allm: ALLM_MODEL must be UTF-8, got 'a\\udcff'\n")
    assert allm(command, *options[:2], typed="hi\n") == refused
    assert allm(command, *options, typed="hi\n")[0] == 0  # it is not asked for


def test_a_dash_behind_two_is_still_what_is_piped_in(allm: Call, options: list[str]) -> None:
    assert allm("run", "Sum up:", *options, "--", "-", typed="a letter\n") == (
        0,
        "1 heard: Sum up:\n\na letter\n",
        "",
    )


def test_a_tool_that_ends_the_turn_has_the_last_word(allm: Call, options: list[str], home: Path) -> None:
    kit = ("--tools", str(home / "kit.py"))
    assert allm("run", "enough", *kit, *options) == (0, "bye\n", "a tool ended the turn: it is late\n")
    code, out, err = allm("run", "enough", "--json", *kit, *options)
    assert (code, err) == (0, "a tool ended the turn: it is late\n")
    assert allm_actors.from_json(out).halted_reason == "it is\nlate"


def test_a_result_that_is_no_json_is_one_line_and_its_words(
    allm: Call, options: list[str], home: Path
) -> None:
    code, out, err = allm("run", "which", "--json", "--tools", str(home / "kit.py"), *options)
    said, *answer = err.splitlines()
    assert (code, out, answer) == (1, "", ["Which one?"])
    assert said.startswith("allm: the result cannot be printed as JSON: ChatResult.steps[0].metadata")


def test_json_is_the_result_for_other_programs(allm: Call, options: list[str]) -> None:
    code, out, _ = allm("run", "hi", "--json", *options)
    result = allm_actors.from_json(out)
    assert (code, type(result), result.halted_reason) == (0, allm_actors.ChatResult, "completed")
    assert result.final_response.text() == "1 heard: hi"


def test_a_named_session_goes_on(allm: Call, options: list[str], home: Path) -> None:
    store = ("--store", str(home / "s.db"))
    assert (
        allm("run", "one", "--session", "trip", "--system", "Rhyme.", *store, *options)[1] == "2 heard: one\n"
    )
    assert allm("run", "two", "--session", "trip", *store, *options)[1] == "4 heard: two\n"


def test_a_session_goes_on_after_a_failure(allm: Call, options: list[str]) -> None:
    assert allm("run", "401", "--session", "trip", *options)[0] == 1
    assert allm("run", "two", "--session", "trip", *options) == (0, "2 heard: two\n", "")


def test_a_session_that_waits_for_a_person_says_where_he_is_asked(
    allm: Call, options: list[str], home: Path
) -> None:
    store = ("--store", str(home / "s.db"), "--tools", str(home / "kit.py"))
    assert allm("run", "refund", "--session", "my trip", *store, *options)[0] == 1
    code, out, err = allm("run", "two", "--session", "my trip", *store, *options)
    assert (code, out) == (2, "")
    assert err == (
        "allm: session 'my trip' waits for the result of refund, and `run` cannot ask you for it; use: "
        f"allm chat --session 'my trip' --store {home / 's.db'}\n"
    )


def test_what_is_piped_beside_words_and_not_read_is_spoken_of(process: Start, options: list[str]) -> None:
    out, err = process("run", "hi", *options).communicate("a letter\n", timeout=45)
    assert out == "1 heard: hi\n"
    assert err == "the piped input was not read: add `-` to the prompt where it belongs\n"
    assert process("run", "hi", *options).communicate("", timeout=45) == ("1 heard: hi\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [["run", "hi"], ["providers"], ["run", "hi", "--json"]], ids=" ".join)
def test_a_full_disk_is_one_line(home: Path, options: list[str], words: list[str]) -> None:
    command = [sys.executable, "-m", "allm_actors", *words, *(options if words[0] == "run" else [])]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "allm: the answer cannot be printed: No space left on device\n",
    )


def test_a_folder_that_cannot_be_made_is_one_line(
    allm: Call, options: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
    code, _, err = allm("run", "hi", "--session", "s", *options)
    assert (code, err) == (1, f"allm: {home / 'file' / 'allm'}: Not a directory\n")


def test_the_default_store_is_in_the_data_directory(allm: Call, options: list[str], home: Path) -> None:
    assert allm("run", "one", "--session", "trip", *options)[0] == 0
    assert (home / "data/allm/sessions.db").is_file()
    assert (home / "data/allm").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["run", "401"], 1, "Check the key in OPENAI_COMPATIBLE_API_KEY"),
        (["run", "HTML with status 200"], 1, "web page"),
        (["run", "resets mid-stream"], 1, "the answer is not complete"),
        (
            ["run", "stalls mid-stream", "--timeout", "0.2"],
            1,
            "took longer than 0.2 s in all; --timeout allows more",
        ),
        (["run", "refund", "--tools", "kit.py"], 1, "use `allm chat`"),
        (["run", ""], 2, "the prompt is empty"),
        (["run", "hi", "--tools", "nowhere.py"], 2, "there is no file nowhere.py"),
        (["run", "length"], 1, "cut off at the token limit: allow more with --max-tokens"),
        (["run", "length", "--json"], 1, "cut off"),
        (["run", "refuse"], 1, "the model refused: I cannot ␛[2J help."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_one_line(
    allm: Call,
    options: list[str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(home)
    ended, _, err = allm(*words, *options)
    assert ended == code
    assert complaint in err
    assert err.startswith("allm: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 1, "set OPENAI_API_KEY"),
        (["--adapter", "opnai"], 2, "did you mean openai"),
        (["--adapter", ":gpt"], 2, "names only a model"),
        (
            ["--adapter", "openai-compatible", "--model", "m"],
            2,
            "needs the URL of a server: set it with --base-url",
        ),
        (["--base-url", "http://127.0.0.1:1/v1"], 2, "openai-compatible needs a model"),
        (["--base-url", "ftp://x", "--model", "m"], 2, "must begin with http"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nobody_to_ask_is_one_line(allm: Call, words: list[str], code: int, complaint: str) -> None:
    ended, out, err = allm("run", "hi", *words)
    assert (ended, out) == (code, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_a_model_without_a_name_is_asked_for(allm: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "a-key-that-nobody-may-see")
    code, out, err = allm("run", "hi", "--adapter", "groq")
    assert (code, out) == (2, "")
    assert "--model" in err
    assert "nobody" not in err


def test_a_server_that_is_not_there_is_named(allm: Call) -> None:
    # One attempt is refused at once; the two that follow wait for their delays.
    code, out, err = allm("run", "hi", "--base-url", "http://127.0.0.1:1/v1", "--model", "m")
    assert (code, out) == (1, "")
    assert "cannot connect to 127.0.0.1:1" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [b"shopping list", None], ids=["a text", "another program's database"])
def test_a_file_that_is_no_store_is_left_alone(
    allm: Call, options: list[str], home: Path, content: bytes | None
) -> None:
    path = home / "other"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE t (x)")
        db.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    for words in (["run", "hi", "--session", "s", *options], ["chat", *options], ["sessions"]):
        code, _, err = allm(*words, "--store", str(path))
        assert (code, err) == (
            1,
            f"allm: {path} is not a session store: pass another --store PATH, or move the file away\n",
        )
    assert path.read_bytes() == before


def test_ctrl_c_ends_it_with_130(process: Start, options: list[str], server: LoopbackServer) -> None:
    run = process("run", "wait", *options)
    assert run.stdout is not None
    assert run.stdout.read(4) == "One "
    run.send_signal(signal.SIGINT)
    assert run.wait(45) == 130
    assert run.stderr is not None
    assert run.stderr.read() == ""
    server.wait_for(lambda s: s.abandoned == 1)


def test_a_reader_who_leaves_early_is_no_trouble(process: Start, options: list[str]) -> None:
    run = process("run", *options)
    assert run.stdout is not None
    assert run.stdin is not None
    run.stdin.write("x" * 1_000_000)
    run.stdin.close()
    run.stdin = None
    run.stdout.read(1)
    run.stdout.close()
    run.stdout = None
    assert run.wait(45) == 1
    assert run.stderr is not None
    assert "Traceback" not in run.stderr.read()
