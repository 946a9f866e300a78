"""Each mistake that is planted in an adapter makes a law fail, with words that say what is wrong."""

import contextvars
import itertools
import json
import re
import threading
from contextlib import contextmanager
from unittest import SkipTest

import msgspec
import pytest

from allm_actors.testing.conformance import AdapterSuite, Scene, Stage, StreamSuite
from allm_actors.testing.conformance.histories import HistoryLaws
from allm_actors.testing.conformance.requests import RequestLaws
from allm_actors.testing.conformance.wishes import WishLaws
from tests.conformance import planted


class TestRightAdapter(planted.OnStage, AdapterSuite):
    pass


class TestRightStream(planted.OnStage, StreamSuite):
    pass


A, S = AdapterSuite, StreamSuite
TABLE = [
    (planted.AsksFiveTimes, A, "test_without_retries_it_asks_once", "retry=False"),
    (planted.AsksFiveTimes, A, "test_it_asks_as_often_as_the_policy_says", "requests: 5"),
    (planted.AsksFiveTimes, A, "test_a_refused_key_is_not_tried_again", "a key that was refused"),
    (planted.AsksOnceMore, A, "test_without_retries_it_asks_once", "requests: 2"),
    (planted.AsksTwice, A, "test_it_asks_as_often_as_the_policy_says", "requests: 2"),
    (planted.TriesRefusedKeysAgain, A, "test_a_refused_key_is_not_tried_again", "do not ask again"),
    (planted.NeverTriesAgain, A, "test_it_asks_as_often_as_the_policy_says", "requests: 1"),
    (planted.CountsAttemptsOfAllCalls, A, "test_it_asks_as_often_as_the_policy_says", "of the second call"),
    (planted.SendsNothingTheSecondTime, A, "test_every_attempt_is_the_whole_request", "with its body"),
    (planted.TakesItsOwnKeyTheSecondTime, A, "test_every_attempt_is_the_whole_request", "of its attempts"),
    (planted.ComesBackTooEarly, A, "test_it_waits_as_long_as_the_provider_asks", "to wait 300 ms"),
    (planted.TriesAgainAfterText, S, "test_nothing_is_asked_again_after_the_first_event", "more than once"),
    (planted.HidesThatItTriesAgain, S, "test_nothing_is_asked_again_after_the_first_event", "requests: 3"),
    (planted.AsksWithItsOwnKey, A, "test_the_key_of_the_call_is_sent", "another key arrived"),
    (planted.KeepsTheFirstKey, A, "test_the_key_of_the_call_is_sent", "keep no client that holds a key"),
    (planted.DropsTheModel, A, "test_the_model_is_sent", "leaves out request.model"),
    (planted.SendsNoneForTheModel, A, "test_the_model_is_sent", "names no model"),
    (planted.DropsTools, A, "test_tools_are_sent_or_refused", "leaves out request.tools"),
    (planted.DropsHistory, A, "test_the_whole_conversation_is_sent", "In the lighthouse"),
    (planted.DropsTheSystem, A, "test_the_whole_conversation_is_sent", "Answer like a pirate"),
    (planted.KeepsOneSystemMessage, A, "test_every_system_message_is_sent", "Answer like a pirate"),
    (
        planted.SendsItBackwards,
        A,
        "test_the_whole_conversation_is_sent",
        "not sent in the order of request.messages",
    ),
    (planted.DropsToolAnswers, A, "test_a_tools_answer_is_sent_back", "Sunny"),
    (planted.DropsCallsOfHistory, A, "test_a_tools_answer_is_sent_back", "Lisbon"),
    (planted.LosesLetters, A, "test_a_text_is_sent_to_its_last_letter", "leaves out letters"),
    (planted.LosesLineEnds, A, "test_a_text_is_sent_to_its_last_letter", "leaves out letters"),
    (planted.DropsParts, A, "test_parts_of_text_are_sent_or_refused", "leaves out TextParts"),
    (planted.DropsPartsOfTheSystem, A, "test_parts_of_text_are_sent_or_refused", "Speak like a pirate"),
    (planted.DropsPartsOfTheAssistant, A, "test_parts_of_text_are_sent_or_refused", "The tide is high"),
    (planted.SendsPartsBackwards, A, "test_parts_of_text_are_sent_or_refused", "in the order of its content"),
    (planted.DropsPictures, A, "test_a_picture_is_sent_or_refused", "the bytes of the messages' ImagePart"),
    (planted.SendsOnePicture, A, "test_every_picture_of_a_conversation_is_sent_or_refused", "of 3 only 2"),
    (
        planted.SendsPicturesOfTheLastMessage,
        A,
        "test_every_picture_of_a_conversation_is_sent_or_refused",
        "of 3 only 1",
    ),
    (planted.DropsPicturesAtUrls, A, "test_a_picture_at_a_url_is_sent_or_refused", "neither the URL"),
    (planted.TakesAllForPng, A, "test_a_document_is_sent_or_refused", "all of it is application/pdf"),
    (planted.SendsTheLastOfOneSpeaker, A, "test_the_whole_conversation_is_sent", "And who feeds it"),
    (planted.SendsTwoTools, A, "test_tools_are_sent_or_refused", "route"),
    (planted.FlattensSchemas, A, "test_tools_are_sent_or_refused", "starlight"),
    (planted.FlattensForms, A, "test_the_form_of_the_answer_is_sent_or_refused", "plumage"),
    (
        planted.ForcesTheFirstTool,
        A,
        "test_a_tool_that_must_be_called_is_sent_or_refused",
        "not the one that is named",
    ),
    (planted.LosesOptionsOfZero, A, "test_an_option_of_zero_is_sent_or_refused", "`is not None`"),
    (planted.LosesOptionsThatAreLists, A, "test_other_options_are_sent_or_refused", "the end of the tide"),
    (planted.ChangesSchemas, A, "test_tools_are_sent_or_refused", "changed what the caller gave"),
    (planted.ChangesArguments, A, "test_a_tools_answer_is_sent_back", "changed what the caller gave"),
    (planted.KeepsOptionsOfOneCall, A, "test_an_option_of_a_call_is_that_calls_own", r"read call\.options"),
    (planted.NumbersItsCalls, A, "test_a_calls_id_goes_back_with_its_answer", "of two answers"),
    (planted.FailsAtLongLines, A, "test_a_long_piece_of_text_comes_back", "without a limit of their length"),
    (planted.TellsWhatWasAsked, A, "test_the_key_is_not_in_an_error_of_the_provider", "what was asked is in"),
    (planted.DropsTextsBesidePictures, A, "test_a_picture_is_sent_or_refused", "the text beside"),
    (
        planted.DropsDocuments,
        A,
        "test_a_document_is_sent_or_refused",
        "DocumentPart are not in what was sent",
    ),
    (planted.DropsEmptyToolAnswers, A, "test_an_empty_answer_of_a_tool_is_sent_back", "with an empty text"),
    (planted.DropsMaxTokens, A, "test_max_tokens_are_sent_or_refused", "leaves out request.max_tokens"),
    (planted.DropsTheTemperature, A, "test_the_temperature_is_sent_or_refused", "request.temperature"),
    (planted.LosesZero, A, "test_a_temperature_of_zero_is_sent_or_refused", "check with `is not None`"),
    (planted.DropsOptions, A, "test_other_options_are_sent_or_refused", "request.options"),
    (planted.DropsTheForm, A, "test_the_form_of_the_answer_is_sent_or_refused", "request.response_format"),
    (planted.DropsTheChoice, A, "test_a_tool_that_must_be_called_is_sent_or_refused", "tool_choice='tides'"),
    (
        planted.LosesRequired,
        A,
        "test_that_a_tool_must_be_called_is_sent_or_refused",
        "tool_choice='required'",
    ),
    (
        planted.TakesRequiredForAuto,
        A,
        "test_that_a_tool_must_be_called_is_sent_or_refused",
        "did not change what was sent",
    ),
    (planted.LosesNone, A, "test_that_no_tool_may_be_called_is_sent_or_refused", "tool_choice='none'"),
    (planted.KnowsSchemasAlone, A, "test_json_of_any_form_is_sent_or_refused", "json_object"),
    (planted.LosesStrict, A, "test_whether_a_form_is_strict_is_sent", "strict=True"),
    (planted.LosesWhatIsRequired, A, "test_what_a_tool_needs_is_sent", "`required` in the schema"),
    (planted.LosesTextBesideCalls, A, "test_the_text_beside_a_call_is_sent_back", "the text beside a call"),
    (planted.DropsPartsOfToolAnswers, A, "test_parts_of_a_tools_answer_are_sent_or_refused", "rain at night"),
    (
        planted.WritesPython,
        A,
        "test_the_arguments_of_a_call_are_not_sent_as_python_writes_them",
        r"json\.dumps",
    ),
    (
        planted.WritesJsonTwice,
        A,
        "test_the_arguments_of_a_call_are_not_sent_as_python_writes_them",
        "JSON once more",
    ),
    (planted.DropsIdsOfAnswers, A, "test_a_calls_id_goes_back_with_its_answer", "call_lisbon"),
    (planted.DropsIdsOfCalls, A, "test_a_calls_id_goes_back_with_its_answer", "call_lisbon"),
    (
        planted.RemembersWhatWasAsked,
        A,
        "test_a_call_knows_nothing_of_the_one_before",
        "the content of another call was sent",
    ),
    (planted.KeepsItsText, A, "test_a_call_knows_nothing_of_the_one_before", "store nothing"),
    (planted.KeepsItsTextOfOneCall, S, "test_two_streams_at_once_are_two", "store nothing"),
    (planted.KeepsItsRequest, A, "test_calls_at_once_are_told_apart", "answered in their place"),
    (planted.KeepsItsKeyOfOneCall, A, "test_calls_at_once_are_told_apart", "others pay for them"),
    (planted.EveryEndIsAStop, A, "test_an_answer_that_was_cut_off_says_so", "make it 'length'"),
    (planted.EveryEndIsAStop, A, "test_an_answer_that_a_policy_ended_says_so", "make it 'content_filter'"),
    (planted.EveryEndIsAStop, A, "test_tool_calls_come_back", "instead of 'tool_calls'"),
    (
        planted.RunsCallsThatWereCutOff,
        A,
        "test_calls_of_an_answer_that_was_cut_off_run_no_tool",
        "only the calls of 'tool_calls' are run",
    ),
    (planted.LosesWhatCountsAsFalse, A, "test_tool_calls_come_back", "'hour': None"),
    (planted.NeedsAText, A, "test_tool_calls_without_a_text_come_back", "it cannot be read"),
    (
        planted.BeginsWithItsText,
        S,
        "test_a_message_without_a_text_begins_and_ends_like_any_other",
        "MessageStarted",
    ),
    (planted.LosesUsageOfNothing, A, "test_what_it_used_comes_back", "`is not None`"),
    (planted.CompletesWithItsTextStripped, S, "test_the_message_is_what_was_told", "to its last space"),
    (planted.TellsItsWholeTextStripped, S, "test_the_message_is_what_was_told", "TextCompleted has"),
    (planted.TellsNoProvider, A, "test_the_provider_is_on_the_error", "provider=self.name"),
    (planted.TakesAGatewayForGarbage, A, "test_what_a_gateway_says_is_its_status", "with tolerance"),
    (planted.DropsUsage, A, "test_what_it_used_comes_back", r"became \(None, None\)"),
    (planted.SwapsUsage, A, "test_what_it_used_comes_back", r"became \(13, 21\)"),
    (planted.DropsCalls, A, "test_tool_calls_come_back", "ToolCallCompleted for each"),
    (planted.DropsCalls, S, "test_a_tool_call_is_begun_and_completed_once", "there are 0 ToolCallCompleted"),
    (planted.TellsOnlyAscii, A, "test_a_text_comes_back_to_its_last_letter", "came back"),
    (planted.TellsOneLine, A, "test_a_text_comes_back_to_its_last_letter", "came back"),
    (planted.WritesOtherRawArguments, A, "test_tool_calls_come_back", "raw_arguments is"),
    (planted.CompletesWithAnotherText, S, "test_the_message_is_what_was_told", "'other'"),
    (planted.CompletesWithoutText, S, "test_the_message_is_what_was_told", "the same text"),
    (planted.CompletesCallsWithoutText, S, "test_the_message_has_the_text_beside_its_calls", "the same text"),
    (
        planted.CompletesWithAUsersMessage,
        S,
        "test_the_message_is_what_was_told",
        "must have the role 'assistant', not 'user'",
    ),
    (planted.CompletesWithoutCalls, S, "test_the_message_has_the_calls_that_were_told", "with a ToolCall"),
    (planted.CompletesAfterItsError, S, "test_refused_rate_limited", "nothing may follow"),
    (planted.CompletesAfterItsError, S, "test_a_failure_in_the_middle_is_an_event", "nothing may follow"),
    (planted.SpeaksAfterItsError, S, "test_a_failure_in_the_middle_is_an_event", "nothing may follow"),
    (planted.TellsItsKey, A, "test_the_key_is_not_in_an_error_of_the_provider", "the key is in the error"),
    (planted.KeepsItsKey, A, "test_the_key_is_not_in_an_error_of_the_network", "the key is in the error"),
    (planted.DropsArguments, A, "test_tool_calls_come_back", "Lisbon"),
    (planted.NeedsArguments, A, "test_a_call_without_arguments_comes_back", "without a text are {}"),
    (planted.FailsWithoutArguments, A, "test_a_call_without_arguments_comes_back", "it cannot be read"),
    (
        planted.TakesBrokenArgumentsForNone,
        A,
        "test_a_call_with_broken_arguments_runs_no_tool",
        r"run with \[{}\]",
    ),
    (
        planted.TakesBrokenArgumentsForNone,
        A,
        "test_a_call_whose_arguments_are_no_object_runs_no_tool",
        "read_arguments",
    ),
    (
        planted.FailsWithBrokenArguments,
        A,
        "test_a_call_with_broken_arguments_runs_no_tool",
        "it cannot be read",
    ),
    (
        planted.DropsBrokenCalls,
        A,
        "test_a_call_with_broken_arguments_runs_no_tool",
        r"the calls \[\] came back",
    ),
    (
        planted.WritesToTheLastCall,
        S,
        "test_calls_that_are_written_at_the_same_time_are_told_apart",
        "by its own id",
    ),
    (planted.FailsAtItsEnd, A, "test_an_answer_comes_back", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_a_text_comes_back_to_its_last_letter", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_an_answer_that_was_cut_off_says_so", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_tool_calls_come_back", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_what_it_used_comes_back", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_a_request_timeout_is_accepted", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_the_key_of_the_call_is_sent", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_the_model_is_sent", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_a_picture_is_sent_or_refused", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_a_call_knows_nothing_of_the_one_before", "it cannot be read"),
    (planted.FailsAtItsEnd, A, "test_a_calls_id_goes_back_with_its_answer", "it cannot be read"),
    (planted.FailsAtItsEnd, S, "test_fragments_come_one_by_one_and_then_the_message", "it cannot be read"),
    (planted.FailsAtItsEnd, S, "test_the_message_is_what_was_told", "it cannot be read"),
    (planted.FailsAtItsEnd, S, "test_the_message_has_the_calls_that_were_told", "it cannot be read"),
    (planted.FailsAtItsEnd, S, "test_two_streams_at_once_are_two", "it cannot be read"),
    (planted.FailsAtItsEnd, S, "test_a_tool_call_is_begun_and_completed_once", "it cannot be read"),
    (planted.BeginsTwice, S, "test_an_answer_is_begun_once", "this one has 2"),
    (planted.TellsEmptyFragments, S, "test_no_fragment_of_text_is_empty", "yield none for an empty piece"),
    (planted.NeverTellsTheWholeText, S, "test_the_whole_text_is_told", r"yield TextCompleted\(text\)"),
    (
        planted.KeepsConnections,
        S,
        "test_a_connection_is_given_back_after_an_answer",
        "4 connections are open",
    ),
    (planted.KeepsConnections, S, "test_a_connection_is_given_back_after_a_refusal", "in `finally`"),
    (
        planted.KeepsConnectionsOfFailures,
        S,
        "test_a_connection_is_given_back_after_a_failure_in_the_middle",
        "4 connections are open",
    ),
    (
        planted.KeepsConnectionsOfFailures,
        S,
        "test_a_connection_is_given_back_after_a_refusal",
        "in `finally`",
    ),
    (
        planted.CompletesBeforeItsError,
        S,
        "test_a_failure_in_the_middle_is_an_event",
        "was completed before its error",
    ),
    (planted.LosesOddLineEnds, A, "test_a_text_comes_back_to_its_last_letter", r"also split at \\u2028"),
    (
        planted.TakesABreakForTheEnd,
        S,
        "test_a_connection_that_breaks_in_the_middle_is_an_event",
        "network_error",
    ),
    (
        planted.TakesAnyEndForTheEnd,
        S,
        "test_an_answer_that_has_no_end_is_an_event",
        "when the provider itself has ended",
    ),
    (planted.SkipsGarbage, S, "test_garbage_in_the_middle_is_an_event", "malformed_response"),
    (planted.GivesAllCallsOneId, A, "test_tool_calls_come_back", None),
    (planted.NeverBeginsACall, S, "test_a_tool_call_is_begun_and_completed_once", "were started"),
    (planted.WritesOtherArguments, S, "test_a_tool_call_is_begun_and_completed_once", "the fragments"),
    (planted.WritesAfterTheCall, S, "test_a_tool_call_is_begun_and_completed_once", "ends with"),
]


@pytest.mark.parametrize(
    ("adapter", "suite", "law", "says"),
    TABLE,
    ids=[f"{adapter.__name__}-{law.removeprefix('test_')}" for adapter, _, law, _ in TABLE],
)
def test_a_planted_mistake_fails_its_law_and_is_named(adapter, suite, law, says):
    planted_suite = type("Planted", (planted.OnStage, suite), {"adapter": adapter})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted_suite, law)()


