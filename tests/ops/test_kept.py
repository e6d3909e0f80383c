"""What deployed layers keep between calls."""

from __future__ import annotations

import copy
import gc

import pytest
import torch

from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.ops import kept as module
from snn_delays.ops.delay import BACKENDS
from snn_delays.ops.kept import forget, kept
from snn_delays.train.optim import build_optimizers


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


@torch.no_grad()
def deployed(network: Network, x: torch.Tensor) -> torch.Tensor:
    return network.eval()(x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_between_steps_sees_every_step(backend) -> None:
    config = Config(backend=backend)
    config.model.delays, config.model.hidden, config.model.taps = "fixed", [8], 5
    torch.manual_seed(0)
    network = build_network(config, 3)
    if network.why_not(backend, torch.empty(1, 1, 1)):
        pytest.skip("the backend cannot serve here")
    optimizers = build_optimizers(network, config.train)
    x = torch.rand(20, 4, config.data.channels)
    for _ in range(3):
        network.train()(x).square().sum().backward()
        before = deployed(network, x)
        optimizers.step()  # fused Adam, which does not count as an in-place operation
        after = deployed(network, x)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, deployed(copy.deepcopy(network), x))
