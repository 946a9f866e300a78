"""What is told of an exception: what went wrong, also where a group holds it."""

from allm_actors.execution.tool_errors import describe


def test_an_exception_is_its_type_and_its_text():
    assert describe(LookupError("no such city")) == "LookupError: no such city"
    assert describe(LookupError()) == "LookupError"


def test_of_a_group_the_errors_in_it_are_told():
    inner = ExceptionGroup("inner", [ValueError("two"), LookupError("three")])
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ConnectionError("one"), inner])
    told = describe(group)
    assert told.startswith("ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions): ")
    assert told.endswith("ConnectionError: one; ValueError: two; LookupError: three")


def test_of_a_large_group_a_few_are_told():
    told = describe(ExceptionGroup("many", [ValueError(str(number)) for number in range(1000)]))
    assert "ValueError: 4" in told
    assert "ValueError: 5" not in told


def test_of_what_an_exception_says_at_length_the_beginning_is_told():
    told = describe(ValueError("x" * 5_000_000))
    assert told == f"ValueError: {'x' * 10_000}… (5,000,000 characters)"
    assert describe("x" * 50_000) == "x" * 50_000  # what a handler says itself


def test_what_cannot_be_described_is_named():
    class Rude(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe(Rude()) == "<Rude>"
    assert describe(ExceptionGroup("group", [Rude()])).endswith(": <Rude>")
