"""Compile every kernel for a GPU, which needs none: a line each, with what the code is made of.

Run where TRITON_INTERPRET is off, with the compute capability, 90 for an H100. The package's own
functions ask for the kernels and Triton compiles them as it does on a GPU; only the launch is left
out. A line holds the kernel, T, B, C or the kernel count, precision, registers, bytes of stack (for
what registers do not hold), barriers, fused products, and copies that run ahead.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from snn_delays import ops
from snn_delays.ops import batch_norm_triton
from snn_delays.ops.batch_norm import Running
from snn_delays.ops.maps import depthwise_triton
from snn_delays.ops.neurons import ADAPTIVE_AFTER, LEAKY, LI, LIF, PLI, PLIF, Cell
from snn_delays.ops.resets import RESETS
from snn_delays.ops.scan import triton as scan_triton
from snn_delays.ops.surrogates import SURROGATES
from snn_delays.ops.taps import SHAPES
from snn_delays.ops.taps import triton as taps_triton
from snn_delays.runtime import triton_jit

CAPABILITY = int(sys.argv[1])
STATE = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}
SOFT, TRIANGLE = RESETS["soft", False], SURROGATES["triangle"]
CELLS = [Cell(LIF, (1.005,)), Cell(PLIF), Cell(LI, (1.005,)), Cell(PLI), Cell(LEAKY)]
CELLS += [Cell(ADAPTIVE_AFTER, surrogate=TRIANGLE), Cell(LIF, (1.005,), 0.9, reset=SOFT)]
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Gpu:
    """Stands in for Triton's driver, of which compiling wants the kind of GPU alone."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def watch() -> list[Any]:
    """Let Triton compile and not launch; what it compiles is added to the list."""
    compiled: list[Any] = []

    def run(self: Any, *arguments: Any, real: Any = JITFunction.run, **options: Any) -> None:
        compiled.append(real(self, *arguments, **{**options, "warmup": True}))

    driver.set_active(Gpu())
    JITFunction.run = run
    return compiled


def sequences(T: int, B: int, C: int, dtype: torch.dtype) -> None:
    """All kernels of norm, neuron and dropout."""
    y, state = torch.empty(T, B, C, dtype=dtype), STATE[dtype]
    factors, mask = torch.empty(4, C, dtype=state), torch.empty(B, C, dtype=dtype)
    norm, v, g = factors[:3], torch.empty(1, B, C, dtype=state), torch.empty(T, B, C, dtype=state)
    channel, pivot = torch.empty(C, dtype=state), norm[0]
    sums = batch_norm_triton.sums(y, pivot)
    for running in (None, Running(channel, channel, torch.empty((), dtype=torch.int64), 0.1)):
        moments, _ = batch_norm_triton.statistics(
            sums, pivot, channel, channel, 1e-5, T * B, running
        )
    batch_norm_triton.factors_of(sums[0], moments, channel, channel, T * B)
    scan_triton.scan(CELLS[0], y, v, (), (norm, mask), y, at_rest=True)
    scan_triton.gradient(CELLS[0], y, None, (), (norm, mask), y, g, None)
    batch_norm_triton.norm_gradient(g, y, factors, y)
    if dtype != state:
        return
    for cell in CELLS:
        own = [channel if cell.neuron.states > 1 else y.new_empty(())] * cell.neuron.parameters
        states = v.expand(cell.neuron.states, B, C).contiguous()
        scan_triton.scan(cell, y, states, own, (), y, at_rest=False)
        scan_triton.gradient(cell, y, states, own, (), y, g, states)


def synapses(count: int, dtype: torch.dtype) -> None:
    """All kernels of the taps."""
    weight, taps = torch.empty(16, 48, count, dtype=dtype), torch.empty(25, 48, 16, dtype=dtype)
    weight, width = weight.transpose(0, 1), torch.empty((), dtype=dtype)  # as products take them
    for shape in SHAPES.values():
        taps_triton.weighted(shape, weight, weight, width, 25, taps)
        taps_triton.gradient(shape, weight, weight, width, 25, taps, weight, weight)


def filters(T: int, B: int, N: int, dtype: torch.dtype) -> None:
    """All kernels of filters over time."""
    x, taps = torch.empty(T, B, N, dtype=dtype), torch.empty(25, N, dtype=dtype)
    for transposed in (False, True):
        depthwise_triton.convolve(x, taps, transposed, torch.empty(T + 12, B, N, dtype=dtype))
    depthwise_triton.correlate(x, x, torch.empty(25, B, N, dtype=dtype))


def made(code: Any) -> list[int]:
    """Registers, bytes of stack, barriers, fused products, copies ahead, rounded constants."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        said = subprocess.check_output([CUOBJDUMP, "-res-usage", file.name], text=True)
    used = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert used, said
    counts = [
        len(re.findall(pattern, code.asm["ptx"]))
        for pattern in (r"bar\.sync", r"\bfma\.", r"cp\.async\.")
    ]
    return [*map(int, used.groups()), *counts, rounded(code.asm["ttir"])]


def rounded(ttir: str) -> int:
    """Constants in float64 that were rounded to float32 before."""
    found = re.findall(r"constant (?:dense<)?([-\d.e+]+)>? : (?:tensor<\d+x)?f64", ttir)
    numbers = map(float, found)
    return sum(float(np.float32(x)) == x != float(f"{x:.7g}") for x in numbers)


def jitted() -> Iterator[Any]:
    """Every jitted function of the package."""
    for found in pkgutil.walk_packages(ops.__path__, f"{ops.__name__}."):
        members = vars(importlib.import_module(found.name)).values()
        yield from (m for m in members if isinstance(m, JITFunction))


def main() -> None:
    compiled = watch()
    triton_jit.launch(triton_jit._fill, 1, torch.empty(1))
    seen = 0

    def show(*of: Any) -> None:
        nonlocal seen
        for code in compiled[seen:]:
            print(code.metadata.name, *of, *made(code), flush=True)
        seen = len(compiled)

    show("1", torch.float32)
    # Triton compiles apart for sizes that are 1, and for those that 16 divides
    odd = [(sizes, torch.float32) for sizes in ((1, 3, 7), (63, 1, 1))]
    for sizes, dtype in [*(((112, 256, 256), dtype) for dtype in STATE), *odd]:
        sequences(*sizes, dtype)
        if dtype != torch.bfloat16:
            filters(*sizes, dtype)
        show(",".join(map(str, sizes)), dtype)
    for count, dtype in [*((n, torch.float32) for n in (1, 2, 8, 64)), (8, torch.float64)]:
        synapses(count, dtype)
        show(count, dtype)
    left = {f"{f.fn.__module__}.{f.fn.__name__}" for f in jitted() if f.hash is None}
    assert not left, f"no kernel was asked for that needs {left}"


main()
