"""Matrix products by the faster BLAS of this machine, in float32, or in bfloat16 where asked."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops import openblas


def multiply(
    out: Tensor, a: Tensor, b: Tensor, alpha: float = 1.0, beta: float = 0.0, half: bool = False
) -> None:
    """``out <- beta out + alpha a b`` for each of a batch of matrices, [n, rows, columns].

    With ``half``, factors and product are rounded to bfloat16; the sum is not.
    """
    if half:
        product = torch.bmm(a.bfloat16(), b.bfloat16())
        out.copy_(product.mul_(alpha)) if beta == 0 else out.mul_(beta).add_(product, alpha=alpha)
    elif _by_openblas(out):
        openblas.multiply(out, a, b, alpha, beta)
    else:
        torch.baddbmm(out, a, b, beta=beta, alpha=alpha, out=out)


def multiply_wide(out: Tensor, a: Tensor, b: Tensor, beta: float = 0.0) -> None:
    """``out <- beta out + a b`` of two matrices, b and out with many columns."""
    if _by_openblas(out):
        openblas.multiply_wide(out, a, b, beta)
    else:
        torch.addmm(out, a, b, beta=beta, out=out)


def _by_openblas(out: Tensor) -> bool:
    cpu_float = out.device.type == "cpu" and out.dtype == torch.float32
    return cpu_float and openblas.preferred()
