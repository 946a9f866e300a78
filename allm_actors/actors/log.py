"""What the actors log for operators: structured events through the standard library's logger `allm_actors`.

Rule of this file: a library configures nothing. The application decides with `logging` (or structlog's
`ProcessorFormatter`) where lines go; without that, only warnings and errors are seen. Contents of
conversations, and keys, are never logged. A filter or a handler that raises is reported on stderr and does
not disturb the caller.
"""

from __future__ import annotations

import logging
import sys
import traceback
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import structlog

__all__ = ["log"]


class _Log:
    """The logger, made for the first line: most programs log nothing, and need not pay for importing structlog."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)


log: structlog.stdlib.BoundLogger = cast("structlog.stdlib.BoundLogger", _Log())


@cache
def _logger() -> structlog.stdlib.BoundLogger:
    from structlog import stdlib, wrap_logger

    class Contained(stdlib.BoundLogger):
        def _proxy_to_logger(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super()._proxy_to_logger(*args, **kwargs)
            except Exception:  # noqa: BLE001 - a handler or filter of the application's
                if logging.raiseExceptions and sys.stderr:
                    sys.stderr.write("--- Logging error ---\n")  # the words of `logging.Handler.handleError`
                    traceback.print_exc()

    logger: stdlib.BoundLogger = wrap_logger(
        logging.getLogger("allm_actors"),
        wrapper_class=Contained,
        processors=[
            stdlib.filter_by_level,
            stdlib.PositionalArgumentsFormatter(),
            _readable,
            stdlib.render_to_log_kwargs,
        ],
    )
    return logger


def _readable(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    fields = " ".join(
        f"{name}={value!r}" for name, value in event.items() if name not in ("event", "exc_info")
    )
    event["event"] = f"{event['event']} {fields}".rstrip()
    return event
