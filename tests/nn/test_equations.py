"""Whole networks in float64 against the equations of docs/explanation/models.md.

The equations are written here in plain torch, step by step, and share no code with the package.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from snn_delays.config import Config, validate
from snn_delays.nn import Network, build_network
from snn_delays.runtime import numba_jit
from tests.nn.test_network import small

SIGMA, RECURRENT_SIGMA = 1.3, 1.7
SLOPES = {  # of a spike, by the membrane above threshold
    "atan": lambda u: 2.5 / (1 + (2.5 * math.pi * u) ** 2),
    "boxcar": lambda u: ((u > -0.5) & (u <= 0.5)).to(u.dtype),
    "exponential": lambda u: torch.exp(-5 * u.abs()),
}
RESETS = {"lif": ("hard", "atan"), "plif": ("hard", "atan"), "se_adlif": ("hard", "exponential")}


class Step(torch.autograd.Function):
    """Spikes of u; backward the surrogate."""

    @staticmethod
    def forward(ctx, u, surrogate):
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        return g * SLOPES[ctx.surrogate](*ctx.saved_tensors), None


def act(hard: Tensor, smooth: Tensor, how: str) -> Tensor:
    """Deployed taps, smooth ones, or the values of the first with the slopes of the second."""
    straight_through = hard + (smooth - smooth.detach())
    return {"deployed": hard, "smooth": smooth, "straight_through": straight_through}[how]


def delayed(x: Tensor, weight: Tensor, delay: Tensor, config: Config, how: str) -> Tensor:
    taps, extra = config.model.taps, config.model.layer_extra_steps
    j = torch.arange(taps, dtype=x.dtype).view(-1, 1, 1, 1)
    u = (j - delay) / SIGMA
    shape = torch.exp(-u * u / 2) if config.model.delay_kernel == "gauss" else F.relu(1 - u.abs())
    hard, smooth = (j == delay.round()).to(x.dtype), shape / (shape.sum(0) + 1e-7)
    if how == "straight_through":  # the weights have the gradient of the deployed network
        kernel = weight * hard + weight.detach() * (act(hard, smooth, how) - hard)
    else:
        kernel = weight * act(hard, smooth, how)
    steps = len(x) + extra
    shifted = [F.pad(x, (0, 0, 0, 0, n, extra))[:steps] for n in range(taps)]
    return sum(s @ k.sum(2).T for s, k in zip(shifted, kernel, strict=True))


def recurrent_taps(own: dict[str, Tensor], steps: int, how: str) -> Tensor:
    """h_j for j = 0 .. T - 1, [T, N]; the first is nothing."""
    delay = own["delay"]
    j = torch.arange(steps, dtype=delay.dtype)[:, None]
    share = 2 * own["p"].sigmoid() if "p" in own else 1.0
    width = 1 + share * RECURRENT_SIGMA
    smooth = F.relu(width - (j - (1 + delay)).abs()) / width**2
    return act((j == 1 + delay.round()).to(delay.dtype), smooth, how) * (j > 0)


def adaptation(kind: str, own: dict[str, Tensor], step_ms: float) -> tuple[Tensor, ...]:
    """The decays al and be, and a and b with the factor of both."""
    if kind in ("adlif", "cadlif"):
        return own["al"], own["be"], own["a"], own["b"]
    if kind == "silif":
        step = own["log_step"].exp()
        al, be = (torch.exp(-own[f"log_rate_{s}"].exp() * step) for s in "uw")
        return al, be, own["a"], own["b"]
    al = torch.exp(-step_ms / (20 + 80 * own["share_u"]))
    be = torch.exp(-step_ms / (240 + 960 * own["share_w"]))
    return al, be, 120 * (1 - be) * own["a"], 120 * (1 - be) * own["b"]


def fire(y: Tensor, own: dict[str, Tensor], recurrent: dict[str, Tensor], config: Config, how: str):
    kind, theta = config.model.neuron, config.model.v_threshold
    reset, surrogate = RESETS.get(kind, ("soft", "boxcar"))
    leak = own["w"].sigmoid() if kind == "plif" else 1 / config.tau
    r, w, spikes = torch.zeros_like(y[0]), torch.zeros_like(y[0]), []
    taps = recurrent_taps(recurrent, len(y), how) if recurrent else None
    for t, x in enumerate(y):
        if taps is not None and t:
            z = (taps[1 : t + 1].flip(0)[:, None] * torch.stack(spikes)).sum(0)
            x = x + z @ recurrent["weight"].T
        if kind in ("lif", "plif"):
            u = r + x - r * leak
        else:
            al, be, a, b = adaptation(kind, own, config.data.step_ms)
            u = al * r + (1 - al) * (x - w)
        s = Step.apply(u - theta, surrogate)
        r = u * (1 - s.detach()) if reset == "hard" else u - theta * s
        if kind not in ("lif", "plif"):
            w = be * w + a * (r if kind == "se_adlif" else u) + b * s
        spikes.append(s)
    return torch.stack(spikes)


def scores(y: Tensor, own: dict[str, Tensor], config: Config) -> Tensor:
    if config.model.readout == "linear_sum":
        return y.sum(0)
    v, membranes = torch.zeros_like(y[0]), []
    leak = own["w"].sigmoid() if "w" in own else 1 / config.tau
    for x in y:
        v = own["al"] * v + (1 - own["al"]) * x if "al" in own else v + x - v * leak
        membranes.append(v)
    return torch.softmax(torch.stack(membranes), 2).sum(0)


def run(numbers: dict[str, Tensor], x: Tensor, config: Config, *, how: str) -> Tensor:
    """The network's scores; ``numbers`` holds its parameters and buffers."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}

    for n in range(len(config.model.hidden)):
        part = f"blocks.{n}"
        linear, norm = under(f"{part}.linear."), under(f"{part}.norm.")
        y = delayed(x, linear["weight"], linear["delay"], config, how)
        mean, var = y.mean((0, 1)), y.var((0, 1), unbiased=False)
        if how == "deployed":
            mean, var = norm["running_mean"], norm["running_var"]
        y = (y - mean) / (var + 1e-5).sqrt() * norm["weight"] + norm["bias"]
        x = fire(y, under(f"{part}.neuron."), under(f"{part}.recurrence."), config, how)
        assert len(x) < 10 or 0 < x.mean() < 1
    linear = under("readout.linear.")
    y = delayed(x, linear["weight"], linear["delay"], config, how)
    return scores(y, under("readout.neuron."), config)


