"""Every example and the demo run to their end, in a process of their own, and say nothing on stderr."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TRAFFIC = ROOT / "examples/exchanges/tool-that-crashes__01of02.json"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "COLUMNS": "100",
}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=55,
        check=False,
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_holds_what_it_asserts(path: Path) -> None:
    ended = run("-W", "error", str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.slow
def test_the_demo_holds_what_it_says() -> None:
    ended = run("-m", "examples.demo", NO_COLOR="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert "all of them held" in ended.stdout
    assert all(line == line.rstrip() for line in ended.stdout.splitlines())
    assert max(map(len, ended.stdout.splitlines())) <= 110


@pytest.mark.slow
def test_the_demo_plays_a_recording_in_colour() -> None:
    ended = run("-m", "examples.demo", "--fast", "--traffic", str(TRAFFIC), FORCE_COLOR="1", NO_COLOR="")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b[" in ended.stdout
    assert "A recorded conversation: tool-that-crashes" in ended.stdout


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "examples.demo", "--fast"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, encoding="utf-8", start_new_session=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    "words", ["provider of our own", "get_weather", "supervision tree, now", "runs a session of its own"]
)
def test_ctrl_c_ends_the_demo_in_any_act(demo: subprocess.Popen[str], words: str) -> None:
    assert demo.stdout is not None
    assert demo.stderr is not None
    assert any(words in line for line in demo.stdout)
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(30) == 130
    assert demo.stderr.read() == "\nstopped\n"
