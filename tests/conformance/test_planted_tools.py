"""Each mistake that is planted in a tool executor or an encoder makes a law fail, with words that say what is wrong."""

import asyncio
import contextvars
import dataclasses
import inspect
import json
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import SkipTest

import pytest

import allm_actors as allm
from allm_actors.testing import conformance
from allm_actors.testing.conformance import EncoderSuite, ExecutorSuite


def plain(tool, arguments, context):
    """The right one."""
    return tool.run(arguments, context)


def gives_arguments_alone(tool, arguments, context):
    return tool.handler(arguments)


def counts_parameters(tool, arguments, context):
    if tool.handler is None:
        raise allm.ToolError("not_found", tool_name=tool.name)
    wanted = len(inspect.signature(tool.handler).parameters)
    return tool.handler(*(arguments, context)[:wanted])


def returns_nothing(tool, arguments, context):
    plain(tool, arguments, context)


def wraps(tool, arguments, context):
    return {"answer": plain(tool, arguments, context)}


def swallows(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except BaseException as error:  # noqa: BLE001 - the mistake
        return str(error)


def raises_its_own(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except BaseException as error:
        raise RuntimeError("the tool failed") from error


async def forgets_to_await(tool, arguments, context):
    return plain(tool, arguments, context)


def runs_it_twice(tool, arguments, context):
    plain(tool, arguments, context)
    return plain(tool, arguments, context)


def gives_another_context(tool, arguments, context):
    return plain(tool, arguments, allm.ToolContext(context={}))


def takes_nothing_for_none(tool, arguments, context):
    return plain(tool, arguments, context) or None


def takes_none_for_a_text(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return "" if answer is None else answer


def unwraps_ok(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return answer.value if isinstance(answer, allm.Ok) else answer


def prints_reasons(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return allm.Err(str(answer.reason)) if isinstance(answer, allm.Err) else answer


def tries_again(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except Exception:  # noqa: BLE001 - the mistake is what follows
        return plain(tool, arguments, context)


def tries_a_timeout_again(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except TimeoutError:
        return plain(tool, arguments, context)


def tries_a_wrong_value_again(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except ValueError:
        return plain(tool, arguments, context)


def tries_an_error_again(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return plain(tool, arguments, context) if isinstance(answer, allm.Err) else answer


def tries_nothing_again(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return plain(tool, arguments, context) if answer is None else answer


def takes_an_exit_for_an_end(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except SystemExit as error:
        if error.code:
            raise


def lets_nothing_interrupt_it(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except KeyboardInterrupt:
        return None


def goes_through_json(tool, arguments, context):
    answer = plain(tool, arguments, context)
    known = isinstance(answer, allm.Ok | allm.Err | allm.Halt | allm.AskUser)
    return answer if known else json.loads(json.dumps(answer, default=str))


class Never:
    """It is not cancelled, whatever happens."""

    def __bool__(self):
        return False

    def wait(self, _timeout=None):
        return False


def is_never_cancelled(tool, arguments, context):
    return plain(tool, arguments, dataclasses.replace(context, cancelled=Never()))


def runs_it_elsewhere(tool, arguments, context):
    with ThreadPoolExecutor() as pool:
        return pool.submit(plain, tool, arguments, context).result()


class RemembersAnswers:
    """By the arguments."""

    def __init__(self):
        self.answers = {}

    def execute(self, tool, arguments, context):
        key = repr(arguments)
        if key not in self.answers:
            self.answers[key] = plain(tool, arguments, context)
        return self.answers[key]


class RemembersFailures:
    """By the arguments."""

    def __init__(self):
        self.failures = {}

    def execute(self, tool, arguments, context):
        key = repr(arguments)
        if key in self.failures:
            raise self.failures[key]
        try:
            return plain(tool, arguments, context)
        except Exception as failure:
            self.failures[key] = failure
            raise


class RunsOneAtATime:
    """With a lock."""

    def __init__(self):
        self.lock = threading.Lock()

    def execute(self, tool, arguments, context):
        with self.lock:
            return plain(tool, arguments, context)


class AwaitsOneAtATime:
    """The same, asynchronous."""

    def __init__(self):
        self.lock = asyncio.Lock()

    async def execute(self, tool, arguments, context):
        async with self.lock:
            return await plain(tool, arguments, context)


def cannot_be_cancelled(tool, arguments, context):
    return plain(tool, arguments, dataclasses.replace(context, cancelled=None))


def is_of_another_session(tool, arguments, context):
    return plain(tool, arguments, dataclasses.replace(context, session_id="another"))


def drops_what_is_none(tool, arguments, context):
    return plain(tool, {name: value for name, value in arguments.items() if value is not None}, context)


def drops_what_is_empty(tool, arguments, context):
    return plain(tool, {name: value for name, value in arguments.items() if value}, context)


class GivesTheAnswerBefore:
    """That of the call before, where there was one."""

    def __init__(self):
        self.last = []

    def execute(self, tool, arguments, context):
        answer = plain(tool, arguments, context)
        if inspect.isawaitable(answer):
            return answer  # kept, it would never be awaited
        self.last.append(answer)
        return self.last[max(len(self.last) - 2, 0)]


class KeepsTheContext:
    """That of whoever came last."""

    def execute(self, tool, arguments, context):
        self.context = context
        threading.Event().wait(0.003)
        return plain(tool, arguments, self.context)


class KeepsTheTool:
    """That of whoever came last."""

    def execute(self, tool, arguments, context):
        self.tool = tool
        threading.Event().wait(0.003)
        return plain(self.tool, arguments, context)


class KeepsTheArguments:
    """Those of whoever came last."""

    def execute(self, tool, arguments, context):
        self.arguments = arguments
        threading.Event().wait(0.003)
        return plain(tool, self.arguments, context)


def strips_texts(tool, arguments, context):
    plain_texts = {
        name: value.strip() if isinstance(value, str) else value for name, value in arguments.items()
    }
    return plain(tool, plain_texts, context)


def cuts_what_is_long(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return answer[:10_000] if isinstance(answer, str) else answer


def tries_a_tool_error_again(tool, arguments, context):
    try:
        return plain(tool, arguments, context)
    except allm.ToolError:
        return plain(tool, arguments, context)


class HasPlaces:
    """Three, of which one is lost with each call that raises."""

    freed = Exception

    def __init__(self):
        self.places = threading.Semaphore(3)

    def execute(self, tool, arguments, context):
        if not self.places.acquire(timeout=0.01):
            raise RuntimeError("there is no place")
        try:
            answer = plain(tool, arguments, context)
        except self.freed:
            self.places.release()
            raise
        self.places.release()
        return answer


class LosesPlaces(HasPlaces):
    freed = ()


async def of_a_thread(tool, arguments, context):
    """A plain handler's answer, or a coroutine."""
    return await asyncio.to_thread(plain, tool, arguments, context)


async def awaits(tool, arguments, context):
    """The right one."""
    answer = await of_a_thread(tool, arguments, context)
    return await answer if inspect.isawaitable(answer) else answer


async def tries_a_coroutine_again(tool, arguments, context):
    answer = await of_a_thread(tool, arguments, context)
    if not inspect.isawaitable(answer):
        return answer
    try:
        return await answer
    except Exception:  # noqa: BLE001 - the mistake is what follows
        return await tool.run(arguments, context)


async def swallows_what_a_coroutine_raises(tool, arguments, context):
    answer = await of_a_thread(tool, arguments, context)
    if not inspect.isawaitable(answer):
        return answer
    try:
        return await answer
    except Exception as error:  # noqa: BLE001 - the mistake
        return f"error: {error}"


async def hides_groups(tool, arguments, context):
    answer = await of_a_thread(tool, arguments, context)
    if not inspect.isawaitable(answer):
        return answer
    async with asyncio.TaskGroup() as group:
        task = group.create_task(answer)
    return task.result()


async def shields(tool, arguments, context):
    answer = await of_a_thread(tool, arguments, context)
    return await asyncio.shield(answer) if inspect.isawaitable(answer) else answer


async def gives_coroutines_up(tool, arguments, context):
    answer = await of_a_thread(tool, arguments, context)
    return await asyncio.wait_for(answer, 0.01) if inspect.isawaitable(answer) else answer


async def stops_the_loop(tool, arguments, context):
    answer = plain(tool, arguments, context)
    return await answer if inspect.isawaitable(answer) else answer


def runs_coroutines_elsewhere(tool, arguments, context):
    answer = plain(tool, arguments, context)
    if not inspect.isawaitable(answer):
        return answer
    with ThreadPoolExecutor() as pool:
        return pool.submit(asyncio.run, answer).result()


class LosesPlacesOfTheCancelled:
    """And frees those of all others."""

    def __init__(self):
        self.places = asyncio.Semaphore(3)

    async def execute(self, tool, arguments, context):
        await self.places.acquire()
        try:
            answer = await awaits(tool, arguments, context)
        except Exception:
            self.places.release()
            raise
        self.places.release()
        return answer


class TestAwaits(ExecutorSuite):
    patience = 0.5  # half a second for what is awaited, and a tenth of that for what takes its time

    def executor(self):
        return type("Right", (), {"execute": staticmethod(awaits)})()


def gives_up(tool, arguments, context):
    """After a moment of its own."""
    with ThreadPoolExecutor() as pool:
        run = contextvars.copy_context().run
        return pool.submit(run, plain, tool, arguments, context).result(timeout=0.005)


def never_runs_it(tool, arguments, context):
    return "it was run"


CANCELLED = "test_a_coroutine_is_cancelled_with_its_call"
EXECUTORS = [
    (strips_texts, "test_the_arguments_arrive_and_are_the_handlers_own", "but the handler was run with"),
    (cuts_what_is_long, "test_a_plain_value_is_ok", r"\(100002 letters\), but execute\(\) .* unchanged"),
    (tries_a_tool_error_again, "test_a_handler_that_raises_is_run_once", "raised ToolError and was run 2"),
    (LosesPlaces, "test_calls_that_failed_hold_up_no_other", "there is no place.* give back in `finally`"),
    (HasPlaces, "test_calls_that_failed_hold_up_no_other", "there is no place.* give back in `finally`"),
    (
        tries_a_coroutine_again,
        "test_a_handler_that_raises_is_run_once",
        "a coroutine function raised ConnectionError and was run 2",
    ),
    (swallows_what_a_coroutine_raises, "test_what_is_raised_is_handler_raised", "let every exception"),
    (hides_groups, "test_what_is_raised_is_handler_raised", "of a coroutine function became"),
    (gives_coroutines_up, "test_a_handler_may_take_its_time", "a_coroutine_function took"),
    (stops_the_loop, "test_a_plain_handler_does_not_stop_the_event_loop", r"asyncio\.to_thread\(tool\.run"),
    (
        runs_coroutines_elsewhere,
        "test_a_handler_sees_the_variables_of_its_caller",
        "in a coroutine function: run",
    ),
    (shields, CANCELLED, "its coroutine ran on to its end"),
    (LosesPlacesOfTheCancelled, CANCELLED, "after others were cancelled: give back in `finally`"),
    (gives_up, "test_a_handler_may_take_its_time", "set no time limit of your own"),
    (never_runs_it, "test_a_handler_hears_that_its_call_was_cancelled", "a handler was not run"),
    (takes_nothing_for_none, "test_a_value_that_is_not_true_is_one", "a handler returned 0"),
    (takes_none_for_a_text, "test_a_value_that_is_not_true_is_one", "a handler returned None"),
    (unwraps_ok, "test_ok_passes_through", "unchanged"),
    (prints_reasons, "test_err_passes_through", "unchanged"),
    (tries_again, "test_a_handler_that_raises_is_run_once", "was run 2 times"),
    (tries_a_wrong_value_again, "test_a_handler_that_raises_is_run_once", "raised ValueError and was run 2"),
    (
        tries_an_error_again,
        "test_a_handler_is_run_once_whatever_it_answers",
        r"returned Err\(.* and was run 2 times",
    ),
    (tries_nothing_again, "test_a_handler_is_run_once_whatever_it_answers", "returned None and was run 2"),
    (RemembersFailures, "test_equal_calls_are_run_each", "remember no answer and no failure"),
    (
        KeepsTheTool,
        "test_calls_at_once_of_two_tools_run_their_own_handlers",
        "store no tool on the executor",
    ),
    (tries_a_timeout_again, "test_a_handler_that_raises_is_run_once", "raised TimeoutError and was run 2"),
    (takes_an_exit_for_an_end, "test_an_exit_is_handler_exit", "let every exception of a handler through"),
    (lets_nothing_interrupt_it, "test_an_exit_is_handler_exit", "let every exception of a handler through"),
    (goes_through_json, "test_a_value_that_json_has_no_form_for_is_one", "unchanged"),
    (
        is_never_cancelled,
        "test_a_handler_hears_that_its_call_was_cancelled",
        "context.cancelled, which returned",
    ),
    (runs_it_elsewhere, "test_a_handler_sees_the_variables_of_its_caller", "copy_context"),
    (RemembersAnswers, "test_equal_calls_are_run_each", "run it for each call"),
    (RunsOneAtATime, "test_calls_at_once_are_run_at_once", "hold no lock"),
    (AwaitsOneAtATime, "test_calls_at_once_are_run_at_once", "hold no lock"),
    (cannot_be_cancelled, "test_a_second_parameter_gets_the_context", "has no `cancelled`"),
    (is_of_another_session, "test_a_second_parameter_gets_the_context", "did not get the context"),
    (
        drops_what_is_none,
        "test_the_arguments_arrive_and_are_the_handlers_own",
        "but the handler was run with",
    ),
    (
        drops_what_is_empty,
        "test_the_arguments_arrive_and_are_the_handlers_own",
        "but the handler was run with",
    ),
    (GivesTheAnswerBefore, "test_calls_of_one_step_have_their_own_answers", "store no arguments"),
    (KeepsTheContext, "test_calls_at_once_have_their_own_answers", "store no arguments"),
    (KeepsTheArguments, "test_calls_at_once_have_their_own_answers", "store no arguments"),
    (gives_arguments_alone, "test_a_second_parameter_gets_the_context", "tool.run"),
    (gives_arguments_alone, "test_a_decorated_tool_gets_its_context", "tool.run"),
    (gives_arguments_alone, "test_a_tool_without_a_handler_is_not_found", "tool.handler is None"),
    (counts_parameters, "test_a_decorated_tool_gets_its_context", "tool.run"),
    (returns_nothing, "test_ok_passes_through", "unchanged"),
    (returns_nothing, "test_err_passes_through", "unchanged"),
    (returns_nothing, "test_a_question_passes_through", "unchanged"),
    (returns_nothing, "test_the_options_of_a_question_pass_through", "unchanged"),
    (returns_nothing, "test_a_halt_passes_through", "unchanged"),
    (wraps, "test_a_plain_value_is_ok", "unchanged"),
    (swallows, "test_what_is_raised_is_handler_raised", "let every exception of a handler through"),
    (swallows, "test_an_exit_is_handler_exit", "let every exception of a handler through"),
    (raises_its_own, "test_what_is_raised_is_handler_raised", "let every exception of a handler through"),
    (raises_its_own, "test_an_exit_is_handler_exit", "let every exception of a handler through"),
    (raises_its_own, "test_a_tool_error_stays_what_it_is", "let every exception of a handler through"),
    (forgets_to_await, "test_an_awaitable_is_waited_for", "awaits it"),
    (runs_it_twice, "test_the_arguments_arrive_and_are_the_handlers_own", "run it once"),
    (gives_another_context, "test_a_second_parameter_gets_the_context", "did not get the context"),
]


IN_VAIN = (never_runs_it, stops_the_loop, RunsOneAtATime, AwaitsOneAtATime, LosesPlacesOfTheCancelled)
"""Their laws wait for what never happens."""


def of(table):
    return [f"{wrong.__name__}-{law.removeprefix('test_')}" for wrong, law, _ in table]


@pytest.mark.parametrize(("wrong", "law", "says"), EXECUTORS, ids=of(EXECUTORS))
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_planted_executor_fails_its_law_and_is_told_what_to_do(wrong, law, says):
    class Suite(ExecutorSuite):
        patience = 0.05 if wrong in IN_VAIN else 0.3

        def executor(self):
            if isinstance(wrong, type):
                return wrong()
            return type("Wrong", (), {"execute": staticmethod(wrong)})()

    with pytest.raises(AssertionError, match=says):
        getattr(Suite(), law)()


@pytest.mark.parametrize(
    ("execute", "law", "says"),
    [
        (plain, CANCELLED, "nothing can cancel a coroutine that it returns"),
        (plain, "test_a_plain_handler_does_not_stop_the_event_loop", "runs on a thread"),
        (stops_the_loop, "test_a_plain_handler_does_not_stop_the_event_loop", "`plain_tools` says"),
    ],
    ids=["cancel", "on a thread", "asynchronous tools alone"],
)
def test_what_an_executor_need_not_do_is_skipped(execute, law, says):
    class Suite(ExecutorSuite):
        plain_tools = False

        def executor(self):
            return type("Right", (), {"execute": staticmethod(execute)})()

    with pytest.raises(SkipTest, match=says):
        getattr(Suite(), law)()


@pytest.mark.parametrize(
    "suite", [getattr(conformance, name) for name in conformance.__all__ if name.endswith("Suite")]
)
def test_a_suite_leaves_unittest_its_methods(suite):
    theirs = {name for name in dir(unittest.TestCase) if not name.startswith("__")}
    assert not theirs & set(dir(suite))


def test_unittest_runs_a_suite():
    class Suite(ExecutorSuite, unittest.TestCase):
        def executor(self):
            return type("Right", (), {"execute": staticmethod(plain)})()

    laws = ["test_ok_passes_through", "test_calls_at_once_are_run_at_once", CANCELLED]
    result = unittest.TestResult()
    unittest.TestSuite(map(Suite, laws)).run(result)
    assert (result.testsRun, len(result.skipped), result.errors, result.failures) == (3, 1, [], [])


def test_an_executor_that_never_ends_fails_its_law():
    let_go = threading.Event()

    class Suite(ExecutorSuite):
        limit = patience = 0.1

        def executor(self):
            return type("Wrong", (), {"execute": lambda *_: let_go.wait()})()

    try:
        with pytest.raises(
            AssertionError, match=r"hangs: after 0\.3 s .* in executor\.py, line \d+: .*a lock"
        ):
            Suite().test_ok_passes_through()
    finally:
        let_go.set()


def test_an_encoder_that_never_ends_fails_its_law():
    let_go = threading.Event()

    class Suite(EncoderSuite):
        limit = 0.1

        def encoder(self):
            return lambda _: let_go.wait()

    try:
        with pytest.raises(
            AssertionError, match=r"hangs: after 0\.1 s .* in encoder\.py.*your encoder waits for"
        ):
            Suite().test_a_map()
    finally:
        let_go.set()


def test_every_law_of_executors_is_broken_by_something_planted():
    laws = {name for name in vars(ExecutorSuite) if name.startswith("test_")}
    assert laws == {law for _, law, _ in EXECUTORS}


# --- encoders -----------------------------------------------------------------------------------------------------


def right(value):
    """The right one, with `json` of the standard library."""
    if isinstance(value, str):
        return value
    if isinstance(value, allm.Ok):
        value = {"ok": value.value}
    if isinstance(value, allm.Err):
        value = {"error": str(value.reason)}
    return json.dumps(value, sort_keys=True)


class TestRight(EncoderSuite):
    def encoder(self):
        return right


def quotes(value):
    return json.dumps(value)


def unsorted(value):
    return value if isinstance(value, str) else json.dumps(value)


def sorted_above(value):
    if isinstance(value, dict):
        value = dict(sorted(value.items()))
    return unsorted(value)


def shortens(value):
    return right(value)[:20]


def bytes_of(value):
    return right(value).encode()


def prints(value):
    return value if isinstance(value, str) else repr(value)


def says_nothing_of_nothing(value):
    return "" if value is None or value is False else right(value)


def rounds(value):
    return right(round(value) if isinstance(value, float) else value)


def rounds_a_little(value):
    return right(round(value, 6) if isinstance(value, float) else value)


def leaves_out_nothing(value):
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if each is not None}
    return right(value)


def leaves_out_what_is_empty(value):
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if each not in ([], {})}
    return right(value)


def cuts_lists(value):
    return right(value[:50] if isinstance(value, list) else value)


def cuts_long_texts(value):
    return value[:5000] if isinstance(value, str) else right(value)


class Remembers:
    """Texts, by what they are of."""

    def __init__(self):
        self.texts = []

    def encode(self, value):
        for known, text in self.texts:
            if known == value:
                return text
        self.texts.append((value, right(value)))
        return self.texts[-1][1]


def sorts_lists(value):
    return right(sorted(value, key=str) if isinstance(value, list) else value)


def unwraps(value):
    return right(value.value if isinstance(value, allm.Ok) else value)


def hides_reasons(value):
    return right({"error": "it failed"} if isinstance(value, allm.Err) else value)


def gives_reasons_alone(value):
    return right(json.dumps(str(value.reason)) if isinstance(value, allm.Err) else value)


def cuts(value):
    return right(value)[:60]


def cuts_texts(value):
    return value[:60] if isinstance(value, str) else right(value)


def cuts_texts_inside(value):
    if isinstance(value, dict):
        value = {name: cuts_texts_inside(inner) for name, inner in value.items()}
    return right([each[:60] for each in value] if isinstance(value, list) else value)


def drops_letters(value):
    return right(value).encode("ascii", "ignore").decode()


def drops_letters_inside(value):
    if isinstance(value, str):
        return value
    return json.dumps(json.loads(right(value)), ensure_ascii=False).encode("ascii", "ignore").decode()


def strips(value):
    return right(value).strip()


def cuts_what_is_deep(value):
    def cut(inner, depth):
        if depth == 3 and isinstance(inner, dict | list):
            return "…"
        if isinstance(inner, dict):
            return {name: cut(each, depth + 1) for name, each in inner.items()}
        return [cut(each, depth + 1) for each in inner] if isinstance(inner, list) else inner

    return right(cut(value, 0))


def counts_in_floats(value):
    return right(float(value) if isinstance(value, int) and abs(value) > 2**53 else value)


def counts_in_floats_inside(value):
    return value if isinstance(value, str) else json.dumps(json.loads(right(value), parse_int=_floating))


def _floating(digits):
    return int(digits) if len(digits) < 15 else float(digits)


def has_one_error(value):
    return right({"error": "not_found"} if isinstance(value, allm.Err) else value)


def has_errors_of_texts(value):
    if isinstance(value, allm.Err) and not isinstance(value.reason, str | allm.ToolError):
        return right({"error": "it failed"})
    return right(value)


def fails_where_the_tool_failed(value):
    if isinstance(value, allm.Err):
        return json.dumps({"error": value.reason})
    return right(value)


def keeps_failures_secret(value):
    if isinstance(value, allm.Err) and isinstance(value.reason, allm.ToolError):
        return right({"error": "it failed"})
    return right(value)


def marks_no_failures(value):
    if isinstance(value, allm.Err) and isinstance(value.reason, allm.ToolError):
        return json.dumps(str(value.reason))
    return right(value)


def marks_no_errors_of_data(value):
    if isinstance(value, allm.Err) and isinstance(value.reason, dict):
        value = value.reason
    return right(value)


def sorts_lists_of_maps(value):
    """And maps by themselves."""
    if isinstance(value, list):
        return unsorted([dict(sorted(each.items())) if isinstance(each, dict) else each for each in value])
    return sorted_above(value)


def cuts_what_is_very_long(value):
    return value[:100_000] if isinstance(value, str) else right(value)


def cuts_json_that_is_very_long(value):
    return value if isinstance(value, str) else right(value)[:100_000]


def makes_a_text_of_everything(value):
    if isinstance(value, str):
        return value
    if isinstance(value, allm.Ok | allm.Err):
        return right(value)
    return json.dumps(value, sort_keys=True, default=str)


ENCODERS = [
    (sorts_lists_of_maps, "test_equal_values_have_equal_texts", "at every depth"),
    (cuts_what_is_very_long, "test_a_text_stays_as_long_as_it_is", "set `longest`"),
    (cuts_json_that_is_very_long, "test_a_long_value_stays_as_long_as_it_is", "is not JSON"),
    (makes_a_text_of_everything, "test_what_cannot_be_encoded_is_an_error", "encoding_failed"),
    (cuts_texts, "test_a_text_stays_as_long_as_it_is", "return a str unchanged"),
    (cuts_long_texts, "test_a_text_stays_as_long_as_it_is", "return a str unchanged"),
    (cuts_lists, "test_a_list", "is not JSON for"),
    (leaves_out_nothing, "test_what_is_empty_is_kept", "is not JSON for"),
    (leaves_out_what_is_empty, "test_what_is_empty_is_kept", "is not JSON for"),
    (rounds_a_little, "test_a_fraction", "is not JSON for 0.3"),
    (Remembers, "test_what_is_equal_and_not_the_same_is_told_apart", "do not cache texts"),
    (cuts, "test_texts_inside_a_map_are_kept", "is not JSON"),
    (cuts_texts_inside, "test_texts_inside_a_map_are_kept", "is not JSON for"),
    (drops_letters, "test_a_text_keeps_all_its_letters", "return a str unchanged"),
    (drops_letters_inside, "test_texts_inside_a_map_are_kept", "is not JSON for"),
    (strips, "test_a_text_keeps_all_its_letters", "return a str unchanged"),
    (cuts_what_is_deep, "test_what_lies_deep_is_kept", "is not JSON for"),
    (counts_in_floats, "test_a_large_number_is_kept", "is not JSON for 9007199254740993"),
    (counts_in_floats_inside, "test_a_large_number_is_kept", "is not JSON for"),
    (has_one_error, "test_each_error_says_its_own", "write the reason of each Err"),
    (has_errors_of_texts, "test_each_error_says_its_own", "E42"),
    (fails_where_the_tool_failed, "test_a_failed_call_says_why", "made no text of Err.*it raised TypeError"),
    (keeps_failures_secret, "test_a_failed_call_says_why", "no such city.* is missing in .*it failed"),
    (marks_no_failures, "test_a_failed_call_says_why", "not marked as an error"),
    (marks_no_errors_of_data, "test_each_error_says_its_own", "not marked"),
    (quotes, "test_a_text_stays_as_it_is", "without quotes"),
    (quotes, "test_an_empty_text_stays_empty", "without quotes"),
    (unsorted, "test_equal_values_have_equal_texts", "sort the keys"),
    (sorted_above, "test_equal_values_have_equal_texts", "at every depth"),
    (shortens, "test_a_map", "is not JSON"),
    (bytes_of, "test_a_text_stays_as_it_is", "gave bytes, not text"),
    (bytes_of, "test_a_map", "gave bytes, not text"),
    (prints, "test_a_map", "json = False"),
    (says_nothing_of_nothing, "test_nothing_a_number_and_a_truth", "is not JSON"),
    (rounds, "test_a_fraction", "is not JSON for 0.1"),
    (sorts_lists, "test_a_list", "is not JSON for"),
    (unwraps, "test_ok_is_marked", "is not JSON for {'ok'"),
    (hides_reasons, "test_an_error_is_marked", "the reason is not in"),
    (gives_reasons_alone, "test_an_error_is_marked", "not marked as an error"),
]


@pytest.mark.parametrize(("wrong", "law", "says"), ENCODERS, ids=of(ENCODERS))
def test_a_planted_encoder_fails_its_law_and_is_told_what_to_do(wrong, law, says):
    class Suite(EncoderSuite):
        def encoder(self):
            return wrong() if isinstance(wrong, type) else wrong

    with pytest.raises(AssertionError, match=says):
        getattr(Suite(), law)()


def test_every_law_of_encoders_is_broken_by_something_planted():
    laws = {name for name in vars(EncoderSuite) if name.startswith("test_")}
    assert laws == {law for _, law, _ in ENCODERS}


def test_an_encoder_that_cuts_what_is_long_says_from_where():
    class Suite(EncoderSuite):
        longest = 1000

        def encoder(self):
            return lambda value: text if len(text := right(value)) <= 1000 else f"{text[:1000]}… (cut off)"

    suite = Suite()
    suite.test_a_text_stays_as_long_as_it_is()
    suite.test_a_long_value_stays_as_long_as_it_is()


def test_an_encoder_that_writes_no_json_keeps_the_laws_that_are_left():
    class Suite(EncoderSuite):
        json = False

        def encoder(self):
            return lambda value: (
                value if isinstance(value, str) else "; ".join(sorted(repr(value).split(", ")))
            )

    suite = Suite()
    suite.test_a_map()
    suite.test_nothing_a_number_and_a_truth()
    suite.test_an_error_is_marked()
