"""Names that survive restarts: send to a name, and whoever has it now gets the message.

The rule of this file: a name, a `Via` and a ref may stand wherever a process is meant; they are resolved at each use.

Source: Elixir `GenServer.whereis`, `{:via, module, term}`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from supervisors.errors import ProcessDown
from supervisors.reasons import NOPROC
from supervisors.runtime.names import Name, Names, NamesLike, Via
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import running
from supervisors.runtime.system import System

__all__ = ["Name", "Names", "NamesLike", "Via", "ask", "resolve", "send", "tell", "via", "whereis"]


def via(registry: NamesLike, key: Hashable) -> Via:
    """The process that `registry` knows as `key`, whoever that is at each use."""
    return Via(registry, key)


def whereis(target: Ref[Any] | Name) -> Ref[Any] | None:
    """The process that is meant, in the current system; None if nobody has the name."""
    return target if isinstance(target, Ref) else System.current().names.whereis(target)


def resolve(target: Ref[Any] | Name) -> Ref[Any]:
    """`whereis`, for those who need somebody.

    Raises: `ProcessDown` if nobody has the name.
    """
    found = whereis(target)
    if found is None:
        raise ProcessDown(NOPROC, target)
    return found


def tell(target: Ref[Any] | Name, message: Any) -> None:
    """Send.

    Raises: `ProcessDown` if there is no such process, `MailboxFull`.
    """
    resolve(target).tell(message)


def ask(target: Ref[Any] | Name, message: Any, *, timeout: float | None = None) -> Any:
    """Send and wait for the answer; see `Ref.ask`.

    Units: seconds. Raises: `ProcessDown`, `pykka.Timeout`, and what the handler raised.
    """
    return resolve(target).ask(message, timeout=timeout)


def send(target: Ref[Any] | Name, message: Any) -> bool:
    """Send and never raise: what cannot be delivered becomes a dead letter (False)."""
    found = whereis(target)
    if found is not None:
        return found.send(message)
    process = running.process
    sender = None if process is None else process.ref
    System.current().dead_letters.add(message, target, sender, "no process of that name")
    return False
