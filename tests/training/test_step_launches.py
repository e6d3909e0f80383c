"""How many operations a training step makes on a GPU, counted on the CPU without computing them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_delays.config import Config
from snn_delays.data.loaders import Batch
from snn_delays.nn import build_network
from snn_delays.runtime import numba_jit, tracing, triton_jit
from snn_delays.training.optim import build_optimizers
from snn_delays.training.step import apply, compute_gradients

MADE = ("empty", "new_empty", "empty_like", "empty_strided", "lift_fresh", "_record_function")


class Launches(TorchDispatchMode):
    """Counts what a GPU would be asked for: operations that are no views and make no empty memory.

    torch's own functions may launch less there (dropout's mask) or more (a norm of many tensors).
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        if not (func.is_view or name.startswith(MADE) or name in ("detach", "_unsafe_view")):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def launches(monkeypatch):
    """As on a GPU, but Triton's kernels are counted and do not run."""
    if triton_jit.why_not(torch.ones(1)) is not None:
        pytest.skip(f"Triton's interpreter: {triton_jit.why_not(torch.ones(1))}")
    counts = Launches()

    def launch(kernel, lanes, *arguments, **options) -> None:
        counts.found[kernel.fn.__name__] += 1

    monkeypatch.setattr(numba_jit, "available", lambda: False)
    monkeypatch.setattr(numba_jit, "why_not", lambda: "switched off")
    monkeypatch.setattr(triton_jit, "serves", lambda x: triton_jit.why_not(x) is None)
    monkeypatch.setattr(triton_jit, "launch", launch)
    monkeypatch.setattr(tracing, "_get_current_dispatch_mode", lambda: None)  # it is no watcher
    return counts


@pytest.mark.parametrize(
    ("hidden", "precision", "found", "applied"),
    [([9, 9], "float32", 86, 13), ([9, 9, 9], "float32", 109, 14), ([9, 9], "mixed", 103, 13)],
)
def test_a_step_makes_few_launches(launches, hidden, precision, found, applied) -> None:
    config = Config(backend="matmul")
    config.model.hidden, config.model.taps, config.model.tau_ms = hidden, 5, 20.0
    config.data.units, config.data.units_per_channel = 12, 1
    network = build_network(config, 4).train()
    optimizers = build_optimizers(network, config.train)
    y = torch.arange(6) % 4
    batch = Batch(torch.ones(11, 6, 12), y, y, np.arange(6))
    apply(network, optimizers, compute_gradients(network, batch, precision))
    launches.found.clear()  # the first step makes the optimisers' state
    with launches:
        outcome = compute_gradients(network, batch, precision)
    first, launches.found = launches.found, Counter()
    assert first.total() <= found, first.most_common()
    with launches:
        apply(network, optimizers, outcome)
    assert launches.found.total() <= applied, launches.found.most_common()
