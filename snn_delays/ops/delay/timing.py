"""Which implementation of the delayed linear map trains soonest on this device, by the clock.

On a GPU that depends on its model, the precision and the versions of cuDNN and cuBLAS, as much as
on the sizes.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from snn_delays.ops.delay import MATRIX_LENGTH, delayed_linear
from snn_delays.ops.spectral import half_products, make_plan
from snn_delays.ops.taps import Sigma

ROUNDS = 5
CALLS = 4  # in a round, so that a GPU is waited for once


def fastest_backend(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Sigma, *, taps: int, extra_steps: int = 0
) -> str:
    """The portable backend with the least median duration, forward and back; they run by turns.

    One for which memory does not suffice is left out. Arguments are those of ``delayed_linear``;
    gradients of all that require one are computed.

    Returns:
        "dense", "matmul" or "fft".

    Raises:
        torch.OutOfMemoryError: memory suffices for none.
    """
    leaves = [tensor for tensor in (x, weight, delay) if tensor.requires_grad]

    def step(backend: str) -> None:
        y = delayed_linear(
            x, weight, delay, sigma, taps=taps, extra_steps=extra_steps, backend=backend
        )
        torch.autograd.grad(y, leaves, torch.ones_like(y))

    length = make_plan(x.shape[0], taps, extra_steps).length
    names = _candidates(taps, length, half_products(x))
    steps = {name: functools.partial(step, name) for name in names}
    seconds = {name: [_duration(step, x.device)] for name, step in steps.items()}  # warms up
    for _ in range(ROUNDS):
        for name, step_by in steps.items():
            if seconds[name][0] < math.inf:
                seconds[name].append(_duration(step_by, x.device))
    medians = {name: statistics.median(s[1:] or s) for name, s in seconds.items()}
    if min(medians.values()) == math.inf:
        raise torch.OutOfMemoryError("There is no memory for a layer of these sizes.")
    return min(medians, key=lambda name: medians[name])


def _candidates(taps: int, length: int, half: bool) -> list[str]:
    if taps == 1:
        return ["dense"]
    matmul = ["matmul"] if length <= 4 * MATRIX_LENGTH else []
    return ["dense", *matmul, *([] if half else ["fft"])]  # which makes no products in bfloat16


def _duration(step: Callable[[], object], device: torch.device) -> float:
    try:
        _wait(device)
        started = time.perf_counter()
        for _ in range(CALLS):
            step()
        _wait(device)
    except torch.OutOfMemoryError:
        return math.inf
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