def test_every_law_of_requests_is_broken_by_something_planted():
    classes = (RequestLaws, WishLaws, HistoryLaws)
    laws = {name for each in classes for name in vars(each) if name.startswith("test_")}
    assert laws == {law for _, _, law, _ in TABLE} & laws


@pytest.mark.parametrize(
    ("adapter", "base", "law", "line"),
    [
        (planted.HangsAfterItsEnd, A, "test_an_answer_comes_back", "generate"),
        (planted.HangsAfterItsEnd, A, "test_the_key_of_the_call_is_sent", "generate"),
        (planted.HangsAfterItsEnd, S, "test_the_message_is_what_was_told", "stream_generate"),
        (planted.HangsBeforeItsError, A, "test_rate_limited", "generate"),
        (planted.HangsBeforeItsError, S, "test_an_answer_that_has_no_end_is_an_event", "stream_generate"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_a_law_that_hangs_fails_and_says_where_it_waits(adapter, base, law, line):
    class Suite(planted.OnStage, base):
        limit, patience = 0.2, 0.0

    let_go = threading.Event()
    Suite.adapter = type("Adapter", (adapter,), {"let_go": let_go})
    try:
        with pytest.raises(AssertionError) as failure:
            getattr(Suite(), law)()
    finally:
        let_go.set()
        for thread in [each for each in threading.enumerate() if each.name == law]:
            thread.join()
    said = str(failure.value)
    assert re.match(rf"{law} hangs: after 0.2 s it still waits in \w+\.py, line \d+: .*\b{line}\(", said)
    assert "an iterator of events must end after MessageCompleted" in said
    assert "set `limit` in your suite" in said


def test_a_stage_that_hangs_is_named():
    let_go = threading.Event()

    class Suite(AdapterSuite):
        limit, patience = 0.2, 0.0

        @contextmanager
        def stage(self, scene):
            let_go.wait()
            pytest.skip("it was let go")
            yield

    try:
        with pytest.raises(AssertionError, match=r"in test_planted\.py, line \d+: let_go\.wait\(\)"):
            Suite().test_an_answer_comes_back()
    finally:
        let_go.set()


def test_a_law_in_the_place_of_another_is_bounded_and_a_test_beside_them_is_not():
    class Suite(planted.OnStage, StreamSuite):
        limit = 0.2

        def test_a_silence_is_an_event(self):
            threading.Event().wait(60)

        def test_something_else(self):
            return threading.current_thread()

    with pytest.raises(AssertionError, match="hangs"):
        Suite().test_a_silence_is_an_event()
    assert Suite().test_something_else() is threading.current_thread()


def test_a_law_in_the_place_of_another_may_have_fixtures():
    class Suite(planted.OnStage, StreamSuite):
        def test_a_silence_is_an_event(self, tmp_path):
            seen.append(tmp_path)

    seen = []
    Suite().test_a_silence_is_an_event(tmp_path="a folder")
    assert seen == ["a folder"]


def test_a_law_sees_the_context_of_whoever_runs_it():
    class Suite(planted.OnStage, AdapterSuite):
        @contextmanager
        def stage(self, scene):
            assert whose.get() == "Ana's"
            pytest.skip("it is hers")
            yield

    whose = contextvars.ContextVar("whose")
    whose.set("Ana's")
    with pytest.raises(pytest.skip.Exception, match="it is hers"):
        Suite().test_an_answer_comes_back()


class Earlier:
    """A stage that plays text and failures, and knows of nothing else."""

    @contextmanager
    def stage(self, scene):
        known = Scene(kind=scene.kind, text=scene.text, reason=scene.reason)
        provider = planted.Provider(known)
        yield Stage(
            engine=planted.allm.Engine(adapter=planted.Right(provider)), cleanups=lambda: provider.left
        )


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ("test_without_retries_it_asks_once", "give Stage"),
        ("test_the_model_is_sent", "give Stage"),
        ("test_it_waits_as_long_as_the_provider_asks", "give Stage"),
        ("test_whether_a_form_is_strict_is_sent", "give Stage"),
        ("test_the_key_is_not_in_an_error_of_the_provider", r"give Stage\(key=…\)"),
        ("test_the_key_of_the_call_is_sent", r"give Stage\(keys=…\)"),
        ("test_an_option_of_a_call_is_that_calls_own", "give the URL of your provider"),
        ("test_calls_at_once_are_told_apart", r"give Stage\(sent=…\)"),
        ("test_an_answer_that_a_policy_ended_says_so", "never looks at scene.finish_reason"),
        ("test_a_call_without_arguments_comes_back", "never looks at scene.tool_calls"),
        ("test_an_answer_that_was_cut_off_says_so", "never looks at scene.finish_reason"),
        ("test_tool_calls_come_back", "never looks at scene.tool_calls"),
        ("test_what_it_used_comes_back", "never looks at scene.usage"),
        ("test_tool_calls_without_a_text_come_back", "never looks at scene.tool_calls"),
        ("test_calls_of_an_answer_that_was_cut_off_run_no_tool", "never looks at scene.finish_reason"),
        ("test_a_call_with_broken_arguments_runs_no_tool", "never looks at scene.raw_arguments"),
        ("test_a_call_whose_arguments_are_no_object_runs_no_tool", "never looks at scene.raw_arguments"),
    ],
)
def test_what_a_stage_does_not_play_is_skipped_with_what_to_give(law, says):
    suite = type("Suite", (Earlier, AdapterSuite), {})()
    with pytest.raises(SkipTest, match=says):
        getattr(suite, law)()


def test_a_key_refused_with_a_status_worth_a_retry_is_the_stages_doing():
    class Overloaded(planted.Right):
        def failure(self, call):
            error = super().failure(call)
            error.status = 500
            return error

    suite = type("Suite", (planted.OnStage, AdapterSuite), {"adapter": Overloaded})()
    with pytest.raises(SkipTest, match=r"use scene\.status"):
        suite.test_a_refused_key_is_not_tried_again()


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ("test_the_message_has_the_calls_that_were_told", "never looks at scene.finish_reason"),
        ("test_calls_that_are_written_at_the_same_time_are_told_apart", "never looks at scene.interleaved"),
        ("test_a_connection_is_given_back_after_an_answer", r"give Stage\(connections=…\)"),
    ],
)
def test_what_a_stage_of_a_stream_does_not_play_is_skipped_with_what_to_give(law, says):
    suite = type("Suite", (Earlier, StreamSuite), {})()
    with pytest.raises(SkipTest, match=says):
        getattr(suite, law)()


