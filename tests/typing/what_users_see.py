"""What a type checker knows of a user's program: `mypy` reads this, and nobody runs it.

Each `assert_type` is a promise. Each `type: ignore` is a mistake that a checker finds; it complains when one is not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Unpack, assert_never, assert_type

import allm_actors as allm
from allm_actors import Textdelta  # type: ignore[attr-defined]  # noqa: F401
from allm_actors.testing import Players  # type: ignore[attr-defined]  # noqa: F401


@dataclass
class Cat:
    """What the model is to answer with."""

    name: str


def of_a_stream(engine: allm.Engine, said: list[allm.Message]) -> None:
    """What a stream's events and results are."""
    assert_type(allm.stream_generate(engine, said).result(), allm.Response)
    assert_type(allm.stream_step(engine, said).result(), allm.StepResult)
    stream = allm.stream(engine, said)
    assert_type(stream, allm.EventStream[allm.ChatResult])
    for event in stream:
        assert_type(event, allm.Event)
        if event.tag == "text_delta":
            assert_type(event, allm.TextDelta)
    for cat in stream.partials(Cat):
        assert_type(cat, Cat)
    for cat in allm.partials(stream, Cat):
        assert_type(cat, Cat)
    stream.result().nope()  # type: ignore[attr-defined]


async def of_an_awaited_stream(engine: allm.Engine, said: list[allm.Message]) -> None:
    """The same on an event loop."""
    assert_type(await allm.aio.stream(engine, said), allm.ChatResult)
    async with allm.aio.stream_step(engine, said) as stream:
        async for event in stream:
            assert_type(event, allm.Event)
        assert_type(await stream, allm.StepResult)


def of_a_stream_of_any_call(stream: allm.EventStream, turn: allm.Turn) -> None:
    """Without parameters it is a stream of chat events, which any of them is."""
    for event in stream:
        assert_type(event, allm.Event)
    of_a_stream_of_any_call(turn, turn)


def of_what_is_not_chat(engine: allm.Engine, clip: allm.Audio) -> None:
    """A clip and a transcript have events of their own, and a checker knows when all of them were looked at."""
    with allm.stream_synthesize(engine, "Good morning.") as stream:
        for event in stream:
            match event:
                case allm.SpeechStarted() | allm.SpeechCompleted() | allm.ErrorEvent():
                    pass
                case allm.AudioDelta(data=piece):
                    assert_type(piece, bytes)
                case _:
                    assert_never(event)
        assert_type(stream.result(), allm.SpeechResponse)
    assert_type(allm.stream_transcribe(engine, clip).result(), allm.TranscriptionResponse)


def of_a_session(host: allm.Host, engine: allm.Engine, session: allm.Session) -> None:
    """The turns of a host's session, and of a session that is a value."""
    handle = host.session("a", engine)
    assert_type(handle, allm.SessionHandle)
    assert_type(handle.reply("Hi"), allm.Turn[allm.ChatResult])
    assert_type(handle.step().result(), allm.StepResult)
    assert_type(
        allm.session.stream_reply(engine, session, "Hi").finish(), tuple[allm.Session, allm.ChatResult]
    )
    reducer = allm.session.StreamReducer(session)
    for event in allm.session.stream_reply(engine, session, "Hi"):
        reducer.apply(event)
    assert_type(reducer.finish(), tuple[allm.Session, allm.ChatResult])
    stepped = allm.session.StreamReducer(session, "step")
    assert_type(stepped.finish(), tuple[allm.Session, allm.ChatResult | allm.StepResult])


def of_what_waits_on_a_thread(host: allm.Host, handle: allm.SessionHandle) -> None:
    """A host that was entered with `with`: its calls wait."""
    assert_type(host.session_ids(), list[str])
    assert_type(host.stored_sessions(), list[allm.StoredSession])
    assert_type(handle.submit_tool_result("c0", "yes"), allm.Session)
    assert_type(handle.recover(), allm.Session)
    assert_type(handle.replace_messages(handle.messages[:-1]), allm.Session)
    assert_type(handle.fork("b"), allm.SessionHandle)
    assert_type(handle.stop(), bool)


async def of_what_is_awaited_on_an_event_loop(engine: allm.Engine) -> None:
    """A host that was entered with `async with`: the same calls give awaitables."""
    async with allm.Host() as host:
        assert_type(host, allm.AsyncHost)
        handle = await host.session("a", engine)
        assert_type(handle, allm.AsyncSessionHandle)
        assert_type(await handle.reply("Hi"), allm.ChatResult)
        assert_type(await host.session_ids(), list[str])
        assert_type(await host.stored_sessions(), list[allm.StoredSession])
        assert_type(await handle.submit_tool_result("c0", "yes"), allm.Session)
        assert_type(await handle.recover(), allm.Session)
        assert_type(await handle.replace_messages(handle.messages[:-1]), allm.Session)
        assert_type(await handle.fork("b"), allm.AsyncSessionHandle)
        assert_type(await handle.stop(), bool)
        await host.delete_session("a")
        of_what_waits_on_a_thread(host, handle)


