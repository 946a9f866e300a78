"""Whose message a refusal is about: one of this turn, or one that the session has had before."""

import pytest

import allm_actors as allm
from allm_actors.execution.inherited import with_way_out

PICTURE = allm.user([allm.ImagePart(image=allm.Image.from_base64("!!!", mime_type="image/png"))])
PAPER = allm.user([allm.DocumentPart(document=allm.Document.from_url("https://example.org/a.pdf"))])
LONE, LONE_PART = allm.user("\ud800"), allm.user([allm.TextPart(text="\udfff")])
HALF = allm.Message(role="assistant", content="Hel", metadata={"partial": True})
FINE = allm.user("hi")

ABOUT = [
    (["content", 0, 0], "unresolvable_image", PICTURE),
    (("content", 0, 0), "unresolvable_image", PICTURE),
    (["messages", 0, "content"], "image_in_system_message", PICTURE),
    ("text", "not_unicode", LONE),
    ("text", "not_unicode", LONE_PART),
    (["vision"], "vision_disabled", PICTURE),
    (["documents"], "documents_disabled", PAPER),
]


def refusal(*errors):
    return allm.ValidationError("invalid_request", list(errors)).explained()


class Theirs(allm.ValidationError):
    """An error of somebody's adapter."""

    def __init__(self, count):
        super().__init__("invalid_message", [(["content", 0, 0], "no_pictures")], message="no pictures")
        self.count = count


def test_an_error_of_a_class_of_its_own_keeps_what_that_adds():
    error = Theirs(3)
    error.add_note("seen by the adapter")
    error.__cause__ = OSError("down")
    told = with_way_out(error, [PICTURE], [PICTURE])
    assert (type(told), told.count, told.__notes__) == (Theirs, 3, ["seen by the adapter"])
    assert str(told).startswith("no pictures; the session has had messages[0]")
    assert (told.__cause__, str(error)) == (error.__cause__, "no pictures")


@pytest.mark.parametrize(("field", "code", "message"), ABOUT)
def test_a_refusal_for_what_was_said_before_tells_the_way_out(field, code, message):
    error = refusal((field, code))
    told = with_way_out(error, [message, FINE], [HALF, message])
    assert (type(told), told.reason, told.errors) == (type(error), error.reason, error.errors)
    assert told.message.startswith(
        f"{error.message}; the session has had messages[1] since an earlier turn: "
    )
    assert "session.replace_messages(…)" in told.message
    assert "allm.session.replace_messages(session, …)" in told.message


@pytest.mark.parametrize(("field", "code", "message"), ABOUT)
def test_a_refusal_for_what_is_said_now_stays_as_it_is(field, code, message):
    error = refusal((field, code))
    assert with_way_out(error, [message], []) is error
    if code in ("unresolvable_image", "image_in_system_message"):
        error = refusal(([field[0], 1, *field[2:]], code))
    assert with_way_out(error, [FINE, message], [FINE]) is error


def test_all_of_the_earlier_messages_that_it_is_about_are_named():
    messages = [LONE, FINE, LONE_PART, allm.user("\ud801")]
    told = with_way_out(refusal(("text", "not_unicode")), messages, messages[:3])
    assert "the session has had messages[0], messages[2] since an earlier turn" in told.message


@pytest.mark.parametrize(
    "entry",
    [
        ("temperature", "out_of_range"),
        ("messages", "empty"),
        (["tools"], "tools_disabled"),
        (["content", 7, 0], "unresolvable_image"),
        (["content", -1, 0], "unresolvable_image"),
        (["messages", "0"], "invalid_type"),
        "nonsense",
        None,
    ],
)
def test_a_refusal_about_no_message_stays_as_it_is(entry):
    error = allm.ValidationError("invalid_request", [entry])
    assert with_way_out(error, [FINE], [FINE]) is error


def test_another_error_stays_as_it_is():
    error = allm.EngineError("missing_key")
    assert with_way_out(error, [PICTURE], [PICTURE]) is error


def test_where_it_was_raised_and_why_is_kept():
    def refuse():
        try:
            raise KeyError("why")
        except KeyError as why:
            raise refusal((["content", 0, 0], "unresolvable_image")) from why

    with pytest.raises(allm.ValidationError) as refused:
        refuse()
    told = with_way_out(refused.value, [PICTURE], [PICTURE])
    assert told is not refused.value
    assert told.__cause__ is refused.value.__cause__
    assert told.__traceback__ is refused.value.__traceback__
