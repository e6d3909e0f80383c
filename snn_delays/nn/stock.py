"""Which modules the fast paths may stand in for."""

from __future__ import annotations

import functools
from typing import Any


def is_stock(module: Any, *kinds: type) -> bool:
    """Whether a module does what one of these classes does, and nothing else.

    A subclass may override anything, and so may an attribute of the instance that hides a method.
    """
    kind: type = type(module)
    return kind in kinds and _methods(kind).isdisjoint(vars(module))


@functools.cache
def _methods(kind: type) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))
