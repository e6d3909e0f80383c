"""Compile every kernel for a GPU, which needs none: a line each, with what the code is made of.

Run where TRITON_INTERPRET is off, with the compute capability, 90 for an H100.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from snn_delays.ops import gpu, lif_triton, norm_lif_triton, taps_triton

KERNELS = {
    lif_triton: "_fire _fire_gradient _integrate _integrate_gradient",
    norm_lif_triton: "_sums _fire _fire_gradient _norm_gradient",
    taps_triton: "_weighted _weighted_gradient",
}
CONSTANTS = {
    "TAU": 1.005,
    "V_THRESHOLD": 1.0,
    "HALF_ALPHA": 2.5,
    "SLOPE": 7.85,
    "LANES": gpu.LANES,
    "PART": norm_lif_triton.PART,
    "C": 2,
    "COLUMNS": 2,
}
SIZES = ("T", "N", "C", "D", "R")
INPUTS_AND_OUTPUTS = ("y_TN", "s_TN", "g_s_TN", "out_TN")


def compile_kernel(kernel: Any, state: str, narrow: str) -> str:
    """PTX; every size and address can be divided by 16."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    types, constants, divisible = {}, {}, {}
    for p in kernel.params:
        if p.is_constexpr:
            types[p.name], constants[p.num,] = "constexpr", CONSTANTS[p.name]
            continue
        wide = state if p.name not in INPUTS_AND_OUTPUTS else narrow
        types[p.name] = "i32" if p.name in SIZES else f"*{wide}"
        divisible[p.num,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, types, constants, divisible)
    return compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options=gpu.OPTIONS).asm[
        "ptx"
    ]


for module, names in KERNELS.items():
    for name in names.split():
        for state, narrow in (("fp32", "fp32"), ("fp64", "fp64"), ("fp32", "bf16")):
            if narrow == "bf16" and module is not norm_lif_triton:
                continue
            ptx = compile_kernel(getattr(module, name), state, narrow)
            fused, ahead = (len(re.findall(what, ptx)) for what in (r"\bfma\.", r"cp\.async\."))
            print(f"{module.__name__.split('.')[-1]}.{name}", narrow, fused, ahead)
