"""Kernels for NVIDIA GPUs by Triton, if it is installed; each has a slower torch implementation.

A kernel's file imports ``jit`` and ``tl`` from here. If TRITON_INTERPRET=1 is set when this module
is first imported, kernels run in Triton's interpreter, also on tensors of the CPU. The interpreter
is some thousand times slower, and lets tests run without a GPU.
"""

from __future__ import annotations

import functools
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MISSING = "triton is not installed (pip install triton)"
try:
    if not (torch.version.cuda or torch.version.hip or INTERPRETED or "triton" in sys.modules):
        raise ImportError("this build of torch knows no GPU")  # which spares 70 MB
    import triton
    import triton.language as tl

    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6):
        raise ImportError(f"version {triton.__version__} is older than 3.6")  # tuples in kernels
except ImportError as error:  # the torch implementations are used
    triton = tl = None
    if error.name != "triton":
        MISSING = f"triton cannot be imported: {error}"

__all__ = ["jit", "launch", "serves", "tl", "why_not"]

OLDEST = (7, 5)  # lowest compute capability that the kernels compile for
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

# A lane is a sequence or a synapse. A thread has two lanes: asynchronous copies move at least four
# bytes, which are two numbers in bfloat16. 256 samples of 256 neurons make 512 programs for the 132
# processors of an H100. The sizes were chosen by this count, not by measurement.
WARPS = 2
LANES = 64 * WARPS
WIDEST = 32  # bytes of one kind in a lane; with 64 the taps' gradient has no register left
# A product fused with a sum would round once instead of twice and move spikes.
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False}


def why_not(x: Tensor) -> str | None:
    """The reason why Triton's kernels cannot run on a tensor, or None if they can."""
    if triton is None:
        return MISSING
    if x.device.type not in (("cuda", "cpu") if INTERPRETED else ("cuda",)):
        return "it runs on NVIDIA GPUs only"
    if x.dtype not in DTYPES:
        return "it needs float32, float64 or bfloat16"
    return _why_not_there(x.device) if x.is_cuda else None


@functools.cache
def _why_not_there(device: torch.device) -> str | None:
    """The reason why no kernel runs on a GPU (Triton needs a C compiler, for instance), or None."""
    if torch.cuda.get_device_capability(device) < OLDEST:
        return "the GPU is older than Triton supports"
    try:
        launch(_fill, 1, torch.empty(1, device=device))
    except Exception as error:  # of Triton, the compiler or the driver
        return f"Triton cannot compile here ({_in_a_line(error)})"
    return None


def _in_a_line(error: BaseException) -> str:
    """The first line of an error's first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = getattr(error, "error_message", None) or error  # Triton's text starts with the source
    line = next(iter(str(words).splitlines()), "")
    return f"{type(error).__name__}: {textwrap.shorten(line, 120, placeholder=' ...')}"


def serves(x: Tensor) -> bool:
    """Whether to use Triton's kernels: never on the CPU, where only tests call them."""
    return x.device.type == "cuda" and why_not(x) is None


def jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel, or a function that kernels call."""
    return function if triton is None else triton.jit(function)


def launch(
    kernel: Any, lanes: int, *arguments: Any, parts: int = 1, width: int = 1, **constants: Any
) -> None:
    """Run a kernel on the device of its first tensor.

    Args:
        kernel: a kernel from ``jit``.
        lanes: number of lanes.
        arguments: contiguous tensors and sizes, in the kernel's order.
        parts: number of programs that share the time steps of each lane.
        width: bytes of one kind per lane, a power of two; beyond ``WIDEST`` a program gets fewer
            lanes, since its numbers would not fit in the registers.
        constants: compile-time constants, by name.
    """
    each = max(LANES * WIDEST // max(width, WIDEST), 1)
    programs = -(-lanes // each), parts
    with torch.cuda.device_of(arguments[0]):
        kernel[programs](*arguments, LANES=each, **OPTIONS, **constants)


@jit  # Triton evaluates annotations inside the kernel, where names such as Any are unknown
def _fill(x, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Set the first number of ``x`` to 1, to test whether a kernel runs."""
    at = tl.arange(0, LANES)
    tl.store(x + at, at + 1.0, at < 1)
