"""What was recorded over real sockets is played again, in any runtime, and nobody's secret is in the file."""

import asyncio
import json
import threading

import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.data import ToolCall
from allm_actors.testing import Player, Recorder, SimHost
from allm_actors.testing.exchanges import chat_completions, load_exchange, load_exchanges, refusal
from allm_actors.testing.loopback import LoopbackServer, Reply

KEY = "sk-canary-0123456789abcdef"
CALL = ToolCall(id="c1", name="get_weather", arguments={"city": "Zürich"})
ASKS = Reply(chunks=chat_completions(tool_calls=[CALL]))
SAYS = Reply(
    chunks=chat_completions(text="Take an umbrella. ☔", usage={"prompt_tokens": 3, "completion_tokens": 2}),
    headers={
        "x-request-id": "req_1",
        "set-cookie": "session=canary-cookie",
        "openai-organization": "org-canary",
        "x-ratelimit-remaining-requests": "9",
    },
)


@allm.tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def engine(transport, url="http://nobody.invalid", **options):
    opts = {"base_url": f"{url}/v1", "transport": transport, **options}
    return allm.Engine(adapter="openai:gpt-4.1-mini", tools=[get_weather], adapter_opts=opts)


def chat(transport, question="Umbrella?", **more):
    return allm.chat(engine(transport, **more), [allm.user(question)], request_id="r1")


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "umbrella.json"
    with LoopbackServer([ASKS, SAYS]) as server:
        opts = {"headers": {"Cookie": "canary-cookie"}, "organization": "org-canary"}
        asked = engine(Recorder(path), server.url, **opts)
        result = allm.chat(asked, [allm.user("Umbrella?")], api_key=KEY, request_id="r1")
    assert result.final_response.text() == "Take an umbrella. ☔"
    return path, result


def test_a_replay_comes_to_the_same_result(recording):
    path, result = recording
    player = Player(path)
    assert chat(player) == result
    assert player.left == ()


def test_a_replay_on_asyncio_comes_to_the_same_result(recording):
    path, result = recording

    async def run():
        return await allm.aio.chat(engine(Player(path)), [allm.user("Umbrella?")], request_id="r1")

    assert asyncio.run(run()) == result


def test_a_simulated_host_plays_it_in_virtual_time(recording):
    path, result = recording
    recorded = json.loads(path.read_text())
    for number, each in enumerate(recorded["exchanges"]):
        each["response"] |= {"first_byte_delay": 30.0 if number == 0 else 0.5}
        reads = each["response"]["reads"]
        each["response"]["reads"] = [[12.0, size] for _, size in reads]
    path.write_text(json.dumps(recorded))
    waits = sum(12.0 * len(each["response"]["reads"]) for each in recorded["exchanges"]) + 30.5
    with SimHost(seed=3) as host:
        adapter = Player(path, pace=1.0).adapter("openai")
        played = allm.Engine(adapter=adapter, model="gpt-4.1-mini", tools=[get_weather])
        turn = host.session("s", played).reply("Umbrella?")
        assert turn.result().final_response.text() == result.final_response.text()
        assert host.now == waits


def test_the_adapter_for_a_simulation_plays_elsewhere_too(recording):
    path, result = recording
    adapter = Player(path).adapter("openai")
    played = allm.Engine(adapter=adapter, model="gpt-4.1-mini", tools=[get_weather])
    assert allm.chat(played, [allm.user("Umbrella?")], request_id="r1") == result


def test_only_a_provider_with_a_wire_can_be_played(recording):
    with pytest.raises(allm.EngineError, match="does not use the network"):
        Player(recording[0]).adapter("fake")


def test_nothing_of_who_asked_is_in_the_file(recording):
    text = recording[0].read_text()
    assert "canary" not in text
    assert "authorization" not in text.lower()
    response = json.loads(text)["exchanges"][1]["response"]
    assert response["headers"]["x-ratelimit-remaining-requests"] == "9"
    assert response["headers"]["x-request-id"] == "req_1"


