"""`isolation="process"`: another interpreter, that can be killed, may crash, and never outlives its call."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

import allm_actors as allm
import supervisors
from allm_actors.engine import isolated
from allm_actors.execution.tool_errors import describe
from allm_actors.testing import script

from . import isolated_tools as tools

SOON = 20.0
HI = [allm.user("hi")]
DONE = [script.text("Done."), script.finish("stop")]


def engine(name, tool, arguments=None, **fields):
    call = [script.tool_call(name, arguments or {}, id="c0"), script.finish("tool_calls")]
    return allm.Engine(adapter="fake", tools=[tool], adapter_opts={"scripts": [call, DONE]}, **fields)


def told(result):
    return result.thread.messages[2].content


def is_gone(pid):
    """Whether a process of this machine has ended, in time; a child of ours is reaped by whoever waits for it."""
    waited = threading.Event()
    for _ in range(400):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        waited.wait(SOON / 400)
    return False


def written(file):
    """The process id that a tool has written."""
    waited = threading.Event()
    for _ in range(400):
        if file.exists() and file.read_text():
            return int(file.read_text())
        waited.wait(SOON / 400)
    raise AssertionError("the tool has not begun")


def test_the_function_runs_elsewhere_with_its_context():
    result = allm.chat(engine("whoami", tools.whoami, context={"user": "ada"}), HI)
    said = json.loads(told(result))
    assert (said["user"], said["call"]) == ("ada", "c0")
    assert said["pid"] != os.getpid()
    assert is_gone(said["pid"])


def test_a_coroutine_function():
    assert told(allm.chat(engine("nap", tools.nap, {"seconds": 0.0}), HI)) == "slept"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raise", "LookupError: no such thing"),
        ("segfault", "signal 11"),
        ("exit", "exited with SystemExit: 3"),
        ("odd", "cannot pickle"),
        ("odd raise", "Unpicklable: odd"),
        ("mute raise", "fail raised <Mute>"),
        ("raise with a field", "fail raised TooMany: at most this per minute: int"),
        ("raise with a lock", "fail raised TooMany: at most this per minute: lock"),
        ("close", "closed the pipe for its answer"),
        ("close and go on", "closed the pipe for its answer"),
        ("nothing", "null"),
    ],
)
def test_however_it_ends_the_model_is_told(how, words):
    result = allm.chat(engine("fail", tools.fail, {"how": how}), HI)
    assert words in told(result)
    assert result.halted_reason == "completed"


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 3), ("raise", 1)])
def test_only_the_process_that_was_started_answers(how, code):
    assert told(allm.chat(engine("forks", tools.forks, {"how": how}), HI)) == str(code)


def test_a_function_may_print_where_stderr_is_closed():
    code = (
        "import os; os.close(2); from tests.integration.test_isolation import *\n"
        "print(told(allm.chat(engine('prints', tools.prints), HI)))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True, timeout=45)
    assert ended.stdout == "printed\n"


def test_an_interpreter_may_print_when_it_starts(tmp_path, monkeypatch):
    """As that of a company may, from its `sitecustomize`; the last line has no end.

    Neither what it prints nor the arguments have room in a pipe.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "print('proxy\\n' * 50_000 + 'configured', end='', flush=True)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = "x" * 300_000
    result = allm.chat(engine("length", tools.length, {"text": text}), HI, tool_timeout=SOON)
    assert told(result) == "300000"


def test_an_ending_that_somebody_else_has_seen_is_unknown():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        result = allm.chat(engine("fail", tools.fail, {"how": "segfault"}), HI)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "ended with an unknown status" in told(result)


def test_a_policy_sees_what_was_raised_there():
    seen = []

    def decide(call, error):
        seen.append(error)
        return "continue"

    allm.chat(engine("fail", tools.fail, {"how": "raise"}), HI, on_tool_error=decide)
    (error,) = seen
    assert (error.reason, error.cause) == ("handler_raised", "LookupError: no such thing")
    assert isinstance(error.__cause__, LookupError)


def raised(error):
    """The error as the parent gets it."""
    gave, again = pickle.loads(isolated._raised(error))
    assert not gave
    return again


def same(error, again):
    return (type(error), describe(error), error.args, vars(error)) == (
        type(again),
        describe(again),
        again.args,
        vars(again),
    )


def local():
    class Local(LookupError):
        pass

    return Local("of a function")


