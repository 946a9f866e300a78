"""One folder per wire format: encode a request, decode bytes to events. What they share stands beside them.

Rule of this package: pure, and the folders do not know each other. Who speaks whose format is a row of the catalog.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["find_dialect"]


def find_dialect(name: str) -> Any:
    """The `DIALECT` of that name, whose module is loaded when it is first asked for.

    A name is `PROVIDER_KIND` for `PROVIDER/KIND.py`, and `PROVIDER` for `PROVIDER/chat.py`. It is not the path, because
    messages that were stored say by it in whose format their state is.
    """
    provider, _, kind = name.partition("_")
    return import_module(f"{__name__}.{provider}.{kind or 'chat'}").DIALECT