def test_a_key_that_the_server_repeats_is_covered_without_moving_a_chunk(tmp_path):
    path = tmp_path / "echo.json"
    chunks = chat_completions(text=f"Your key is {KEY}, and sk-proj-A1b2C3d4E5f6G7h8J9 of another.")
    with LoopbackServer([Reply(chunks=chunks)]) as server:
        allm.generate(engine(Recorder(path), server.url), [allm.user("Hi")], api_key=KEY)
    text = path.read_text()
    assert KEY not in text
    assert "A1b2C3" not in text
    (exchange,) = load_exchanges(path)
    assert sum(map(len, exchange.reply.chunks)) == sum(map(len, chunks))
    said = allm.generate(engine(Player(path)), [allm.user("Hi")]).text()
    assert said.startswith("Your key is [REDACTED]*")


def test_a_hook_takes_out_more_and_the_player_needs_it_too(tmp_path):
    def redact(exchange):
        text = json.dumps(exchange).replace("Mrs. Miller", "X")
        return json.loads(text)

    path = tmp_path / "hook.json"
    with LoopbackServer([Reply(chunks=chat_completions(text=["Hello ", "Mrs. Miller"]))]) as server:
        allm.generate(
            engine(Recorder(path, redact=redact), server.url), [allm.user("I am Mrs. Miller")], api_key=KEY
        )
    assert "Miller" not in path.read_text()
    asks = [allm.user("I am Mrs. Miller")]
    assert allm.generate(engine(Player(path, redact=redact)), asks).text() == "Hello X"
    failed = allm.generate(engine(Player(path)), asks)
    assert failed.metadata["error"].reason == "no_scripted_response"


def test_chunks_and_waits_are_those_of_the_wire(tmp_path):
    path = tmp_path / "slow.json"
    sent = chat_completions(text="one two three")
    with LoopbackServer([Reply(chunks=sent, pace=0.05, first_byte_delay=0.1)]) as server:
        allm.generate(engine(Recorder(path), server.url), [allm.user("Hi")], api_key=KEY)
    response = json.loads(path.read_text())["exchanges"][0]["response"]
    assert response["first_byte_delay"] >= 0.1
    assert [size for _, size in response["reads"]] == [len(chunk) for chunk in sent]
    rounded = 0.0005  # to whole milliseconds, each
    assert sum(wait + rounded for wait, _ in response["reads"]) >= 0.05 * (len(sent) - 1)
    reply = load_exchange(path).reply
    assert reply.chunks == list(sent)
    assert len(reply.waits) == len(sent)


def test_a_request_that_differs_says_where(recording):
    failed = chat(Player(recording[0]), "Sunshade?")
    error = failed.final_response.metadata["error"]
    assert error.reason == "no_scripted_response"
    assert "messages[0].content: recorded 'Umbrella?', asked 'Sunshade?'" in error.message
    assert "umbrella__01of02" in error.message


def test_what_is_used_up_or_elsewhere_says_so(recording):
    player = Player(recording[0])
    chat(player)
    assert "all 2 were used" in chat(player).final_response.metadata["error"].message
    elsewhere = allm.generate(engine(Player(recording[0]), "http://x/other"), [allm.user("Hi")])
    message = elsewhere.metadata["error"].message
    assert "POST /other/v1/chat/completions" in message
    assert "the remaining exchanges are for POST /v1/chat/completions. Make the same requests" in message


def test_equal_requests_are_answered_in_the_order_of_the_recording(tmp_path):
    path = tmp_path / "twice.json"
    replies = [Reply(chunks=chat_completions(text=word)) for word in ("first", "second")]
    with LoopbackServer(replies) as server:
        recorder = Recorder(path)
        for _ in replies:
            allm.generate(engine(recorder, server.url), [allm.user("Hi")], api_key=KEY)
    player = Player(path)
    assert [allm.generate(engine(player), [allm.user("Hi")]).text() for _ in replies] == ["first", "second"]


