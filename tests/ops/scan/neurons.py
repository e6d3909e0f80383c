"""Inputs of scans, and what each version of the scan makes of them."""

from __future__ import annotations

import inspect

import torch
from spikingjelly.activation_based import neuron, surrogate

from snn_delays.ops import neurons
from snn_delays.ops.neurons import LI, LIF, PLI, PLIF, Cell, Neuron
from snn_delays.ops.resets import HARD, RESETS
from snn_delays.ops.scan import plain, scan
from snn_delays.ops.surrogates import ATAN, SURROGATES

NEURONS = [value for value in vars(neurons).values() if isinstance(value, Neuron)]
VARIANTS = [  # resets and surrogates: each once at least
    *((reset, ATAN) for reset in RESETS.values()),
    *((RESETS["soft", False], surrogate) for surrogate in SURROGATES.values()),
]


def current(T, B, N, dtype=torch.float64, seed=0):
    """Input that makes about a fifth of the steps fire, and a membrane to start from."""
    g = torch.Generator().manual_seed(seed)
    x = 0.3 + 1.5 * torch.randn(T, B, N, generator=g, dtype=torch.float64)
    return x.to(dtype), torch.randn(B, N, generator=g, dtype=torch.float64).to(dtype)


def spikingjelly(kind, tau, dtype):
    settings = {
        "decay_input": False,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "surrogate_function": surrogate.ATan(alpha=5.0),
        "detach_reset": True,
        "step_mode": "m",
    }
    if kind == "lif":
        return neuron.LIFNode(tau=tau, **settings), {"tau": tau}
    node = neuron.ParametricLIFNode(init_tau=tau, **settings).to(dtype)
    return node, {"share": node.w.detach().sigmoid()}


def cell(tau=None, share=None, *, fires=True):
    """LIF with tau, or PLIF with share, and its parameters."""
    if share is None:
        return Cell(LIF if fires else LI, (tau,)), ()
    return Cell(PLIF if fires else PLI), (share,)


def fire(x, v, *, compute=scan, **leak):
    """Spikes and the last membrane."""
    kind, parameters = cell(**leak)
    spikes, (last,) = compute(x, kind, (v,), parameters)
    return spikes, last


def integrate(x, v, *, compute=scan, **leak):
    """The membrane after every step of a neuron that never fires."""
    kind, parameters = cell(**leak, fires=False)
    return compute(x, kind, (v,), parameters)[0]


def by_steps(x, kind, states, parameters):
    """``scan`` in torch."""
    return plain.scan(kind, x, states, parameters)


def gradients(x, v, *, compute=scan, tau=None, share=None):
    """Of x, v and share, from spikes, last membrane and the membrane of every step."""
    leaves = [a.detach().clone().requires_grad_() for a in (x, v, share) if a is not None]
    x, v, *learned = leaves
    leak = {"share": learned[0]} if learned else {"tau": tau}
    g = torch.Generator().manual_seed(1)
    pull, pull_v = (torch.randn(x.shape, generator=g, dtype=torch.float64) for _ in "12")
    spikes, last = fire(x, v, compute=compute, **leak)
    v_seq = integrate(x, v, compute=compute, **leak)
    fired = (spikes * pull.to(x)).sum() + (last * pull_v[0].to(x)).sum()
    held = (v_seq * pull_v.to(x)).sum()
    return [*torch.autograd.grad(fired, leaves), *torch.autograd.grad(held, leaves)]


def some_cell(kind, reset=HARD, surrogate=ATAN):
    """A neuron with some numbers; its threshold is none that float32 holds."""
    own = len(inspect.signature(kind.charge).parameters) - 1
    numbers = (1.5,) * (own - kind.states - kind.parameters)
    return Cell(kind, numbers, 0.9, surrogate=surrogate, reset=reset)


def draw(kind, T, B, N, dtype=torch.float64):
    """Input, states, parameters of every neuron, dress, gradients of output and last states."""
    g = torch.Generator().manual_seed(T * B * N)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)

    def uniform(*shape):
        return torch.rand(shape, generator=g, dtype=torch.float64).to(dtype)

    own = [uniform(N) for _ in range(kind.parameters)]
    dress = torch.stack((normal(N), uniform(N) + 0.5, normal(N))), (uniform(B, N) > 0.4) / 0.6
    states = normal(kind.states, B, N)
    return (
        2 * normal(T, B, N),
        states,
        own,
        (dress[0], dress[1].to(dtype)),
        normal(T, B, N),
        states.flip(1),
    )


def by_autograd(kind, x, states, own, dress, g_out, g_last):
    """Output, last states, and the gradients that loops give, by autograd in torch."""
    if dress:
        (mean, scale, shift), mask = dress
        centred = x - mean
        x, g_out = centred * scale + shift, g_out * mask
    leaves = [a.detach().clone().requires_grad_() for a in (x, *states, *own)]
    x, *rest = leaves
    S = len(states)
    out, last = plain.scan(kind, x, rest[:S], rest[S:])
    grads = torch.autograd.grad([out, *last], leaves, [g_out, *g_last], materialize_grads=True)
    of_dress = [grads[0].sum(0), (grads[0] * centred).sum(0)] if dress else []
    out = out * mask if dress else out
    return [out.detach(), *(a.detach() for a in last), *grads, *of_dress]


def by_loops(loops, kind, x, states, own, dress, g_out, g_last):
    """The same by the loops of a device."""
    out, last, g_x, g_states = (
        torch.empty_like(x),
        states.clone(),
        torch.empty_like(x),
        g_last.clone(),
    )
    loops.scan(kind, x, last, own, dress, out, at_rest=False)
    g_own, g_dress = loops.gradient(kind, x, states, own, dress, g_out, g_x, g_states)
    return [out, *last, g_x, *g_states, *(g.sum(0) for g in g_own), *g_dress]
