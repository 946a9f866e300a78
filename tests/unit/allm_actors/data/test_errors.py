"""Errors as values: closed reasons, default messages, equality, and nothing lost on the way to another process."""

import copy
import pickle

import pytest
from hypothesis import given

from allm_actors.data import (
    AdapterError,
    AllmError,
    EngineError,
    ImageAdapterError,
    SessionBusy,
    SessionError,
    SessionStatusError,
    StreamError,
    ToolError,
    ValidationError,
)
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.codec.shapes import CODES
from allm_actors.testing import strategies


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("missing_key"), "engine error: missing_key"),
        (AdapterError("timeout"), "adapter error: timeout"),
        (AdapterError("timeout", provider="openai"), "adapter error (openai): timeout"),
        (ImageAdapterError("unsupported_operation"), "image adapter error: unsupported_operation"),
        (StreamError("cancelled"), "stream error: cancelled"),
        (ToolError("timeout", tool_name="f"), "tool error (f): timeout"),
        (SessionError("unknown_tool_call_id"), "session error: unknown_tool_call_id"),
        (StreamError("timeout", message=""), "stream error: timeout"),
        (AdapterError("timeout", message="late"), "late"),
    ],
    ids=str,
)
def test_what_is_printed(error, text):
    assert str(error) == text


def test_a_validation_error_counts_its_failures_and_lists_them_where_it_explains_itself():
    failures = [("messages", "empty"), (["tools", 0, "name"], "empty")]
    error = ValidationError("invalid_request", failures, metadata={"k": 1})
    assert str(error) == error.message == "validation failed: invalid_request (2 error(s))"
    explained = error.explained([None, "a word"])
    assert explained.message == f"{error.message} messages: empty; tools.0.name: empty (a word)"
    assert (explained.errors, explained.metadata) == (failures, {"k": 1})
    assert str(ValidationError("invalid_thread", []).explained()).endswith("(0 error(s))")


def test_a_part_that_cannot_be_sent_says_what_to_do():
    error = ValidationError("invalid_message", [(["content", 0, 1], "unresolvable_image"), ("a", [])])
    assert (
        "content.0.1: unresolvable_image (its file cannot be read, or its Base64 cannot be decoded); a: (list)"
        in str(error.explained())
    )


class Mute:
    def __str__(self):
        raise RuntimeError("not for printing")


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("messages", "messages"),
        ("ab", "ab"),
        (5, "5"),
        (None, "None"),
        (2**20_000, "(int)"),
        (Mute(), "(Mute)"),
        ({"field": "x"}, "(dict)"),
        ((), "(tuple)"),
        (("a", "b", "c"), "(tuple)"),
        (["messages", "empty"], "messages: empty"),
        ((("messages", 0), "empty"), "messages.0: empty"),
        ((["messages", Mute()], Mute()), "messages.(Mute): (Mute)"),
        ((None, 3), "None: 3"),
    ],
    ids=[f"{at}" for at in range(13)],
)
def test_a_failure_of_any_shape_is_listed_and_kept(entry, shown):
    error = ValidationError("invalid_request", [entry, ("tools", "empty")])
    assert str(error.explained()) == f"validation failed: invalid_request (2 error(s)) {shown}; tools: empty"
    assert error.errors == [entry, ("tools", "empty")]


def test_an_unknown_reason_or_field_is_refused():
    with pytest.raises(ValueError, match=r"AdapterError reason must be one of .*, got: 'bored'"):
        AdapterError("bored")
    for reason in ([], {}, None):
        with pytest.raises(ValueError, match="AdapterError reason must be one of"):
            AdapterError(reason)
    with pytest.raises(TypeError, match="ToolError has no field 'status'"):
        ToolError("timeout", status=5)
    with pytest.raises(TypeError, match="errors must be a list, got: tuple"):
        ValidationError("invalid_request", ())


