"""Text as it is written, over real HTTP: a loopback server plays the provider, and waits until we have seen a word."""

import allm_actors as allm
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply
from provider import MODEL, said

first, *others = chat_completions(text="One word after the other.")[1:]
gate = Gate()
reply = Reply(chunks=[first, gate, *others])  # after the first word, nothing comes until the gate is open

with LoopbackServer([reply]) as server:
    loopback = {"base_url": f"{server.url}/v1"}
    engine = allm.Engine(
        adapter=MODEL or "openai-compatible:any-model", adapter_opts={} if MODEL else loopback
    )
    seen = []
    with allm.stream(engine, [allm.user("Say something.")]) as stream:
        for event in stream:
            match event:
                case allm.TextDelta(delta=delta):
                    seen.append(delta)
                    print(delta, end="", flush=True)
                    gate.open()
                case allm.ChatCompleted(result=result):
                    print(f"\n({result.halted_reason})")

assert stream.result().text() == "".join(seen)
said("|".join(seen), "One |word |after |the |other.")