class TakesTheFirstPiece(planted.OnStage):
    """A stage that was written when every answer had a text."""

    @contextmanager
    def stage(self, scene):
        assert scene.text[0]
        with super().stage(scene) as stage:
            yield stage


@pytest.mark.parametrize(
    ("base", "law"),
    [
        (A, "test_tool_calls_without_a_text_come_back"),
        (S, "test_a_message_without_a_text_begins_and_ends_like_any_other"),
    ],
)
def test_an_answer_without_a_text_is_skipped_where_a_stage_needs_one(base, law):
    suite = type("Suite", (TakesTheFirstPiece, base), {})()
    with pytest.raises(SkipTest, match=r"cannot play an answer without a text, scene\.text=\(\)"):
        getattr(suite, law)()


class OneFailure:
    """A stage of a stream that has one failure for the middle, whatever the scene says of it."""

    @contextmanager
    def stage(self, scene):
        provider = planted.Provider(Scene(kind=scene.kind, reason="rate_limited"))
        yield Stage(engine=planted.allm.Engine(adapter=planted.Right(provider)))


@pytest.mark.parametrize(
    ("law", "field"),
    [
        ("test_a_connection_that_breaks_in_the_middle_is_an_event", "reason"),
        ("test_an_answer_that_has_no_end_is_an_event", "unfinished"),
        ("test_garbage_in_the_middle_is_an_event", "reason"),
    ],
)
def test_a_failure_in_the_middle_that_a_stage_does_not_play_is_skipped(law, field):
    suite = type("Suite", (OneFailure, StreamSuite), {})()
    with pytest.raises(SkipTest, match=f"never looks at scene.{field}"):
        getattr(suite, law)()