ADAPTER_ERRORS = [cls for cls in CODES if issubclass(cls, AdapterError)]


@pytest.mark.parametrize("cls", ADAPTER_ERRORS)
def test_every_adapter_error_has_the_id_of_its_request(cls):
    error = cls("timeout", provider="p", request_id="r1")
    assert error.request_id == "r1"
    assert cls("timeout").request_id is None
    for other in (
        pickle.loads(pickle.dumps(error)),
        from_json(to_json(error)),
        from_msgpack(to_msgpack(error)),
    ):
        assert (other, other.request_id) == (error, "r1")


def test_an_error_of_what_is_not_chat_has_the_id_in_its_metadata():
    assert ImageAdapterError("timeout", metadata={"request_id": "r1"}).request_id == "r1"
    error = ImageAdapterError("timeout", metadata={"a": 1}, request_id="r1")
    assert error.metadata == {"a": 1, "request_id": "r1"}
    assert "request_id" not in error.to_fields()


def test_equal_fields_make_equal_errors():
    assert AdapterError("timeout", status=1) == AdapterError("timeout", status=1)
    assert AdapterError("timeout", status=1) != AdapterError("timeout", status=2)
    assert ImageAdapterError("timeout") != AdapterError("timeout")
    assert hash(AdapterError("timeout")) == hash(AdapterError("timeout"))


def test_a_wrong_status_is_also_a_value_error():
    assert issubclass(SessionStatusError, ValueError)
    assert issubclass(SessionBusy, SessionError)
    assert issubclass(ImageAdapterError, AdapterError)


@given(strategies.errors())
def test_errors_survive_pickle_copy_and_their_own_fields(error):
    assert pickle.loads(pickle.dumps(error)) == error
    assert copy.deepcopy(error) == error
    assert type(error).from_fields(error.to_fields()) == error
    assert isinstance(error, AllmError)


class Mine(AdapterError):
    """An error of the user's, made with one number."""

    def __init__(self, code):
        super().__init__("timeout", message=f"code {code}")
        self.code = code


class Hinting(AdapterError):
    """One whose text needs what it adds, and whose making takes a number."""

    def __new__(cls, count):
        return super().__new__(cls)

    def __init__(self, count):
        super().__init__("rate_limited", message="slow down")
        self.hint = f"wait {count} s"

    def __str__(self):
        return f"{self.message}: {self.hint}"


class MyRefusal(ValidationError):
    """The same for a refusal."""

    def __init__(self, count):
        super().__init__("invalid_message", [("messages", "empty")] * count)
        self.count = count


def test_a_copy_of_an_error_is_of_its_class_and_keeps_what_the_class_adds():
    error = Mine(7)
    error.add_note("seen by the adapter")
    told = error.replaced(status=504)
    assert (type(told), told.code, told.__notes__) == (Mine, 7, ["seen by the adapter"])
    assert (told.status, told.message, str(told), error.status) == (504, "code 7", "code 7", None)
    signed = error.of_call("r1")
    assert (type(signed), signed.code, signed.request_id, error.request_id) == (Mine, 7, "r1", None)
    explained = MyRefusal(1).explained()
    assert (type(explained), explained.count) == (MyRefusal, 1)
    assert explained.message.endswith("messages: empty")


def test_an_error_of_the_users_is_pickled_and_copied_with_its_fields():
    for error in (Mine(7), MyRefusal(2), Hinting(9)):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert again == error
            assert vars(again) == vars(error)
            assert str(again) == str(error)


def test_an_error_is_shown_with_what_tells_it_from_others():
    refused = AdapterError(
        "rate_limited", message="slow down", provider="openai", status=429, request_id="r1"
    )
    shown = "message='slow down', provider='openai', status=429, request_id='r1'"
    assert repr(refused) == f"AdapterError('rate_limited', {shown})"
    assert (
        repr(EngineError("missing_key", message="no key")) == "EngineError('missing_key', message='no key')"
    )
