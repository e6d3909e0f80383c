"""What deployed layers keep between calls."""

from __future__ import annotations

import gc

import pytest
import torch

from snn_delays.ops import kept as module
from snn_delays.ops.kept import forget, kept


def made_anew(weight, delay, kind="a") -> bool:
    """Whether ``kept`` had to make the value."""
    calls = []
    kept(weight, delay, kind, lambda: calls.append(1))
    return bool(calls)


@pytest.fixture
def synapses() -> tuple[torch.Tensor, torch.Tensor]:
    weight, delay = torch.ones(3), torch.zeros(3)
    assert made_anew(weight, delay)
    assert not made_anew(weight, delay)
    return weight, delay


@pytest.mark.parametrize("changed", ["weight", "delay", "weight.data", "delay object", "kind"])
def test_changes_are_noticed(synapses, changed) -> None:
    weight, delay = synapses
    kind = "a"
    if changed == "weight":
        weight.mul_(2)
    elif changed == "delay":
        delay.add_(1)
    elif changed == "weight.data":
        weight.data = weight * 2
    elif changed == "delay object":
        delay = delay.clone()
    else:
        kind = "b"
    assert made_anew(weight, delay, kind)
    assert not made_anew(weight, delay, kind)


def test_forgetting(synapses) -> None:
    forget(synapses[0])
    assert made_anew(*synapses)


def test_nothing_keeps_a_weight_alive() -> None:
    gc.collect()
    before = len(module._store)
    weight = torch.ones(3)
    kept(weight, torch.zeros(3), "a", lambda: 1)
    assert len(module._store) == before + 1
    del weight
    gc.collect()
    assert len(module._store) == before


def test_tensors_without_versions_are_not_kept() -> None:
    with torch.inference_mode():
        weight, delay = torch.ones(3), torch.zeros(3)
    assert made_anew(weight, delay)
    assert made_anew(weight, delay)
