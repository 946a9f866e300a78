"""What a call's JSON text comes to."""

import pytest

import allm_actors as allm

HALVES = [r'{"s":"\ud83d"}', r'{"s":"\uD83Dx"}', r'{"s":"\udc00\ud83d\ude00"}', r'{"s":"\ud83d\u0041", "t": ']
CUT_IN_A_PAIR = [
    r'{"s":"\ud83d',
    r'{"s":"\ud83d\u',
    r'{"s":"\ud83d\ude0',
    r'{"s":"\ud83d\ude00',
    r'{"s":"\\ud83d',
]


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        *((None, {}), ("", {}), (" \n", {}), ("{}", {}), ('{"city": "Rome"}', {"city": "Rome"})),
        (r'{"s":"\ud83d\ude00 \\ud83d"}', {"s": r"😀 \ud83d"}),
    ],
)
def test_a_text_that_is_an_object_or_blank_is_read(raw, arguments):
    assert allm.read_arguments(raw) == (arguments, {})


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"city": "Ro', "the arguments are not valid JSON (Input data was truncated)"),
        ("[1]", "the arguments must be a JSON object, got an array"),
        ("null", "the arguments must be a JSON object, got null"),
        ('{"a": ' * 65 + "1" + "}" * 65, "the arguments are nested more than 64 levels deep"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "the arguments are nested more than 64 levels deep"),
        ("\ud800", "the arguments are not valid JSON"),
        *(
            (raw, f"the arguments are not valid JSON (the escape {raw[6:12]} is half of a surrogate pair)")
            for raw in HALVES
        ),
        *((raw, "the arguments are not valid JSON (Input data was truncated)") for raw in CUT_IN_A_PAIR),
    ],
)
def test_any_other_text_is_no_arguments_and_says_why(raw, why):
    arguments, metadata = allm.read_arguments(raw)
    assert (arguments, list(metadata)) == ({}, ["arguments_error"])
    assert metadata["arguments_error"].startswith(why)


def test_a_text_that_was_cut_off_is_never_no_arguments():
    for raw in ("", '{"city"'):
        assert allm.read_arguments(raw, cut_off=True) == (
            {},
            {"arguments_error": "the arguments were cut off by the token limit"},
        )