def suite_of(adapter, **fields):
    return type("Suite", (planted.OnStage, AdapterSuite), {"adapter": adapter, **fields})()


def test_a_form_sent_alike_is_the_providers_way_unless_the_suite_says_otherwise():
    with pytest.raises(SkipTest, match="set tells_strict = True"):
        suite_of(planted.LosesStrict, tells_strict=False).test_whether_a_form_is_strict_is_sent()


def test_who_is_not_asked_again_did_not_come_back_too_early():
    with pytest.raises(SkipTest, match="it was not asked again"):
        suite_of(planted.NeverTriesAgain).test_it_waits_as_long_as_the_provider_asks()


def test_requests_that_differ_by_themselves_are_not_compared():
    class Numbered(planted.LosesNone):
        """Each request has a number of its own."""

        def body(self, request):
            return super().body(request) | {"number": next(numbers)}

    numbers = itertools.count()
    with pytest.raises(SkipTest, match="two equal requests were sent differently"):
        suite_of(Numbered).test_that_no_tool_may_be_called_is_sent_or_refused()


def test_an_adapter_may_send_a_temperature_of_zero_where_none_is_given():
    class Cold(planted.Right):
        """As its makers like it."""

        def body(self, request):
            return super().body(request) | {"temperature": request.temperature or 0.0}

    suite_of(Cold).test_a_temperature_of_zero_is_sent_or_refused()


