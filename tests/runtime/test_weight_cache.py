"""What deployed layers keep between calls."""

from __future__ import annotations

import copy
import gc

import pytest
import torch

from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.ops.maps import BACKENDS
from snn_delays.runtime import weight_cache as module
from snn_delays.runtime.weight_cache import cached, constants, invalidate
from snn_delays.training.optim import build_optimizers


def made_anew(weight, delay, kind="a") -> bool:
    """Whether ``kept`` had to make the value."""
    calls = []
    cached(weight, delay, kind, lambda: calls.append(1))
    return bool(calls)


@pytest.fixture
def synapses() -> tuple[torch.Tensor, torch.Tensor]:
    weight, delay = torch.ones(3), torch.zeros(3)
    assert made_anew(weight, delay)
    assert not made_anew(weight, delay)
    return weight, delay


def step(parameter, fused) -> None:
    parameter.requires_grad_().grad = torch.ones_like(parameter)
    torch.optim.Adam([parameter], fused=fused).step()


CHANGES = {
    "weight": lambda w, d: w.mul_(2),
    "delay": lambda w, d: d.add_(1),
    "weight.data": lambda w, d: setattr(w, "data", w * 2),
    "in place of .data": lambda w, d: d.data.add_(1),
    "one number": lambda w, d: w.data[1:2].mul_(2),
    "NumPy": lambda w, d: d.numpy().fill(1),
    "NaN": lambda w, d: d.data.fill_(torch.nan),
    "the sign of zero": lambda w, d: d.data.neg_(),
    "an optimiser": lambda w, d: step(d, fused=False),
    "a fused optimiser": lambda w, d: step(d, fused=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_noticed(synapses, change) -> None:
    weight, delay = synapses
    change(weight, delay)
    assert made_anew(weight, delay)
    assert not made_anew(weight, delay)


def test_another_kind_and_another_delay_are_made_anew(synapses) -> None:
    weight, delay = synapses
    assert made_anew(weight, delay, "b")
    assert made_anew(weight, delay + 1, "b")
    assert not made_anew(weight, delay + 1, "b")


def test_constants_stay_the_same_tensors_until_their_numbers_change() -> None:
    weight, delay = torch.ones(3), torch.arange(3.0)

    def find() -> tuple[torch.Tensor, torch.Tensor]:
        return constants((weight, delay), "a", lambda: (weight, delay.clamp(0, 1)))

    first = find()
    assert all(now is before for now, before in zip(find(), first, strict=True))
    assert made_anew(*first)
    assert not made_anew(*first)
    assert made_anew(first[0], delay)  # which is another tensor, so its numbers count
    delay.data[0] = 1
    assert find()[1].tolist() == [1, 1, 1]
    assert first[1].tolist() == [0, 1, 1]
    assert made_anew(*find())


def test_forgetting(synapses) -> None:
    invalidate(synapses[0])
    assert made_anew(*synapses)


def test_nothing_keeps_a_weight_alive() -> None:
    gc.collect()
    before = len(module._store)
    weight = torch.ones(3)
    cached(weight, torch.zeros(3), "a", lambda: 1)
    assert len(module._store) == before + 1
    del weight
    gc.collect()
    assert len(module._store) == before


def test_changes_of_tensors_without_versions_are_noticed() -> None:
    with torch.inference_mode():
        weight, delay = torch.ones(3), torch.zeros(3)
        assert made_anew(weight, delay)
        assert not made_anew(weight, delay)
        delay.add_(1)
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
        optimizers.step()  # fused Adam, which no version counter sees
        after = deployed(network, x)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, deployed(copy.deepcopy(network), x))