@pytest.mark.parametrize(
    "error",
    [
        LookupError("no such thing"),
        SystemExit(3),
        StopIteration("result"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
        FileNotFoundError(2, "No such file", "/nowhere"),
        tools.Unpicklable("odd", 1),
        tools.Mute("odd", 1),
        tools.TooMany(60),
        tools.Late(3),
        tools.Remembered(code=7),
        allm.ToolError("timeout", tool_name="look"),
        supervisors.ProcessDown(ref="cache"),
        supervisors.PortRefused("input full", "the program does not read"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_here(error):
    assert same(error, raised(error))
    (member,) = (
        raised(ExceptionGroup("some", [error])).exceptions if isinstance(error, Exception) else [error]
    )
    assert same(error, member)


@pytest.mark.parametrize(
    "error", [local(), tools.Swapped("by hand"), tools.TooMany(threading.Lock())], ids=repr
)
def test_an_error_that_cannot_be_pickled_is_told_by_the_same_words(error):
    again = raised(error)
    assert isinstance(again, RuntimeError)
    assert describe(again) == describe(error)
    assert describe(pickle.loads(pickle.dumps(again))) == describe(error)


def test_of_a_group_only_the_members_that_cannot_be_pickled_are_stood_in_for():
    inner = tools.Several("inner", [local(), tools.TooMany(60)])
    group = BaseExceptionGroup("outer", [SystemExit(3), inner, tools.TooMany(threading.Lock())])
    inner.hint = "wait"
    again = raised(group)
    assert type(again) is BaseExceptionGroup
    assert describe(again) == describe(group)
    first, second, third = again.exceptions
    assert same(group.exceptions[0], first)
    assert (type(second), second.message, second.hint) == (tools.Several, "inner", "wait")
    assert same(inner.exceptions[1], second.exceptions[1])
    assert isinstance(second.exceptions[0], RuntimeError)
    assert isinstance(third, RuntimeError)


def test_a_crash_is_met_once_more_where_that_does_no_harm(tmp_path):
    arguments = {"file": str(tmp_path / "tried")}
    assert told(allm.chat(engine("second_time", tools.second_time, arguments), HI)) == "the second time"
    once = msgspec.structs.replace(tools.second_time, effect="once")
    (tmp_path / "tried").unlink()
    assert "signal 9" in told(allm.chat(engine("second_time", once, arguments), HI))


def test_it_can_ask_the_user():
    result = allm.chat(engine("fail", tools.fail, {"how": "ask"}), HI)
    assert (result.halted_reason, result.pending_question) == ("ask_user", "which?")
    assert result.metadata["ask_user_opts"] == {"choices": ["a", "b"]}


@pytest.mark.slow
def test_a_timeout_kills(tmp_path):
    file = tmp_path / "pid"
    result = allm.chat(engine("spin", tools.spin, {"file": str(file)}), HI, tool_timeout=3.0)
    assert "did not answer within 3 s" in told(result)
    if file.exists():  # a slow machine may not have got that far
        assert is_gone(int(file.read_text()))


def test_a_cancel_kills(tmp_path):
    file = tmp_path / "pid"
    with allm.Host() as host:
        turn = host.session("s", engine("spin", tools.spin, {"file": str(file)})).reply("hi")
        reader = threading.Thread(target=turn.result)
        reader.start()
        pid = written(file)
        turn.close()
        reader.join(SOON)
        assert is_gone(pid)
        assert turn.result().halted_reason == "cancelled"


def test_an_answer_is_not_held_up_by_what_the_function_leaves_behind(tmp_path):
    file = tmp_path / "pid"
    result = allm.chat(engine("leave", tools.leave, {"file": str(file), "how": "answer"}), HI)
    assert told(result) == "answered"
    os.kill(int(file.read_text()), signal.SIGKILL)  # what a function has started is its own business


def test_a_function_may_have_processes_of_its_own():
    assert told(allm.chat(engine("spread", tools.spread, {"count": 4}), HI)) == "[0,2,4,6]"


def test_what_a_function_has_started_ends_with_it_when_it_dies_without_an_answer(tmp_path):
    file = tmp_path / "pid"
    result = allm.chat(engine("leave", tools.leave, {"file": str(file), "how": "die"}), HI)
    assert "exit code 7" in told(result)
    assert is_gone(int(file.read_text()))


@pytest.mark.parametrize(
    ("how", "words"), [("die", "exit code 7"), ("close", "closed the pipe for its answer")]
)
def test_what_no_kill_reaches_holds_nobody_up(how, words, tmp_path):
    file = tmp_path / "pid"
    tool = engine("leaves_alone", tools.leaves_alone, {"file": str(file), "how": how})
    try:
        assert words in told(allm.chat(tool, HI, tool_timeout=SOON))
    finally:
        os.kill(written(file), signal.SIGKILL)


@pytest.mark.parametrize(
    ("tool", "arguments"), [("spin", {}), ("leave", {"how": "hang"})], ids=["itself", "what it has started"]
)
def test_nothing_is_left_when_the_program_is_killed(tool, arguments, tmp_path):
    file = tmp_path / "pid"
    code = (
        "import sys; from tests.integration.test_isolation import *\n"
        f"allm.chat(engine({tool!r}, tools.{tool}, {{'file': sys.argv[1], **{arguments!r}}}), HI)"
    )
    root = Path(__file__).parents[2]
    program = subprocess.Popen([sys.executable, "-c", code, str(file)], cwd=root)
    try:
        pid = written(file)
    finally:
        program.kill()
        program.wait(SOON)
    assert is_gone(pid)


def test_a_function_that_cannot_be_imported_is_refused_before_anything_begins():
    local = allm.Tool(name="local", description="", schema={}, handler=lambda _: 1, isolation="process")
    with pytest.raises(ValueError, match=r"'local': isolation='process' imports the function"):
        allm.chat(engine("local", local), HI)


def test_a_context_that_cannot_be_pickled_is_told():
    result = allm.chat(engine("whoami", tools.whoami, context={"user": threading.Lock()}), HI)
    assert "cannot pickle" in told(result)


def test_a_child_that_answers_and_does_not_end_holds_nobody_up():
    result = allm.chat(engine("lingers", tools.lingers), HI, tool_timeout=SOON)
    assert told(result) == "answered"


def test_a_child_that_has_answered_can_be_killed_by_whoever_must_not_wait(monkeypatch):
    # As if the child did not end: then who waits for that may not hold what the killer needs.
    call = isolated.IsolatedCall(tools.lingers, {}, allm.ToolContext(context={}, tool_call=None))
    polled, go_on = threading.Event(), threading.Event()
    poll = subprocess.Popen.poll

    def still_runs(child):
        polled.set()
        return poll(child) if go_on.is_set() else None

    monkeypatch.setattr(subprocess.Popen, "poll", still_runs)
    answers = []
    runner = threading.Thread(target=lambda: answers.append(call.run()))
    runner.start()
    assert polled.wait(SOON)
    call.kill()  # at once, though the other thread waits
    go_on.set()
    runner.join(SOON)
    assert answers == ["answered"]


def test_the_child_looks_for_no_module_in_the_directory_it_is_started_in(tmp_path, monkeypatch):
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("struct", "pickle"):
        (planted / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(planted)
    result = allm.chat(engine("where", tools.where), HI)
    assert told(result) == "[]"


def test_what_the_function_starts_finds_no_path_of_ours():
    """Another Python would import from it, and fail."""
    seen = json.loads(told(allm.chat(engine("surroundings", tools.surroundings), HI)))
    for name in ("COLUMNS", "LINES"):  # readline, where it was imported, sets them unseen by `os.environ`
        if name not in os.environ:
            seen["environment"].pop(name, None)
    assert seen["environment"] == dict(os.environ)
    assert seen["arguments"] == ["-c"]


def test_the_child_is_started_as_its_parent_was():
    code = (
        "import sys, allm_actors as allm; from allm_actors.testing import script\n"
        "from tests.integration.isolated_tools import surroundings\n"
        "calls = [script.tool_call('surroundings', {}), script.finish('tool_calls')]\n"
        "scripts = [calls, [script.text('x'), script.finish('stop')]]\n"
        "engine = allm.Engine('fake', tools=[surroundings], adapter_opts={'scripts': scripts})\n"
        "print(allm.chat(engine, [allm.user('go')]).steps[0].tool_results[0].content)\n"
    )
    command = [sys.executable, "-X", "dev", "-O", "-W", "error::UserWarning", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=45)
    dev, optimized, warned = json.loads(ended.stdout)["flags"]
    assert (dev, optimized, warned[-1]) == (True, 1, "error::UserWarning")
