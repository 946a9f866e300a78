"""Every recorded stream says the same whatever the network does to it, and an early end of it is one error."""

from functools import partial

import pytest

from tests.conformance.ledger import suites
from tests.conformance.traffic import (
    assert_cut_anywhere,
    assert_lines_may_end_in_any_way,
    assert_whole_streams_cut,
    cases,
    server_events,
)

SUITES = {exchange.name: suite for suite in suites() for exchange in suite.streams}
streams = [exchange for suite in suites() for exchange in suite.streams]
every_stream = cases(streams)


def decoder_for(exchange):
    return partial(SUITES[exchange.name].decoder, exchange)


def frames_of(exchange):
    return SUITES[exchange.name].frames(exchange.body)


@pytest.mark.slow
@every_stream
def test_a_cut_anywhere_changes_nothing_and_an_early_end_is_one_error(exchange):
    assert_cut_anywhere(decoder_for(exchange), frames_of(exchange))


@every_stream
def test_whole_streams_cut_in_two_and_short(exchange):
    assert_whole_streams_cut(decoder_for(exchange), exchange.body)


@cases(exchange for exchange in streams if SUITES[exchange.name].frames is server_events)
def test_lines_may_end_in_any_way(exchange):
    assert_lines_may_end_in_any_way(decoder_for(exchange), b"".join(frames_of(exchange)))
