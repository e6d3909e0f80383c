"""Which implementation of the delayed linear map trains soonest on this device, by the clock.

On a GPU that depends on its model, the precision and the versions of cuDNN and cuBLAS, as much as
on the sizes.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from snn_delays.ops.maps import BACKENDS, Problem, delayed_linear
from snn_delays.ops.spectral.layer import half_products
from snn_delays.ops.taps import Synapses
from snn_delays.runtime.buffers import is_out_of_memory
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.runtime.distributed import world_size

ROUNDS = 5
CALLS = 4  # in a round, so that a GPU is waited for once

Step: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class _Nothing:
    """A batch that holds none, for steps whose tensors are always the same."""


def fastest_backend(x: Tensor, synapses: Synapses, extra_steps: int = 0) -> str:
    """The portable backend with the least median duration, forward and back; they run by turns.

    On a GPU steps are recorded, where those of training are. A backend for which memory does not
    suffice is left out. Arguments are those of ``delayed_linear``; gradients of all that require
    one are computed.

    Returns:
        A key of ``BACKENDS``: one that serves on GPUs, too, and that "auto" may take.

    Raises:
        torch.OutOfMemoryError: memory suffices for none.
    """
    candidates = x, synapses.weight, synapses.delay
    leaves = [tensor for tensor in candidates if tensor.requires_grad]

    def step(backend: str) -> None:
        y = delayed_linear(x, synapses, extra_steps=extra_steps, backend=backend)
        with torch.autocast(x.device.type, enabled=False):  # as training goes back
            torch.autograd.grad(y, leaves, torch.ones_like(y))

    names = _candidates(Problem.of(x, synapses, extra_steps), half_products(x))
    if len(names) == 1:
        return names[0]
    steps = _as_in_training({name: functools.partial(step, name) for name in names}, x.device)
    warm_up = {name: _duration(step, x.device) for name, step in steps.items()}
    left = {name: step for name, step in steps.items() if warm_up[name] < math.inf}
    if not left:
        raise torch.OutOfMemoryError("There is no memory for a layer of these sizes.")
    rounds = [{name: _duration(left[name], x.device) for name in left} for _ in range(ROUNDS)]
    return min(left, key=lambda name: statistics.median(seconds[name] for seconds in rounds))


def _candidates(problem: Problem, half: bool) -> list[str]:
    """The backends that a GPU has for a problem and that round as is asked."""
    on_gpu = problem._replace(device=torch.device("cuda"))
    return [
        name
        for name, backend in BACKENDS.items()
        if backend.why_not(on_gpu) is None
        and backend.cost(on_gpu) < math.inf
        and (backend.half or not half)
    ]


def _as_in_training(steps: Mapping[str, Step], device: torch.device) -> Mapping[str, Step]:
    """CapturedStep, where training records; in one pool, so that none keeps memory from another."""
    if device.type != "cuda" or world_size() > 1:
        return steps
    pool = torch.cuda.graph_pool_handle()
    return {name: _recorded(step, pool) for name, step in steps.items()}


def _recorded(step: Step, pool: Any) -> Step:
    recorded: CapturedStep[_Nothing, None] = CapturedStep(lambda nothing: step(), [], pool)
    return lambda: recorded(_Nothing())


def _duration(step: Step, device: torch.device) -> float:
    """Of some calls, in seconds; without end where memory ran out."""
    try:
        _wait(device)
        started = time.perf_counter()
        for _ in range(CALLS):
            step()
        _wait(device)
    except RuntimeError as error:
        if is_out_of_memory(error):
            return math.inf
        raise
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
