"""The tables of the reference say what the code says; `python -m tests.integration.tables` prints them anew."""

import os
import re

import pytest

from allm_actors.engine import keys

from .tables import PAGES, TABLES, printed


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    keys.clear()
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "<!-- table:" in page.read_text()], ids=lambda page: page.stem
)
def test_the_tables_of_the_page_are_those_of_the_code(page):
    text = page.read_text()
    assert text == printed(text)


def test_every_table_is_printed_once():
    places = [name for page in PAGES for name in re.findall(r"<!-- table: ([a-z-]+) -->", page.read_text())]
    assert sorted(places) == sorted(TABLES)
