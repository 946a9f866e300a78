"""A host that was entered with `async with`, and its sessions, as a type checker sees them.

Rule of this file: types only. One class serves threads and event loops: a method that blocks on a thread
returns an awaitable on the loop (`host.session_ids()` there, `await host.session_ids()` here). On a thread beside
the loop it blocks, too, which types cannot say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .host import Host
from .sessions.handle import SessionHandle

__all__ = ["AsyncHost", "AsyncSessionHandle"]

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from typing import Any, Literal

    from allm_actors.data import Message, Session
    from allm_actors.engine.engine import Engine

    from .store import StoredSession

    class AsyncSessionHandle(SessionHandle):
        """A session's handle, on the event loop of its host."""

        def submit_tool_result(self, id: str, content: Any) -> Awaitable[Session]: ...  # type: ignore[override]
        def submit_tool_results(self, results: Sequence[tuple[str, Any]]) -> Awaitable[Session]: ...  # type: ignore[override]
        def recover(self) -> Awaitable[Session]: ...  # type: ignore[override]
        def replace_messages(self, messages: Sequence[Message]) -> Awaitable[Session]: ...  # type: ignore[override]
        def fork(self, id: str) -> Awaitable[AsyncSessionHandle]: ...  # type: ignore[override]
        def stop(self) -> Awaitable[bool]: ...  # type: ignore[override]

    class AsyncHost(Host):
        """A host, on the event loop that has entered it."""

        def session(
            self,
            id: str,
            engine: Engine,
            *,
            when_busy: Literal["queue", "reject", "interrupt"] = "queue",
            queue_limit: int = 16,
            system: str | None = None,
            api_key: Any = None,
        ) -> AsyncSessionHandle: ...
        def session_ids(self) -> Awaitable[list[str]]: ...  # type: ignore[override]
        def stored_sessions(self) -> Awaitable[list[StoredSession]]: ...  # type: ignore[override]
        def delete_session(self, id: str) -> Awaitable[None]: ...  # type: ignore[override]

else:
    AsyncHost, AsyncSessionHandle = Host, SessionHandle
