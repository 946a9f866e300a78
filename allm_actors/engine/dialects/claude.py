"""What Claude wants at every provider: a thought of a newer model is bound to what came before it.

Rule of this file: pure. If `system`, `tools` or an earlier message has changed since a model thought, because a program
was deployed again or a message was removed, a request with that thought is refused, and so is every later one of the
conversation. So the server is asked to leave such thoughts out; the conversation goes on without them.

Source: https://platform.claude.com/docs/en/build-with-claude/preserved-thinking and, for Bedrock,
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-thinking-block-binding.html; both read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["BETA", "binds_thoughts", "is_disabled", "leaving_out_stale"]

BETA: Final = "thinking-binding-controls-2026-08-01"
"""The beta feature without which `block_binding` is refused."""

# Since 5.1; a longer number is the date of a snapshot.
_BINDS = re.compile(r"claude-[a-z]+-(?:5-[1-9]|[6-9]|[1-9]\d)(?!\d)")


def binds_thoughts(model: object) -> bool:
    """Whether this model's thoughts are bound to the conversation."""
    return _BINDS.search(str(model or "")) is not None


def is_disabled(thinking: object) -> bool:
    """Whether a request's `thinking` turns it off, so that nothing can be said about thoughts in it."""
    return isinstance(thinking, Mapping) and thinking.get("type") == "disabled"


def leaving_out_stale(thinking: Any) -> Any:
    """A request's `thinking` with which the server leaves out the thoughts that it would refuse.

    What the caller says in it stays, also about this.
    """
    if thinking is not None and not isinstance(thinking, Mapping):
        return thinking
    binding = {"prefix_mismatch_behavior": "drop_block"}
    return {"type": "adaptive", "block_binding": binding, **(thinking or {})}
