"""Every dialect passes the suites that are given to others, against a server that speaks it on loopback."""

import json
import math
from contextlib import contextmanager

import pytest

import allm_actors as allm
from allm_actors.testing.conformance import AdapterSuite, Stage, StreamSuite
from allm_actors.testing.exchanges import FAULTS
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.speaking import SPEECHES, cut
from tests.integration.wires import DIALECTS, ROWS, options_for, stream_type

KEY = "loopback-0123456789-abcdefghij"


def is_json(text):
    try:
        return text is None or bool(json.loads(text))
    except ValueError:
        return False


class Server:
    """One dialect's server; `dialect` is set by the test class."""

    dialect = ""

    @contextmanager
    def stage(self, scene):
        """See `AdapterSuite.stage`; skips a failure that this provider has no words for."""
        if scene.status is not None and scene.kind == "refuses" and scene.reason not in self.speech.words:
            pytest.skip(f"{self.dialect} has no words for {scene.reason}")
        if scene.finish_reason not in self.speech.ends:
            pytest.skip(f"{self.dialect} has no word for an answer that ends with {scene.finish_reason}")
        if scene.kind == "breaks" and scene.reason == "rate_limited" and self.speech.failure is None:
            pytest.skip(f"{self.dialect} has no word for a rate limit inside a stream")
        if self.speech.reads_arguments and not is_json(scene.raw_arguments):
            pytest.skip(f"{self.dialect} sends arguments as a part of its own JSON")
        row = ROWS[self.dialect]
        with LoopbackServer(lambda _request: self.reply(scene)) as server:
            options = options_for(self.dialect, row, server.url)
            engine = allm.Engine(adapter=row.name, model="m", adapter_opts=options, retry=False)
            yield Stage(
                engine=engine,
                requests=lambda: len(server.requests),
                cleanups=lambda: server.abandoned,
                connections=lambda: server.connections,
                key=KEY,
                keys=lambda: [each.headers[row.key_header] for each in server.requests],
                sent=lambda: [f"{each.target}\n{each.body.decode()}" for each in server.requests],
            )

    @property
    def speech(self):
        return SPEECHES[self.dialect]

    def reply(self, scene):
        speech, typed = self.speech, {"content-type": stream_type(self.dialect)}
        if scene.kind == "answers":
            return Reply(headers=typed, chunks=cut(speech.answer(scene)))
        if scene.kind == "stalls":
            return Reply(headers=typed, chunks=cut(speech.begun(scene.text)), then="stall")
        if scene.kind == "breaks":
            return self.broken(scene, typed)
        match scene.reason:
            case "timeout":
                return Reply(first_byte_delay=math.inf)
            case "network_error":
                return Reply(headers=typed, chunks=(), then="reset")
            case "malformed_response":
                return FAULTS["HTML with status 200"]
        if scene.gateway:
            return Reply(
                status=scene.status, headers={"content-type": "text/html"}, body=b"<html>Bad gateway"
            )
        waits = {} if scene.retry_after_ms is None else {"retry-after-ms": str(scene.retry_after_ms)}
        body = json.dumps(speech.words[scene.reason]).encode()
        return Reply(status=scene.status, body=body, headers=waits)

    def broken(self, scene, typed):
        match scene.reason:
            case "network_error":
                then = "end" if scene.unfinished else "reset"
                return Reply(headers=typed, chunks=cut(self.speech.begun(scene.text)), then=then)
            case "malformed_response":
                return Reply(headers=typed, chunks=cut(self.speech.garbled(scene)))
        return Reply(headers=typed, chunks=cut([*self.speech.begun(scene.text), self.speech.failure]))

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch):
        for name in ROWS[self.dialect].key_names:
            monkeypatch.setenv(name, KEY)
        monkeypatch.setenv("AWS_REGION", "us-east-1")


class Adapter(Server, AdapterSuite):
    def test_unsupported_feature(self):
        """Needs a request that the provider cannot serve; there is none in a scene."""
        pytest.skip("what a dialect cannot say is refused before it is sent; its unit tests hold that")

    def test_json_of_any_form_is_sent_or_refused(self):
        """Two have no word for it, and are asked without, as the reference of options says."""
        if self.dialect in ("anthropic", "bedrock"):
            pytest.skip(f"{self.dialect} has no word for JSON of any form, and is asked without it")
        super().test_json_of_any_form_is_sent_or_refused()


class Stream(Server, StreamSuite):
    def test_a_cancelled_stream_is_an_event(self):
        """No server says that."""
        pytest.skip("a server that gives up in the middle is a network error")

    def test_a_failure_in_the_middle_is_an_event(self):
        """An event of the stream has no header to say how long to wait."""
        assert self.breaks("rate_limited").reason == "rate_limited"


def test_every_dialect_has_a_speech():
    assert sorted(SPEECHES) == DIALECTS


for _dialect in DIALECTS:
    for _base in (Adapter, Stream):
        _name = f"Test{_dialect.title().replace('_', '')}{_base.__name__}"
        globals()[_name] = type(_name, (_base,), {"dialect": _dialect, "__module__": __name__})