def test_an_adapter_that_cannot_fetch_a_picture_sends_nothing():
    class Fetching(planted.Right):
        """Not from everywhere."""

        def stream(self, request, call):
            raise planted.allm.AdapterError("network_error", provider=self.name, message="no such host")

    with pytest.raises(SkipTest, match=r"sends no picture at this URL.*no such host"):
        suite_of(Fetching).test_a_picture_at_a_url_is_sent_or_refused()


def test_ids_that_an_adapter_makes_up_may_be_new_each_time():
    class MakesUpIds(planted.Right):
        """The provider's calls have none."""

        def read(self, call_id, name, written):
            return super().read(f"made-up-{next(numbers)}", name, written)

    numbers = itertools.count()
    with pytest.raises(SkipTest, match="the calls of this provider have no ids"):
        suite_of(MakesUpIds).test_a_calls_id_goes_back_with_its_answer()


def test_a_policys_end_may_be_an_error():
    class Refusing(planted.Right):
        """What a policy ended is none of its answers."""

        def end(self, text, calls, reason, usage):
            if reason == "content_filter":
                raise planted.allm.AdapterError(reason, provider=self.name, message="no")
            return super().end(text, calls, reason, usage)

    suite_of(Refusing).test_an_answer_that_a_policy_ended_says_so()


