"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply

ROOT = Path(__file__).parents[4]
TESTS = """
import pytest
import allm_actors as allm
from allm_actors.testing import script
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import Reply

SAYS = [script.text("Hi."), script.delay(5), script.finish("stop")]
SEEDS = []


def test_a_fake_engine_may_have_other_options(fake_engine):
    record, opts = [], {"usage": {"input_tokens": 3}}
    engine = fake_engine([SAYS[:1] + SAYS[2:]], adapter_opts={"record": record, **opts}, tools=[])
    assert allm.generate(engine, [allm.user("?")]).usage.input_tokens == 3
    assert len(record) == 1


def test_fake_engine(fake_engine):
    assert allm.generate(fake_engine([SAYS[:1] + SAYS[2:]]), [allm.user("?")]).text() == "Hi."


@pytest.mark.allm_schedules(3)
def test_sim_host(sim_host, fake_engine):
    SEEDS.append(sim_host.seed)
    turn = sim_host.session("s", fake_engine([SAYS])).reply("?")
    assert (turn.result().halted_reason, sim_host.now) == ("completed", 5.0)


def test_once(sim_host, schedules):
    assert (SEEDS, sim_host.seed, schedules) == (list(range(len(SEEDS))), 0, 200)


@pytest.mark.allm_schedules(7)
def test_schedules(schedules, pytestconfig):
    assert schedules == (pytestconfig.getoption("--allm-schedules") or 7)


def test_loopback(loopback):
    server = loopback([Reply(chunks=chat_completions(text="Hello."))])
    engine = allm.Engine(adapter="openai-compatible:any", adapter_opts={"base_url": server.url + "/v1"})
    assert allm.generate(engine, [allm.user("?")]).text() == "Hello."
"""


SEEDED = """
import pytest
from allm_actors.testing import SimHost


@pytest.mark.parametrize("sim_host", [11, 12], indirect=True)
def test_seeds_of_its_own(sim_host):
    assert sim_host.seed in (11, 12)


@pytest.mark.parametrize("sim_host", ["a", "b"])
def test_no_host(sim_host):
    assert sim_host in ("a", "b")


class TestReplaced:
    @pytest.fixture(params=[21, 22])
    def sim_host(self, request):
        with SimHost(request.param) as host:
            yield host

    def test_seeds_of_the_fixture(self, sim_host):
        assert sim_host.seed in (21, 22)


class TestWrapped:
    @pytest.fixture
    def sim_host(self, sim_host):
        return [sim_host]

    @pytest.mark.allm_schedules(3)
    def test_seeds_of_the_marker(self, sim_host):
        assert sim_host[0].seed in (0, 1, 2)


def test_a_seed_without_a_marker(request):
    assert request.getfixturevalue("sim_host").seed == 0


@pytest.mark.allm_schedules(3)
def test_too_late(request):
    request.getfixturevalue("sim_host")
"""


@pytest.mark.slow
def test_a_suite_may_say_itself_which_seeds_a_simulated_host_has(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SEEDED)
    ended = run(tmp_path)
    assert "1 failed, 10 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "name sim_host as an argument of the test" in ended.stdout


RECORDED = """
import os
import pytest
import allm_actors as allm

ENGINE = allm.Engine(adapter="openai:gpt-4.1-mini")


@pytest.mark.parametrize("word", ["a/b", "c"])
def test_it_talks(recorded, word):
    assert allm.generate(recorded(ENGINE), [allm.user(word)]).text() == "Hello."
"""


def run(path: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in `path`, with this plugin and no other, whether the library is installed or not."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "allm_actors.testing.plugin",
        "--strict-markers",
        *options,
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [*command, str(path)],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NAMED = """
import pytest
import allm_actors as allm


def test_hello(recorded): ...
@pytest.mark.parametrize("word", ["a b", "a/b", "a?b"])
def test_word(recorded, word): ...
class TestOne:
    def test_hello(self, recorded): ...
class TestOther:
    def test_hello(self, recorded): ...


def test_each_has_its_own(request):
    from allm_actors.testing.plugin import _name_of

    names = [_name_of(item) for item in request.session.items]
    assert len(set(names)) == len(names), names
    assert names[0] == "test_hello"
"""


@pytest.mark.slow
def test_each_test_has_a_recording_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(NAMED)
    ended = run(tmp_path)
    assert "7 passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "passed"), [((), 8), (("--allm-schedules=2",), 7)], ids=["marker", "option"]
)
def test_fixtures_and_the_number_of_schedules(tmp_path: Path, options: tuple[str, ...], passed: int) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    ended = run(tmp_path, *options)
    assert f"{passed} passed" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("marker", "options", "words"),
    [
        ("@pytest.mark.allm_schedules", (), "allm_schedules(50)"),
        ("@pytest.mark.allm_schedules(0)", (), "allm_schedules(50)"),
        ("@pytest.mark.allm_schedules(2)", ("--allm-schedules=0",), "positive"),
    ],
    ids=["no number", "zero", "zero asked for"],
)
def test_a_number_that_means_nothing_is_refused(
    tmp_path: Path, marker: str, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{marker}\ndef test_it(sim_host): pass\n")
    ended = run(tmp_path, *options)
    assert ended.returncode != 0
    assert words in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_recording_is_made_when_it_is_asked_for_and_played_otherwise(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(RECORDED)
    missing = run(tmp_path, OPENAI_API_KEY="", ALLM_RECORD="1")
    assert missing.returncode == 1
    assert "ALLM_RECORD=1 and OPENAI_API_KEY" in missing.stdout
    with LoopbackServer([Reply(chunks=chat_completions(text="Hello."))] * 2) as server:
        there = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "sk-nobody-0123456789"}
        made = run(tmp_path, ALLM_RECORD="1", **there)
        assert "2 passed" in made.stdout, made.stdout
        asked = len(server.requests)
        played = run(tmp_path, **there)  # a key alone asks nobody
        assert (asked, len(server.requests)) == (2, 2)
    keyless = run(tmp_path, OPENAI_API_KEY="")
    assert "2 passed" in played.stdout
    assert "2 passed" in keyless.stdout
    names = sorted(path.name for path in (tmp_path / "recordings/test_it").iterdir())
    assert [name[: len("test_it_talks-a")] for name in names] == ["test_it_talks-a", "test_it_talks-c"]
    for name, earlier in zip(names, ("test_it_talks-a-b.json", "test_it_talks-c.json"), strict=True):
        (tmp_path / "recordings/test_it" / name).rename(tmp_path / "recordings/test_it" / earlier)
    assert "2 passed" in run(tmp_path, OPENAI_API_KEY="").stdout  # as they were called before


def test_loading_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import allm_actors.testing.plugin; "
        "heavy = {'msgspec', 'httpx', 'pykka', 'hypothesis', 'asyncio', 'supervisors', 'structlog'}; "
        "sys.exit(' '.join((set(sys.modules) - before) & heavy) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_is_found_by_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"allm_actors": "allm_actors.testing.plugin"}
