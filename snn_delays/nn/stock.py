"""Which modules the fast paths may stand in for."""

from __future__ import annotations

from typing import Any


def is_stock(module: Any, *kinds: type) -> bool:
    """Whether a module does what one of these classes does, and nothing else.

    A subclass may override anything, and so may an attribute of the instance that hides a method.
    """
    kind = type(module)
    return kind in kinds and not any(callable(getattr(kind, name, None)) for name in vars(module))
