"""An adapter of your own: a name, a stream of events, and an answer about structured output.

This one needs no provider: it is the program of 1966 that answered with what it had heard. It runs like any other:
streamed, supervised and stored.
"""

import re
from collections.abc import Iterator

import allm_actors as allm

MIRROR = {"i": "you", "my": "your", "am": "are", "me": "you"}


class Eliza:
    """Answers a statement with a question."""

    name = "eliza"

    def stream(self, request: allm.Request, call: allm.Call) -> Iterator[allm.Event]:
        """One answer, word by word. What cannot be asked is refused here, before anything happens."""
        content = request.messages[-1].content
        if not isinstance(content, str):
            raise allm.ValidationError("invalid_request", [("messages", "text_only")])
        return self._speak(content)

    def requires_structured_finalize(self, request: allm.Request) -> bool:
        """Never."""
        return False

    def _speak(self, said: str) -> Iterator[allm.Event]:
        yield allm.MessageStarted()
        words = [MIRROR.get(word.lower(), word) for word in re.findall(r"\w+", said)]
        text = f"Why do you say that {' '.join(words)}?"
        for piece in re.findall(r"\S+\s*", text):
            yield allm.TextDelta(piece)
        yield allm.TextCompleted(text)
        yield allm.MessageCompleted(allm.assistant(text), "stop")


with allm.Host() as host:
    session = host.session("couch", allm.Engine(adapter=Eliza()))
    for event in session.reply("I am sad about my cat."):
        if isinstance(event, allm.TextDelta):
            print(event.delta, end="", flush=True)
    print()
    assert session.messages[-1].content == "Why do you say that you are sad about your cat?"

response = allm.generate(allm.Engine(adapter=Eliza()), [allm.user("It rains")])
assert response.text() == "Why do you say that It rains?"
