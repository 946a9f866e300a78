"""The seam to Pykka: the attributes and factories that it expects of an actor, answered by the process's ref.

The rule of this file: an actor has no inbox, no number and no stop flag of its own. It has a ref, and the ref has them.

Source: `pykka.Actor` (4.5): `_create_actor_inbox`, `_create_future`, `actor_urn`, `actor_inbox`, `actor_stopped`.
"""

from __future__ import annotations

from typing import Any, Self

from supervisors.runtime.future import Future
from supervisors.runtime.hooks import Hooks
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.ref import Ref

__all__ = ["PykkaBase"]


class PykkaBase(Hooks):
    """An actor whose inbox, number and stop flag are those of its ref."""

    _actor_ref: Ref[Any]

    def __str__(self) -> str:
        return str(self._actor_ref)

    @property
    def ref(self) -> Ref[Self]:
        """The ref of this process, which may be given to others."""
        return self._actor_ref

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """See `Ref.actor_urn`."""
        return self._actor_ref.actor_urn

    @property
    def actor_inbox(self) -> Any:  # type: ignore[override]
        """The mailbox."""
        return self._actor_ref.actor_inbox

    @property
    def actor_stopped(self) -> Any:  # type: ignore[override]
        """See `Ref.actor_stopped`."""
        return self._actor_ref.actor_stopped

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()
