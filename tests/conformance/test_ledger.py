"""Every recorded exchange is accounted for, once, and the page of the reference says so."""

from collections import Counter

import pytest

from tests.conformance.ledger import COLUMNS, OTHER, PAGE, entries, printed, suites, unused_rules
from tests.conformance.traffic import TRAFFIC

pytestmark = [
    pytest.mark.skipif(not TRAFFIC.exists(), reason=f"no recorded traffic in {TRAFFIC}"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def found():
    return entries()


def test_every_file_is_in_exactly_one_cell(found):
    files = {f"{path.parent.name}/{path.stem}" for path in TRAFFIC.glob("*/*.json")}
    assert {name: count for name, count in Counter(entry.name for entry in found).items() if count > 1} == {}
    assert {entry.name for entry in found} == files
    assert {entry.column for entry in found} <= set(COLUMNS)


def test_whatever_is_not_compared_has_a_reason(found):
    assert [entry for entry in found if entry.column != COLUMNS[0] and not entry.reason] == []


def test_no_rule_outlives_what_it_was_for(found):
    assert unused_rules() == []


def test_what_a_suite_calls_different_is_there_to_differ(found):
    told = {name for suite in suites() for name in suite.differs}
    assert told == {entry.name for entry in found if entry.column == "differs"}


def test_every_conformance_file_has_a_suite():
    stems = sorted(path.name for path in PAGE.parents[2].glob("tests/conformance/test_*_traffic.py"))
    assert len(suites()) == len(stems), stems


def test_the_page_says_what_the_suites_come_to(found):
    assert OTHER in PAGE.read_text()
    assert PAGE.read_text() == printed()
