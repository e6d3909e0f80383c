"""A GPU's fused blocks, in Triton's interpreter on the CPU, against the modules."""

from __future__ import annotations

import pytest
import torch

from snn_delays.config import Config, ModelConfig
from snn_delays.nn import block, build_network
from snn_delays.nn.plan import describe
from snn_delays.ops import norm_neuron
from snn_delays.runtime import triton_jit


@pytest.fixture
def on_gpu(monkeypatch):
    """Let Triton's kernels serve the CPU's tensors."""
    if triton_jit.why_not(torch.ones(1)) is not None:
        pytest.skip(f"Triton's interpreter: {triton_jit.why_not(torch.ones(1))}")
    monkeypatch.setattr(triton_jit, "serves", lambda x: triton_jit.why_not(x) is None)


def network(**model):
    torch.manual_seed(0)
    config = Config(model=ModelConfig(hidden=[9, 7], taps=5, tau_ms=20.0, **model))
    config.data.units, config.data.units_per_channel = 12, 1
    config.backend = "matmul"
    return build_network(config, 4).double()


def numbers(net, x):
    """Scores, gradients and buffers of a training pass."""
    torch.manual_seed(1)
    net.zero_grad()
    scores = net(x)
    torch.nn.functional.cross_entropy(scores, torch.arange(x.shape[1]) % 4).backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    return [scores.detach(), *gradients, *(b.clone() for b in net.buffers())]


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"dropout": 0.0, "bias": True},
        {"delays": "fixed", "density": 0.7},
        {"filter_tau_ms": 30.0, "filter_learnable": True, "kernel_count": 2},
        {"neuron": "plif", "reset": "soft"},
        {"neuron": "silif"},
    ],
)
@pytest.mark.parametrize(("T", "B"), [(1, 2), (11, 3)])
def test_it_computes_what_the_modules_do(model, T, B, on_gpu, monkeypatch) -> None:
    x = (torch.rand(T, B, 12, generator=torch.Generator().manual_seed(2)) < 0.3).double()
    net = network(**model).train()
    assert [how.path for how in net.plan_for(x)] == ["scan", "scan", "modules"]
    assert describe(net.plan_for(x)) == "matmul (blocks fused)"
    calls = []

    def watched(*arguments, real=norm_neuron.norm_neuron, **settings):
        calls.append(real)
        return real(*arguments, **settings)

    monkeypatch.setattr(block, "norm_neuron", watched)
    ours = numbers(net, x)
    assert len(calls) == 2
    monkeypatch.setattr(triton_jit, "serves", lambda x: False)
    theirs = numbers(network(**model).train(), x)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_norm": False}, "no BatchNorm"),
    ],
)
def test_what_it_does_not_know_runs_module_by_module(change, words, on_gpu) -> None:
    x = torch.ones(6, 3, 12).double()
    net = network(**change).train()
    assert all(words in how.why for how in net.plan_for(x)[:-1])
    numbers(net, x)
