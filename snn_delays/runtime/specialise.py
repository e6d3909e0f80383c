"""Plain functions of numbers, written once for tensors, made ready for compilers."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def specialise(
    function: Callable[..., Any],
    module: str,
    suffix: str = "",
    number: Callable[[float], Any] = float,
    **names: Any,
) -> types.FunctionType:
    """A copy of a function with other things under some of its global names.

    A closure would not do: numba's cache tells closures apart by what they hold, which is new in
    every process.

    Args:
        function: plain Python.
        module: that the copy is said to be of: the caller's, on whose source the copy depends.
        suffix: of the copy's name, since numba tells functions apart by name; Triton's interpreter
            wants the name that stands in the source.
        number: type of the copy's float literals; numba would compute in float64 with others.
        names: what the copy finds under each name.
    """
    assert isinstance(function, types.FunctionType)
    code = function.__code__
    literals = tuple(number(c) if isinstance(c, float) else c for c in code.co_consts)
    copy = types.FunctionType(code.replace(co_consts=literals), {**function.__globals__, **names})
    copy.__annotations__ = function.__annotations__
    copy.__module__ = module
    copy.__qualname__ = copy.__name__ = function.__name__ + suffix
    return copy
