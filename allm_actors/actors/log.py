"""What the actors tell operators: structured events through the standard library's logger `allm_actors`.

Rule of this file: a library configures nothing. Whoever runs it decides with `logging` (or structlog's
`ProcessorFormatter`) where lines go; without that, only warnings and errors are seen. What was said in a conversation,
and keys, are never logged.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

__all__ = ["log"]


def _readable(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    fields = " ".join(
        f"{name}={value!r}" for name, value in event.items() if name not in ("event", "exc_info")
    )
    event["event"] = f"{event['event']} {fields}".rstrip()
    return event


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("allm_actors"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        _readable,
        structlog.stdlib.render_to_log_kwargs,
    ],
)
