"""Laws of a conversation with tools that goes back: the calls, what was said beside them, and their answers.

Rule of this file: an answer is sent back whole, with the next question. What a format has no place for is refused, and
never left out: a model that does not find its own words there says them again.
"""

from __future__ import annotations

import re

from allm_actors.data import Message, Part, TextPart

from .requests import CALLS, FORECAST, question, whole_answer
from .scenes import Scene, says, skip
from .wishes import WishLaws

__all__ = ["HistoryLaws"]

_SAID, _ANSWER = "I will ask the weather.", "Sunny, 21 degrees."


class HistoryLaws(WishLaws):
    """The laws of conversations with tools; a part of `AdapterSuite`."""

    def test_a_tools_answer_is_sent_back(self) -> None:
        """With the call that it answers."""
        self.finds(_talk(), ["Lisbon", _ANSWER], "the tool's call and its answer", tools=[FORECAST])

    def test_the_text_beside_a_call_is_sent_back(self) -> None:
        """What the assistant said before it called."""
        self.finds(_talk(said=_SAID), ["Lisbon", _SAID], "the text beside a call", tools=[FORECAST])

    def test_parts_of_a_tools_answer_are_sent_or_refused(self) -> None:
        """Its content may be a list of parts, as that of every message."""
        texts = ["Sunny in the morning,", "and rain at night."]
        answer: list[Part] = [TextPart(text=text) for text in texts]
        self.finds(_talk(answer=answer), texts, "TextParts of a tool's answer", tools=[FORECAST])

    def test_an_empty_answer_of_a_tool_is_sent_back(self) -> None:
        """A tool that had nothing to say has answered: a call that has no answer is refused, or made again."""
        full, empty = (
            self.finds(_talk(answer=said), [], "the tool's answer", tools=[FORECAST])
            for said in (_ANSWER, "")
        )
        named = [[sent.count(word) for word in (CALLS[0].id, CALLS[0].name)] for sent in (full, empty)]
        assert named[0] == named[1], (
            'a tool\'s answer was left out because its content is "": send it, with an empty text'
        )

    def test_the_arguments_of_a_call_are_not_sent_as_python_writes_them(self) -> None:
        """`{'city': 'Lisbon'}` is no JSON, JSON of JSON no object: a provider refuses it, or a model learns it."""
        asked = Message(role="user", content='How is the "weather"?')
        sent = self.finds([asked, *_talk()[1:]], ["Lisbon"], "the tool's call", tools=[FORECAST])
        by_python = says(sent, "'city'") and not says(sent, "'properties'")  # else all of `sent` is so
        assert not by_python, (
            "a call's arguments were sent as str(call.arguments): send call.arguments themselves, or, where the format "
            "wants a text, json.dumps(call.arguments)"
        )
        escaped = [
            max(map(len, re.findall(rf'(\\*)"{word}', sent)), default=0) for word in ("weather", "Lisbon")
        ]
        assert escaped[1] <= escaped[0], (
            "a call's arguments were sent as JSON that is JSON once more: a format that wants a text wants "
            "json.dumps(call.arguments), and not that of a text"
        )

    def test_a_calls_id_goes_back_with_its_answer(self) -> None:
        """Where the provider's calls have ids: answers that come in another order are told apart by nothing else."""
        scene = Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls")
        with self.stage(scene) as stage:
            response = whole_answer(stage, scene, [question()], "tool_calls", tools=[FORECAST])
            ids = [call.id for call in response.tool_calls]
            calling = Message(
                role="assistant", content=response.text() or "", metadata={"tool_calls": response.tool_calls}
            )
            answers = [Message(role="tool", content="Sunny.", tool_call_id=call_id) for call_id in ids]
            said = [question(), calling, *answers[::-1]]
            again = whole_answer(stage, scene, said, "tool_calls", tools=[FORECAST])
            if ids != [call.id for call in CALLS]:
                same = [call.id for call in again.tool_calls if call.id in ids]
                assert not same, (
                    f"the adapter has given the ids {same} to calls of two answers of one conversation, and an "
                    "approval of the earlier call would be one of the later, too: give each call an id of its own, "
                    "such as uuid4()"
                )
                skip(
                    f"the ids of scene.tool_calls became {ids}: the calls of this provider have no ids, which "
                    "is allowed"
                )
            sent = stage.last_sent()
        lost = [call_id for call_id in ids if sent.count(call_id) < 2]
        assert not lost, (
            f"the calls {lost} were answered, but call and answer were not both sent with the id: send the id "
            "of each call, and the tool_call_id of each tool's message"
        )


def _talk(*, said: str = "", answer: str | list[Part] = _ANSWER) -> list[Message]:
    """A question, a call, and what the tool said to it."""
    call = CALLS[0]
    return [
        question(),
        Message(role="assistant", content=said, metadata={"tool_calls": [call]}),
        Message(role="tool", content=answer, tool_call_id=call.id),
    ]
