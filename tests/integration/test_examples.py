"""Every example and the demo run to their end, in a process of their own, and say nothing on stderr."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from allm_actors.testing.loopback import LoopbackServer
from tests.integration.obliging import answer

ROOT = Path(__file__).parents[2]
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.name != "provider.py"]
ASKS_A_MODEL = re.compile(r"^from provider import .*\b(engine|MODEL)\b", re.MULTILINE)
WITH_A_MODEL = [path for path in EXAMPLES if ASKS_A_MODEL.search(path.read_text())]


def _is_about_providers(name: str) -> bool:
    return name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith("ALLM_")


TRAFFIC = ROOT / "examples/exchanges/tool-that-crashes__01of02.json"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not _is_about_providers(name)},
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


def test_the_list_of_examples_has_all_of_them() -> None:
    listed = (ROOT / "examples/README.md").read_text()
    assert [path.name for path in EXAMPLES if f"]({path.name})" not in listed] == []


@pytest.mark.parametrize("path", WITH_A_MODEL, ids=lambda path: path.stem)
def test_the_example_holds_with_a_model_that_has_no_script(path: Path) -> None:
    with LoopbackServer(answer) as server:
        keys = {"OPENAI_API_KEY": "no-key-of-anybody", "OPENAI_BASE_URL": f"{server.url}/v1"}
        ended = run("-W", "error", str(path), ALLM_PROVIDER="openai:gpt-4.1-mini", **keys)
        asked = len(server.requests)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert asked > 0


@pytest.mark.live
@pytest.mark.skipif(
    "ALLM_PROVIDER" not in os.environ, reason="ALLM_PROVIDER names no model, such as openai:gpt-4.1-mini"
)
@pytest.mark.parametrize("path", WITH_A_MODEL, ids=lambda path: path.stem)
def test_the_example_holds_with_a_real_model(path: Path) -> None:
    keys = {name: value for name, value in os.environ.items() if _is_about_providers(name)}
    ended = run("-W", "error", str(path), **keys)
    assert (ended.returncode, ended.stderr) == (0, "")


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
    "words",
    ["stand-in for a provider", "get_weather", "supervision tree at this moment", "runs its own session"],
)
def test_ctrl_c_ends_the_demo_in_any_act(demo: subprocess.Popen[str], words: str) -> None:
    assert demo.stdout is not None
    assert demo.stderr is not None
    assert any(words in line for line in demo.stdout)
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(30) == 130
    assert demo.stderr.read() == "\nstopped\n"