async def of_session_values_on_an_event_loop(engine: allm.Engine, session: allm.Session) -> None:
    """What asks a model is awaited; what asks none is not."""
    assert_type(await allm.aio.session.start(engine, session), tuple[allm.Session, allm.ChatResult])
    assert_type(await allm.aio.session.reply(engine, session, "Hi"), tuple[allm.Session, allm.ChatResult])
    assert_type(await allm.aio.session.continue_(engine, session), tuple[allm.Session, allm.ChatResult])
    assert_type(await allm.aio.session.step(engine, session), tuple[allm.Session, allm.StepResult])
    assert_type(allm.aio.session.submit_tool_result(session, "c0", "yes"), allm.Session)
    assert_type(allm.aio.session.submit_tool_results(session, [("c0", "yes")]), allm.Session)
    assert_type(allm.aio.session.recover(session), allm.Session)
    assert_type(allm.aio.session.replace_messages(session, []), allm.Session)
    stream = allm.aio.session.stream_reply(engine, session, "Hi")
    assert_type(await stream.afinish(), tuple[allm.Session, allm.ChatResult])


def of_messages(pictures: list[allm.ImagePart], mixed: list[allm.TextPart | allm.ImagePart]) -> None:
    """Parts may come in a list of their own kind, or of several, also one that is written where it is used."""
    allm.user(pictures)
    allm.user([*mixed, *pictures])
    allm.user([allm.TextPart(text="What is this?"), pictures[0]])
    allm.user([allm.TextPart(text="What is this?")])
    allm.user(3)  # type: ignore[call-overload]


class Counting:
    """A tool executor, as the guide writes one."""

    def execute(self, tool: allm.Tool, arguments: dict[str, object], context: allm.ToolContext) -> object:
        """Whatever the tool says."""
        return tool.run(arguments, context)


class Averages:
    """An adapter for embeddings, and for speech that is streamed: one slot takes either kind of the latter."""

    async def embed(self, request: allm.EmbeddingRequest, call: allm.Call) -> allm.EmbeddingResponse:
        """No vectors."""
        return allm.EmbeddingResponse(embeddings=[])

    def max_batch_size(self) -> int:
        """Any number."""
        return len(repr(self))

    def stream_synthesize(self, request: allm.SpeechRequest, call: allm.Call) -> Iterator[allm.SpeechEvent]:
        """No clip."""
        return iter(())


def of_an_engine() -> None:
    """What it takes."""
    engine = allm.Engine("fake", tool_executor=Counting())
    allm.chatt(engine)  # type: ignore[attr-defined]
    engine.merge(model="m", embed_adapter="openai")
    allm.Engine("fake", embed_adapter=Averages(), speech_adapter=Averages())
    allm.Engine("fake", embed_adapter=5)  # type: ignore[arg-type]
    engine.merge(image_adapter=Averages())  # type: ignore[arg-type]
    engine.merge(modle="m")  # type: ignore[call-arg]
    allm.Engine("openai", modle="m")  # type: ignore[call-arg]
    allm.Engine("openai", api_key="sk-1")  # type: ignore[call-arg]
    allm.Host(dispatcher="fibres")  # type: ignore[arg-type]


def asked(engine: allm.Engine, **options: Unpack[allm.ChatOptions]) -> allm.ChatResult:
    """A function of the user's that passes options on."""
    return allm.chat(engine, [allm.user("Hi")], **options)


def of_options(
    engine: allm.Engine, handle: allm.SessionHandle, picture: allm.Image, some: dict[str, Any]
) -> None:
    """Every call knows its options."""
    said = [allm.user("Hi")]
    allm.chat(engine, said, tools=(), retry=False, on_event=print, api_key=lambda: "k", response_model=Cat)
    allm.chat(
        engine, said, on_tool_error=lambda call, error: "halt", halt_when=lambda step: not step.response
    )
    allm.chat(engine, said, reasoning_effort="low", stream_timeout=None)
    allm.generate(engine, allm.request("Hi", model=allm.ModelRef(id="m")), tool_choice=("tool", "t"), **some)
    allm.generate_image(engine, "a cat", size="auto", input_images=[picture])
    allm.synthesize(engine, "Hi", format="mp3", options={"seed": 1})
    asked(engine, max_turns=3)
    kept: allm.ChatOptions = {"max_turns": 3, "temperature": 0.5}
    handle.reply("Hi", **kept)
    allm.chat(engine, said, temprature=1)  # type: ignore[call-arg]
    allm.chat(engine, said, max_turns="3")  # type: ignore[arg-type]
    allm.chat(engine, said, mode="automatic")  # type: ignore[arg-type]
    allm.chat(engine, said, on_tool_error="stop")  # type: ignore[arg-type]
    allm.chat(engine, said, tools=["t"])  # type: ignore[list-item]
    allm.session.reply(engine, handle.value, "Hi", max_turn=3)  # type: ignore[call-arg]
    handle.step(max_turn=3)  # type: ignore[call-arg]
    allm.embed(engine, "Hi", dimension=3)  # type: ignore[call-arg]
    allm.edit_image(engine, picture, "a hat", operation="edit")  # type: ignore[call-arg]
    allm.request("Hi", temprature=1)  # type: ignore[call-arg]
    allm.image_request("a cat", num=2)  # type: ignore[call-arg]
    assert handle.status != "idel"  # type: ignore[comparison-overlap]
