"""Specialised copies of plain functions, so that one source serves tensors, numba and Triton."""

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
    """A copy of a function in which some global names have other values.

    A closure would not work: numba's cache identifies a closure by the values it holds, which are
    new objects in every process.

    Args:
        function: a plain Python function.
        module: ``__module__`` of the copy: the caller's module, on whose source the copy depends.
        suffix: appended to the copy's name, by which numba distinguishes functions; Triton's
            interpreter needs the name in the source, so no suffix.
        number: type of the copy's float literals; with Python floats numba computes in float64.
        names: the values of the copy's global names.
    """
    assert isinstance(function, types.FunctionType)
    code = function.__code__
    literals = tuple(number(c) if isinstance(c, float) else c for c in code.co_consts)
    copy = types.FunctionType(code.replace(co_consts=literals), {**function.__globals__, **names})
    copy.__annotations__ = function.__annotations__
    copy.__module__ = module
    copy.__qualname__ = copy.__name__ = function.__name__ + suffix
    return copy
