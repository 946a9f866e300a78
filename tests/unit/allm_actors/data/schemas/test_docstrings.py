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