def test_many_threads_take_every_exchange_once(tmp_path):
    path = tmp_path / "many.json"
    texts = [f"word{number}" for number in range(12)]
    with LoopbackServer([Reply(chunks=chat_completions(text=text)) for text in texts]) as server:
        recorder = Recorder(path)
        for _ in texts:
            allm.generate(engine(recorder, server.url), [allm.user("Hi")], api_key=KEY)
    player, said = Player(path), []
    threads = [
        threading.Thread(target=lambda: said.append(allm.generate(engine(player), [allm.user("Hi")]).text()))
        for _ in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(said) == sorted(texts)


def test_attempts_are_recorded_and_played_without_waiting_for_them(tmp_path):
    path = tmp_path / "again.json"
    busy = refusal(429, "Slow down.", headers={"retry-after-ms": "300"})
    with LoopbackServer([busy, SAYS]) as server:
        allm.generate(engine(Recorder(path), server.url), [allm.user("Hi")], api_key=KEY)
    text = path.read_text().replace('"300"', '"20000"')  # a wait that would outlast this test
    path.write_text(text)
    assert len(load_exchanges(path)) == 2
    player = Player(path)
    assert allm.generate(engine(player), [allm.user("Hi")]).text() == "Take an umbrella. ☔"
    assert player.left == ()


@pytest.mark.parametrize(
    ("then", "reason"), [("reset", "network_error"), ("half_close", "network_error"), ("stall", "timeout")]
)
def test_a_recorded_break_breaks_again(tmp_path, then, reason):
    path = tmp_path / "broken.json"
    sent = chat_completions(text="Hello there")[:2]
    with LoopbackServer([Reply(chunks=sent, then=then)]) as server:
        asked = engine(Recorder(path), server.url, stream_timeout=0.3)
        live = allm.generate(asked, [allm.user("Hi")], api_key=KEY, request_id="r")
    played = allm.generate(engine(Player(path)), [allm.user("Hi")], request_id="r")
    for response in (live, played):
        assert response.metadata["error"].reason == reason
        assert response.text() == "Hello "


def test_a_path_that_is_taken_is_refused_unless_it_is_meant(recording):
    path, _ = recording
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        Recorder(path)
    Recorder(path, overwrite=True)
    assert path.read_bytes() == before  # nothing was recorded yet


@pytest.mark.parametrize("text", ["", "[]", '{"exchanges": [{}]}', '{"request": {"url": 1}}'])
def test_a_file_that_is_no_recording_is_named(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"odd\.json is not a recording"):
        Player(path)


def test_a_folder_of_exchanges_is_a_recording_and_the_examples_are_one():
    player = Player("examples/exchanges")
    names = [exchange.name for exchange in player.left]
    assert names == sorted(names)
    assert len(names) == 7


def test_a_response_can_be_poured(recording):
    async def run():
        from allm_actors.engine.wire import Deadlines, HttpRequest

        exchange = Player(recording[0]).left[0]
        request = HttpRequest(url="http://x" + exchange.target, body=json.dumps(exchange.json).encode())
        got = []
        async with Player(recording[0]).open(request, Deadlines()) as response:
            assert await response.pour(got.append) is True  # None is not True: enough
            assert await response.pour(lambda chunk: got.append(chunk) or True) is False
        assert got == list(exchange.reply.chunks)

    asyncio.run(run())


def test_a_call_that_is_not_chat_is_recorded_too_and_tells_of_its_response(tmp_path):
    path = tmp_path / "vectors.json"
    body = b'{"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]}'
    told = []
    telemetry.attach("vectors", told.append, "allm.adapter.response")

    def vectors(transport, url, **key):
        opts = {"base_url": url, "transport": transport}
        asked = allm.Engine(embed_adapter="openai:text-embedding-3-small", adapter_opts=opts)
        return allm.embed(asked, ["a cat"], request_id="r1", **key).embeddings

    try:
        with LoopbackServer([Reply(body=body, headers={"x-ratelimit-remaining-requests": "7"})]) as server:
            live = vectors(Recorder(path), f"{server.url}/v1", api_key=KEY)
    finally:
        telemetry.detach("vectors")
    assert vectors(Player(path), "http://nobody.invalid/v1") == live
    (event,) = told
    assert event.metadata["rate_limits"] == {"requests": {"remaining": 7.0}}
    assert (event.metadata["provider"], event.metadata["status"]) == ("openai", 200)
