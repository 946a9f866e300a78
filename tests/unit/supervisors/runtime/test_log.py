"""What the runtime has to say is said, and what becomes of it is nobody's trouble."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisors.runtime.log import log

LOGGER = logging.getLogger("supervisors")


class Failing(logging.Handler):
    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self.failure = failure

    def emit(self, _record: logging.LogRecord) -> None:
        raise self.failure


@pytest.fixture
def failing(request: pytest.FixtureRequest) -> Iterator[None]:
    handler = Failing(request.param)
    LOGGER.addHandler(handler)
    yield
    LOGGER.removeHandler(handler)


@pytest.mark.parametrize(
    "failing", [AttributeError("request_id"), SystemExit(1), GeneratorExit()], indirect=True, ids=repr
)
@pytest.mark.usefixtures("failing")
def test_a_handler_that_fails_is_shown_and_goes_no_further(capsys: pytest.CaptureFixture[str]) -> None:
    log.error("something")
    shown = capsys.readouterr().err
    assert "--- Logging error ---" in shown
    assert "in emit" in shown


@pytest.mark.parametrize("failing", [ValueError("no")], indirect=True)
@pytest.mark.usefixtures("failing")
def test_it_is_not_shown_where_logging_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.warning("something")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(sys, "stderr", None)
    log.warning("something")
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("failing", [KeyboardInterrupt()], indirect=True)
@pytest.mark.usefixtures("failing")
def test_ctrl_c_is_for_the_main_thread() -> None:
    with pytest.raises(KeyboardInterrupt):
        log.critical("something")
    elsewhere = threading.Thread(target=log.critical, args=("something",))
    elsewhere.start()
    elsewhere.join()


def test_a_line_names_who_has_said_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="supervisors")
    says: list[Any] = [log.info, log.warning, log.error, log.critical]
    for say in says:
        say("%s is %d", "it", 3)
    log.log(logging.DEBUG, "%s is %d", "it", 3)
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("%s is %d", "it", 3)
    assert {record.getMessage() for record in caplog.records} == {"it is 3"}
    assert [record.levelno for record in caplog.records] == [20, 30, 40, 50, 10, 40]
    assert {record.filename for record in caplog.records} == {Path(__file__).name}
    assert caplog.records[-1].exc_info is not None
