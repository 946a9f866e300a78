"""One folder per provider's wire formats: encode a request, decode bytes to events. Shared code is beside the folders.

Rule of this package: pure, and the folders do not import each other. Which provider uses which format is in
`catalog`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["find_dialect"]


def find_dialect(name: str) -> Any:
    """The `DIALECT` of that name; its module is loaded at first use.

    A name is `PROVIDER_KIND` for `PROVIDER/KIND.py`, and `PROVIDER` for `PROVIDER/chat.py`. It is not the path, because
    stored messages name the format of their `provider_state` by it.
    """
    provider, _, kind = name.partition("_")
    return import_module(f"{__name__}.{provider}.{kind or 'chat'}").DIALECT
