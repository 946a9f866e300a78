"""What the actors tell operators: structured events through the standard library's logger `allm_actors`.

Rule of this file: a library configures nothing. Whoever runs it decides with `logging` (or structlog's
`ProcessorFormatter`) where lines go; without that, only warnings and errors are seen. What was said in a conversation,
and keys, are never logged.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import structlog

__all__ = ["log"]


class _Log:
    """The logger, made by the first line: most programs log none, and would pay for structlog at each start."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)


log = cast("structlog.stdlib.BoundLogger", _Log())


@cache
def _logger() -> structlog.stdlib.BoundLogger:
    from structlog import stdlib, wrap_logger

    logger: stdlib.BoundLogger = wrap_logger(
        logging.getLogger("allm_actors"),
        wrapper_class=stdlib.BoundLogger,
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