def build(config: Config) -> Network:
    torch.manual_seed(0)
    network = build_network(config, 4).double()
    network.set_sigma(SIGMA)
    network.set_recurrent_sigma(RECURRENT_SIGMA)
    with torch.no_grad():
        for name, number in network.named_parameters():
            if name.endswith(("norm.weight", "norm.bias", "recurrence.p")):
                number.add_(torch.rand_like(number))
    return network


BEST = {"neuron": "silif", "delay_type": "axonal", "recurrent": "learned"}


@pytest.mark.parametrize(("T", "B"), [(1, 1), (2, 1), (63, 1), (5, 3)])
@pytest.mark.parametrize(
    ("how", "backend", "model"),
    [
        ("smooth", "numba", {"neuron": "adlif"}),
        ("smooth", "numba", {"neuron": "cadlif", "delay_type": "dendritic"}),
        ("smooth", "numba", {"neuron": "silif", "delay_type": "axonal", "kernel_count": 3}),
        ("smooth", "numba", {"neuron": "se_adlif", "tau_scope": "layer"}),
        ("smooth", "dense", {"neuron": "se_adlif", "kernel_count": 3}),
        ("smooth", "auto", {"neuron": "plif", "readout": "linear_sum", "recurrent": "learned"}),
        ("smooth", "auto", {**BEST, "recurrent_width_scope": "neuron", "kernel_count": 3}),
        ("straight_through", "numba", {"kernel_count": 3}),
        ("straight_through", "fft", {"delay_kernel": "triangle", "readout": "linear_sum"}),
        ("straight_through", "auto", {"delay_type": "dendritic", "kernel_count": 3}),
        ("straight_through", "auto", {**BEST, "recurrent_width_scope": "neuron"}),
        ("straight_through", "auto", {**BEST, "neuron": "lif", "readout": "linear_sum"}),
    ],
)
def test_scores_and_gradients_are_those_of_the_equations(T, B, how, backend, model) -> None:
    if backend == "numba" and not numba_jit.available():
        pytest.skip("numba is not installed")
    settings = {"dropout": 0.0, "v_threshold": 0.3, "recurrent_delay_spread": 4.0}
    config = small(**{**settings, **model})
    config.train.delay_gradient, config.backend = how, backend
    validate(config)
    network = build(config)
    numbers = dict(network.named_buffers())
    numbers |= {k: v.detach().clone().requires_grad_() for k, v in network.named_parameters()}
    x = torch.poisson(torch.full((T, B, 10), 0.5, dtype=torch.float64))
    fused = {layer.path == "spectra" for layer in network.plan_for(x)}
    assert fused == {backend == "numba"}
    network(x.flip(0))  # leaves nothing behind
    network.zero_grad()
    pairs = network(x), run(numbers, x, config, how=how)
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-10)
    g = torch.randn_like(pairs[0])
    for result in pairs:
        (result * g).sum().backward()
    for name, mine in network.named_parameters():
        given = numbers[name].grad
        expected = torch.zeros_like(mine) if given is None else given
        got = torch.zeros_like(mine) if mine.grad is None else mine.grad
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, msg=name)
    with torch.no_grad():
        deployed = run(numbers, x, config, how="deployed")
        torch.testing.assert_close(network.eval()(x), deployed, rtol=0, atol=1e-10)
