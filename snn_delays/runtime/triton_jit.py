"""Kernels for NVIDIA GPUs by Triton, where it is installed; everything has a slower way without it.

A kernel's file takes ``jit`` and ``tl`` from here. With TRITON_INTERPRET=1 in the environment when
this module is first imported, kernels run in Triton's interpreter, on tensors of the CPU as well:
the same code without a GPU, some thousand times slower, for tests.
"""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MISSING = "triton is not installed (pip install triton)"
try:
    import triton
    import triton.language as tl
except ImportError as error:  # the portable implementations serve
    triton = tl = None
    if error.name != "triton":
        MISSING = f"triton cannot be imported: {error}"

__all__ = ["jit", "launch", "serves", "tl", "why_not"]

INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
OLDEST = (7, 5)  # compute capability that the kernels compile for
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

# A lane is a sequence or a synapse, two of them to a thread: copies that run ahead of the loop move
# four bytes at least, two numbers in bfloat16. With 256 samples of 256 neurons there are 512
# programs for the 132 processors of an H100. Chosen by that count; no size was measured.
WARPS = 2
LANES = 64 * WARPS
WIDEST = 32  # bytes of one kind in a lane; with 64 the taps' gradient has no register left
# A product fused with a sum would round once instead of twice and move spikes.
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False}


def why_not(x: Tensor) -> str | None:
    """Why Triton's kernels cannot serve a tensor, or None where they can."""
    if triton is None:
        return MISSING
    if x.device.type not in (("cuda", "cpu") if INTERPRETED else ("cuda",)):
        return "it runs on NVIDIA GPUs only"
    if x.dtype not in DTYPES:
        return "it needs float32, float64 or bfloat16"
    return _why_not_there(x.device) if x.is_cuda else None


@functools.cache
def _why_not_there(device: torch.device) -> str | None:
    """Why no kernel runs on a GPU: Triton needs a compiler for C there, among other things."""
    if torch.cuda.get_device_capability(device) < OLDEST:
        return "the GPU is older than Triton supports"
    try:
        launch(_fill, 1, torch.empty(1, device=device))
    except Exception as error:  # of Triton, the compiler or the driver
        return f"Triton cannot compile here ({_in_a_line(error)})"
    return None


def _in_a_line(error: BaseException) -> str:
    """The first line of the error that caused an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = getattr(error, "error_message", None) or error  # Triton's text starts with the source
    line = next(iter(str(words).splitlines()), "")
    return f"{type(error).__name__}: {textwrap.shorten(line, 120, placeholder=' ...')}"


def serves(x: Tensor) -> bool:
    """Whether Triton's kernels are to be taken: never on the CPU, where tests alone want them."""
    return x.device.type == "cuda" and why_not(x) is None


def jit(function: Callable[..., Any]) -> Any:
    """Make a kernel, or a function that kernels call."""
    return function if triton is None else triton.jit(function)


def launch(
    kernel: Any, lanes: int, *arguments: Any, parts: int = 1, width: int = 1, **constants: Any
) -> None:
    """Run a kernel where its first tensor is.

    Args:
        kernel: made by ``jit``.
        lanes: how many there are.
        arguments: contiguous tensors and sizes in the kernel's order.
        parts: programs that share the time of each lane.
        width: bytes that a lane holds of one kind, a power of two; beyond ``WIDEST`` a program has
            fewer lanes, or its numbers would not fit the registers.
        constants: by name.
    """
    each = max(LANES * WIDEST // max(width, WIDEST), 1)
    programs = -(-lanes // each), parts
    with torch.cuda.device_of(arguments[0]):
        kernel[programs](*arguments, LANES=each, **OPTIONS, **constants)


@jit  # Triton runs annotations as code of the kernel, which knows no global such as Any
def _fill(x, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first number of ``x`` <- 1: to see whether a kernel runs."""
    at = tl.arange(0, LANES)
    tl.store(x + at, at + 1.0, at < 1)
