"""Predicates of single values: they take any value and never raise."""

import pytest

from allm_actors.data import ImagePart, Message, Part, TextPart
from allm_actors.data.predicates import all_of

TEXT = TextPart(text="a")


class Own(Message):
    """A message of a class of the user's."""


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([], Message, True),
        ((), Message, True),
        ([Message(role="user", content="")], Message, True),
        ([Own(role="user", content="")], Message, True),
        ([TEXT], Part, True),
        ((TEXT,), ImagePart, False),
        ([TEXT, None], Part, False),
        ({"a": TEXT}, Part, False),
        ("abc", str, False),
        (None, Message, False),
    ],
)
def test_a_list_or_a_tuple_is_all_of_a_kind(values, kind, expected):
    assert all_of(values, kind) is expected
