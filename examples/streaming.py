"""Text as it is written, over real HTTP: a loopback server plays the provider, and waits until we have seen a word."""

import allm_actors as allm
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply

words = chat_completions(text="One word after the other.")
gate = Gate()
reply = Reply(
    chunks=[*words[:2], gate, *words[2:]]
)  # after the first word, nothing comes until the gate is open

with LoopbackServer([reply]) as server:
    engine = allm.Engine(adapter="openai-compatible:any-model", adapter_opts={"base_url": f"{server.url}/v1"})
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

assert seen == ["One ", "word ", "after ", "the ", "other."]
assert stream.result().final_response.text() == "One word after the other."
