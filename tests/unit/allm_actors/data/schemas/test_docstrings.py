"""Three styles of docstrings, and none."""

from allm_actors.data.schemas.docstrings import read


def test_no_docstring():
    assert read(None) == ("", {})


def test_prose_is_description():
    text = "First line.\n\n    Second paragraph:\n    with a colon.\n    "
    assert read(text) == ("First line.\n\nSecond paragraph:\nwith a colon.", {})


def test_google():
    text = """Weather.

    More.

    Args:
        city (str): The city,
            in any spelling: Oslo.
        unit: c or f.
        **others (Any): passed on.

    Returns:
        temperature: not a parameter.

    Raises:
        KeyError: nor this.
    """
    assert read(text) == (
        "Weather.\n\nMore.",
        {"city": "The city, in any spelling: Oslo.", "unit": "c or f.", "others": "passed on."},
    )


def test_a_deeper_line_goes_on_and_prose_behind_a_section_ends_it():
    text = """Weather.

    Args:
        city: The city,
            note: in any spelling.
    Prose again.
        unit: not a parameter.
    """
    assert read(text) == ("Weather.", {"city": "The city, note: in any spelling."})


def test_a_line_may_begin_with_a_role():
    text = """Ship it.

    :class:`Order` is what you get.

    Args:
        order: What to ship.
    """
    assert read(text) == ("Ship it.\n\n:class:`Order` is what you get.", {"order": "What to ship."})


def test_arguments_may_be_all_there_is():
    assert read("""Args:
        city: The city,
            in any spelling.
        unit: c or f.
    """) == ("", {"city": "The city, in any spelling.", "unit": "c or f."})


def test_prose_behind_arguments_at_the_beginning_ends_them():
    text = """Args:
        x: the x
        y: the y

    Do this always."""
    assert read(text) == ("", {"x": "the x", "y": "the y"})


def test_numpys_other_parameters_are_parameters():
    text = "Weather.\n\nOther Parameters\n----------------\nunit : str\n    c or f."
    assert read(text) == ("Weather.", {"unit": "c or f."})


def test_a_parameter_of_which_nothing_is_said_has_no_text():
    assert read("Weather.\n\n:param city:\n:param unit: c or f.") == ("Weather.", {"unit": "c or f."})


def test_numpy():
    text = """Weather.

    Parameters
    ----------
    city : str
        The city,
        in any spelling.
    lat, lon : float
        A place.
    plain

    Returns
    -------
    float
        The temperature.
    """
    assert read(text) == (
        "Weather.",
        {"city": "The city, in any spelling.", "lat": "A place.", "lon": "A place."},
    )


def test_sphinx():
    text = """Weather.

    :param city: The city,
        in any spelling.
    :param str unit: c or f.
    :type city: str
    :returns: the temperature
    """
    assert read(text) == ("Weather.", {"city": "The city, in any spelling.", "unit": "c or f."})