def test_what_is_no_dict_may_stand_for_arguments_that_cannot_be_read():
    class HandsOverTheText(planted.Right):
        """No tool takes it."""

        def read(self, call_id, name, written):
            made = super().read(call_id, name, written)
            return msgspec.structs.replace(made, arguments=written, metadata={}) if made.metadata else made

    suite = suite_of(HandsOverTheText)
    suite.test_a_call_with_broken_arguments_runs_no_tool()
    suite.test_a_call_whose_arguments_are_no_object_runs_no_tool()


def test_a_stage_may_write_all_that_was_sent_as_python_does():
    class Written(AdapterSuite):
        @contextmanager
        def stage(self, scene):
            provider = planted.Provider(scene)
            yield Stage(
                engine=planted.allm.Engine(adapter=planted.Right(provider)),
                sent=lambda: [str(json.loads(each)) for each in provider.sent],
            )

    Written().test_the_arguments_of_a_call_are_not_sent_as_python_writes_them()


def test_a_break_may_overtake_what_was_said_before_it():
    class Overtaken(planted.Right):
        """A reset drops what nobody had read yet."""

        def stream(self, request, call):
            raise self.failure(call)

    suite = type("Suite", (planted.OnStage, StreamSuite), {"adapter": Overtaken})()
    suite.test_a_connection_that_breaks_in_the_middle_is_an_event()


def test_a_scene_knows_which_of_its_fields_were_looked_at():
    scene = Scene(kind="refuses", reason="rate_limited")
    assert scene.looked_at == set()
    assert (scene.status, scene.kind) == (429, "refuses")
    assert scene.looked_at == {"status", "reason", "kind"}
    assert scene == Scene(kind="refuses", reason="rate_limited")


def test_whats_not_a_refusal_has_no_status():
    assert Scene(kind="answers").status is None
    assert Scene(kind="refuses", reason="timeout").status is None
