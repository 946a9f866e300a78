"""Laws of one answer: the provider's answer comes back, and its failures become the library's errors.

Rule of this file: a failure may be raised by the call or be in the response; either way it is an `AdapterError` with
the right reason, and nothing else is ever raised.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from allm_actors.data import AdapterError, Message, ToolCall, Usage
from allm_actors.facade import generate, step

from .histories import HistoryLaws
from .requests import (
    CALLS,
    FORECAST,
    TIDES,
    answer_with_tools,
    is_whole,
    may_refuse,
    question,
    raise_refusal,
)
from .scenes import (
    QUESTION,
    REQUEST_ID,
    SPECIAL,
    Scene,
    Stage,
    because_of,
    on_stage,
    require,
    skip,
    skip_unless_played,
    worth_a_retry,
)

__all__ = ["AdapterSuite"]

_PRIVATE = "The parrot is buried under the lighthouse."


class AdapterSuite(HistoryLaws):
    """Subclass it, and implement `stage`; without `requests` and `sent` in the `Stage`, some laws are skipped."""

    patience: float = 0.3
    """The `request_timeout` of the laws about time, in seconds; raise it if your provider needs longer to start."""

    def test_an_answer_comes_back(self) -> None:
        """The text, a way it ended, and an assistant's message."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            response = generate(stage.engine, [question()])
        is_whole(scene, response)
        text = "".join(scene.text)
        assert response.text() == text, f"the provider said {text!r}, but {response.text()!r} came back"
        assert response.tool_calls == [], f"the provider made no call, but {response.tool_calls} came back"

    def test_a_text_comes_back_to_its_last_letter(self) -> None:
        """Other letters than ASCII's, and line ends, also where a piece ends between them."""
        scene = Scene(kind="answers", text=SPECIAL)
        with self.stage(scene) as stage:
            response = generate(stage.engine, [question()])
        text, said, error = "".join(SPECIAL), response.text(), response.metadata.get("error")
        message = (
            f"the provider said {text!r}, but {said!r} came back{because_of(error)}: decode no bytes before their line "
            "is complete, and split lines only where the format does; splitlines(), and aiter_lines() of httpx, also "
            r"split at \u2028, \u2029 and \x85"
        )
        require(said == text, scene, "text", message)
        is_whole(scene, response)

    def test_a_long_piece_of_text_comes_back(self) -> None:
        """The lines of an answer have no greatest length: what asyncio's `readline` reads ends at 64 KiB."""
        scene = Scene(kind="answers", text=("long " * 14_000, "text"))
        with self.stage(scene) as stage:
            response = generate(stage.engine, [question()])
        text, said, error = "".join(scene.text), response.text() or "", response.metadata.get("error")
        assert said == text, (
            f"the provider said a piece of {len(scene.text[0]):,} letters, but of {len(text):,} in all {len(said):,} "
            f"came back{because_of(error)}: read lines without a limit of their length, or with one of some MiB"
        )
        is_whole(scene, response)

    def test_an_answer_that_was_cut_off_says_so(self) -> None:
        """`length`: whoever reads half an answer must know that it is half."""
        scene = Scene(kind="answers", finish_reason="length")
        with self.stage(scene) as stage:
            response = generate(stage.engine, [question()])
        said, error = response.finish_reason, response.metadata.get("error")
        message = (
            f"the answer was cut off, but MessageCompleted.finish_reason is {said!r}{because_of(error)}: make it "
            "'length', which is no error"
        )
        require((said, error) == ("length", None), scene, "finish_reason", message)

    def test_an_answer_that_a_policy_ended_says_so(self) -> None:
        """`content_filter`, as its finish reason or as its error: it is not what the model had to say."""
        scene = Scene(kind="answers", finish_reason="content_filter")
        with self.stage(scene) as stage:
            try:
                response = generate(stage.engine, [question()])
            except AdapterError as raised:
                said: Any = raised.reason
            else:
                error = response.metadata.get("error")
                said = response.finish_reason if error is None else error.reason
        message = (
            f"the provider's policy ended the answer, but it ended with {said!r}: make it 'content_filter'"
        )
        require(said == "content_filter", scene, "finish_reason", message)

    def test_tool_calls_come_back(self) -> None:
        """All of them, in order, with their arguments and ids of their own."""
        self.makes_calls(Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls"))

    def test_tool_calls_without_a_text_come_back(self) -> None:
        """A model that calls says mostly nothing beside it."""
        self.makes_calls(Scene(kind="answers", text=(), tool_calls=CALLS, finish_reason="tool_calls"))

    def test_calls_of_an_answer_that_was_cut_off_run_no_tool(self) -> None:
        """`length`, also with calls: the last of them may lack a part, or the calls that belong to it."""
        scene = Scene(kind="answers", tool_calls=CALLS, finish_reason="length")
        ran: list[Any] = []
        tool = msgspec.structs.replace(FORECAST, handler=ran.append)
        with self.stage(scene) as stage, may_refuse(stage, "tools"):
            response = step(stage.engine, [question()], tools=[tool]).response
            assert response is not None
            raise_refusal(response.metadata.get("error"))
        said, error = response.finish_reason, response.metadata.get("error")
        message = (
            f"the answer was cut off after its calls, but it ended with {said!r}{because_of(error)}, and the tool was "
            f"run with {ran}: make it 'length', as the provider says; only the calls of 'tool_calls' are run"
        )
        require((said, error, ran) == ("length", None, []), scene, "finish_reason", message)

    def makes_calls(self, scene: Scene) -> None:
        """Check that the calls of a scene come back, and its text, and nothing else."""
        with on_stage(self.stage(scene), scene) as stage:
            response = answer_with_tools(stage, [question()], tools=[FORECAST])
        calls = [(call.name, call.arguments) for call in response.tool_calls]
        made = [(call.name, call.arguments) for call in CALLS]
        why = because_of(response.metadata.get("error"))
        message = f"the provider made the calls {made}, but {calls} came back{why}: yield a ToolCallCompleted for each"
        require(calls == made, scene, "tool_calls", message)
        for call in response.tool_calls:
            assert _says_its_arguments(call), (
                f"raw_arguments is {call.raw_arguments!r}, but arguments is {call.arguments}: raw_arguments "
                "must be the text of arguments, or empty"
            )
        ids = {call.id for call in response.tool_calls if call.id}
        assert len(ids) == len(CALLS), f"{len(CALLS)} calls need different ids, but these have {ids}"
        text, said = "".join(scene.text), response.text() or ""
        assert said == text, f"the provider said {text!r} beside its calls, but {said!r} came back"
        is_whole(scene, response, "tool_calls")

    def test_a_call_without_arguments_comes_back(self) -> None:
        """With `{}` for them, also where the provider says nothing of arguments that are none."""
        made = ToolCall(id="call_tides", name=TIDES.name, arguments={})
        scene = Scene(kind="answers", tool_calls=(made,), finish_reason="tool_calls")
        with self.stage(scene) as stage:
            response = answer_with_tools(stage, [question()], tools=[TIDES])
        error = response.metadata.get("error")
        calls = [(call.name, call.arguments) for call in response.tool_calls]
        message = (
            f"{made.name} was called without arguments, but {calls} came back{because_of(error)}: arguments without a "
            "text are {}"
        )
        require(calls == [(made.name, {})] and error is None, scene, "tool_calls", message)
        is_whole(scene, response, "tool_calls")

    def test_a_call_with_broken_arguments_runs_no_tool(self) -> None:
        """They were cut off, or misspelt: the model must hear of it, and the tool must not run without them."""
        self.runs_no_tool('{"harbour": "Lis')

    def test_a_call_whose_arguments_are_no_object_runs_no_tool(self) -> None:
        """They are JSON, but no tool can take them."""
        self.runs_no_tool('["Lisbon"]')

    def test_what_it_used_comes_back(self) -> None:
        """Tokens in and tokens out."""
        for used in ((21, 13), (8, 0)):
            scene = Scene(kind="answers", usage=Usage(input_tokens=used[0], output_tokens=used[1]))
            with self.stage(scene) as stage:
                response = generate(stage.engine, [question()])
            told = (response.usage.input_tokens, response.usage.output_tokens)
            message = (
                f"{used[0]} input and {used[1]} output tokens became {told}: yield "
                'RawChunk(("usage", Usage(…))) before the end of the message, and check with `is not None`, because '
                "zero counts as false"
            )
            require(told == used, scene, "usage", message)
            is_whole(scene, response)

    def test_authentication_failed(self) -> None:
        """A key that is not accepted, HTTP 401."""
        self.fails("authentication_failed")

    def test_rate_limited(self) -> None:
        """Too many calls, HTTP 429; how long to wait is kept."""
        error = self.fails("rate_limited", retry_after_ms=500)
        assert error.retry_after_ms == 500, (
            f"the provider asked to wait 500 ms: give retry_after_ms=500 to {error!r}"
        )

    def test_timeout(self) -> None:
        """A provider that does not begin."""
        self.fails("timeout", request_timeout=self.patience)

    def test_network_error(self) -> None:
        """A connection that breaks."""
        self.fails("network_error")

    def test_invalid_request(self) -> None:
        """A request that the provider does not understand, HTTP 400."""
        self.fails("invalid_request")

    def test_context_length_exceeded(self) -> None:
        """A conversation that is too long for the model."""
        self.fails("context_length_exceeded")

    def test_content_filter(self) -> None:
        """What the provider's policy refuses."""
        self.fails("content_filter")

    def test_provider_unavailable(self) -> None:
        """A provider in trouble, HTTP 503."""
        self.fails("provider_unavailable")

    def test_malformed_response(self) -> None:
        """An answer that makes no sense."""
        self.fails("malformed_response")

    def test_unsupported_feature(self) -> None:
        """What this provider cannot do."""
        self.fails("unsupported_feature")

    def test_the_request_id_is_on_the_error(self) -> None:
        """The call's own, so that a log line finds its call."""
        found = self.fails("provider_unavailable", request_id=REQUEST_ID).request_id
        assert found == REQUEST_ID, (
            f"the error has the request id {found!r}: give it request_id=call.request_id"
        )

    def test_the_provider_is_on_the_error(self) -> None:
        """Its name, so that a log line, or a caller of several, knows whose failure it is."""
        error = self.fails("provider_unavailable")
        assert error.provider, f"{error!r} has no provider: give it provider=self.name"

    def test_what_a_gateway_says_is_its_status(self) -> None:
        """A page of HTML from before the provider: what it says can be read by nobody, but it is worth a retry."""
        scene = Scene(kind="refuses", reason="provider_unavailable", gateway=True)
        with self.stage(scene) as stage:
            try:
                error: Any = generate(stage.engine.merge(retry=False), [question()]).metadata.get("error")
            except AdapterError as raised:
                error = raised
        message = (
            f"a gateway refused with status {scene.status} and a page of HTML, but the error is {error!r}, which is "
            "not retried: read the words of a refusal with tolerance, and give the error status=… in any case"
        )
        held = isinstance(error, AdapterError) and worth_a_retry(error)
        require(held, scene, "gateway", message)

    def test_the_key_is_not_in_an_error_of_the_provider(self) -> None:
        """Errors are logged and stored: neither the provider's words nor the adapter's may have it."""
        self.hides_the_key("authentication_failed")

    def test_the_key_is_not_in_an_error_of_the_network(self) -> None:
        """Whose words may have a URL or the headers."""
        self.hides_the_key("network_error")

    def test_a_request_timeout_is_accepted(self) -> None:
        """And does not hurt a call that is quick."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            is_whole(scene, generate(stage.engine, [question()], request_timeout=30.0))

    def runs_no_tool(self, raw: str) -> None:
        """Check that a call with this text for arguments comes back, runs nothing, and is answered with an error."""
        made = ToolCall(id="call_tides", name=TIDES.name, arguments={})
        scene = Scene(kind="answers", tool_calls=(made,), raw_arguments=raw, finish_reason="tool_calls")
        ran: list[Any] = []
        tool = msgspec.structs.replace(TIDES, handler=ran.append)
        with self.stage(scene) as stage, may_refuse(stage, "tools"):
            result = step(stage.engine, [question()], tools=[tool])
            response = result.response
            assert response is not None
            raise_refusal(response.metadata.get("error"))
        skip_unless_played(scene, "raw_arguments")
        calls, error = [call.name for call in response.tool_calls], response.metadata.get("error")
        told = [str(message.content) for message in result.tool_results]
        message = (
            f"the model wrote {raw!r} as the arguments of {made.name}, which is no JSON object, but the calls {calls} "
            f"came back{because_of(error)}, the tool was run with {ran}, and the model was told {told}: read the text "
            "with `arguments, metadata = allm.read_arguments(text)`, and yield ToolCallCompleted(id, name, arguments, "
            "text, metadata): such a call is not run, and the model hears why"
        )
        refused = ['"error"' in each for each in told] == [True]
        assert calls == [made.name] and error is None and not ran and refused, message  # noqa: PT018 - one law
        is_whole(scene, response, "tool_calls")

    def hides_the_key(self, reason: str) -> None:
        """Check that no part of an error contains the key."""
        scene = Scene(kind="refuses", reason=reason)
        with self.stage(scene) as stage:
            if stage.key is None:
                skip(
                    "give Stage(key=…): the key that your adapter uses, as a text, to check that no error "
                    "contains it"
                )
            error = _error_of(scene, stage, _PRIVATE)
        said = (repr(error), str(error), error.message, repr(error.metadata), repr(error.cause))
        assert not any(stage.key in each for each in said), (
            f"{scene}: the key is in the error {said}: an error must contain neither a key nor a body"
        )
        assert not any(_PRIVATE in each for each in said), (
            f"{scene}: what was asked is in the error {said}: an error must contain neither a key nor a body"
        )

    def fails(
        self,
        reason: str,
        *,
        retry_after_ms: int | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> AdapterError:
        """The error that a call ends with, after checking its reason."""
        scene = Scene(kind="refuses", reason=reason, retry_after_ms=retry_after_ms, request_id=request_id)
        options = options if request_id is None else {**options, "request_id": request_id}
        with self.stage(scene) as stage:
            return _error_of(scene, stage, **options)


def _error_of(scene: Scene, stage: Stage, asked: str = QUESTION, **options: Any) -> AdapterError:
    """The error of a call without retries, after checking that it is the scene's."""
    messages = [Message(role="user", content=asked)]
    try:
        response = generate(stage.engine.merge(retry=False), messages, **options)
    except AdapterError as raised:
        error: Any = raised
    else:
        assert response.finish_reason == "error", f"{scene}: it ended with {response.finish_reason!r}"
        error = response.metadata.get("error")
    assert isinstance(error, AdapterError), f"{scene}: it failed with {error!r}"
    assert error.reason == scene.reason, f"{scene}: it failed with {error!r}"
    assert error.message, f"{scene}: its error has no message"
    return error


def _says_its_arguments(call: ToolCall) -> bool:
    """Whether `raw_arguments` is the text of `arguments`, or empty."""
    try:
        return not call.raw_arguments or bool(json.loads(call.raw_arguments) == call.arguments)
    except ValueError:
        return False
