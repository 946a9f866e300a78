"""The adapter that the guide writes keeps the laws that it names, and needs its key."""

import re
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.testing import Player, Recorder
from allm_actors.testing.loopback import LoopbackServer, Reply

PAGE = Path(__file__).parents[2] / "docs/guides/write-an-adapter.md"
written: dict[str, object] = {"__name__": __name__}
for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
    exec(compile(block, str(PAGE), "exec"), written)


class TestParrot(written["TestParrot"]): ...


class TestParrotsStream(written["TestParrotsStream"]): ...


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("PARROT_API_KEY", raising=False)
    yield
    keys.delete("parrot")


def test_it_refuses_what_it_cannot_do_before_it_is_asked():
    engine = allm.Engine(adapter=written["Parrot"]())
    with pytest.raises(allm.EngineError, match="set PARROT_API_KEY"):
        allm.generate(engine, [allm.user("Hello?")])
    tool = allm.tool(name="t", description="", schema={})
    with pytest.raises(allm.ValidationError, match="no hands"):
        allm.generate(engine, [allm.user("Hello?")], tools=[tool], api_key="k")


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "é", "🦜", '"\\\n'])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_its_lines_end_only_at_line_feeds_wherever_the_network_cuts_them(odd, size):
    said = f"One{odd}two{odd}{odd}three."
    chunks = written["cut"](written["lines"]({"say": said}, {"say": odd}, {"end": "stop"}), size)
    with LoopbackServer([Reply(chunks=chunks)]) as server:
        engine = allm.Engine(adapter=written["Parrot"](), adapter_opts={"base_url": server.url})
        response = allm.generate(engine, [allm.user("Hello?")], api_key="k")
    assert (response.text(), response.finish_reason) == (said + odd, "stop")


ASLEEP = b'{"error": {"code": "asleep"}}'


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        (b"<html>Bad gateway</html>", {}),
        (b"[]", {}),
        (b'{"error": "no"}', {}),
        (b'{"error": {"code": ["no"]}}', {}),
        (ASLEEP, {"retry-after-ms": "0.5"}),
        (ASLEEP, {"retry-after-ms": "inf"}),
        (ASLEEP, {"retry-after-ms": "soon"}),
    ],
)
def test_what_a_gateway_says_is_a_status_and_an_answer_needs_no_last_line_end(first, headers):
    hello = Reply(chunks=[b'{"say": "Hello!"}\r\n\n{"end": "stop"}'])
    with LoopbackServer([Reply(status=502, chunks=[first], headers=headers), hello]) as server:
        retry = {"base_delay": 0.001, "jitter": 0.0}
        engine = allm.Engine(adapter=written["Parrot"](), adapter_opts={"base_url": server.url}, retry=retry)
        response = allm.generate(engine, [allm.user("Hello?")], api_key="k")
        assert (response.text(), response.finish_reason, len(server.requests)) == ("Hello!", "stop", 2)


def test_it_sends_through_the_transport_of_its_call(tmp_path):
    recording = tmp_path / "hello.json"
    chunks = written["lines"]({"say": "Hello!"}, {"end": "stop"})
    with LoopbackServer([Reply(chunks=chunks)]) as server:
        engine = allm.Engine(adapter=written["Parrot"](), adapter_opts={"base_url": server.url})
        for transport in (Recorder, Player):
            through = engine.merge(adapter_opts={"transport": transport(recording)})
            assert allm.generate(through, [allm.user("Hello?")], api_key="k").text() == "Hello!"
        assert len(server.requests) == 1
