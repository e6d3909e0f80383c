"""Neurons: what happens to their states in a step, and the way back. A file each.

A neuron's functions are plain arithmetic. The loops of ``ops.scan`` run them on tensors, and copies
of them that numba compiles for the CPU and Triton for GPUs. So the functions have no annotations,
and call nothing but ``where``, ``quotient``, ``through`` (``ops.surrogates``), ``rest`` and
``rest_back`` (``ops.resets``): a copy finds its compiler's own under these names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from snn_delays.ops.neurons import adaptive, integrator, leaky, lif, plif
from snn_delays.ops.resets import HARD, Reset
from snn_delays.ops.surrogates import ATAN, Surrogate


@dataclass(frozen=True)
class Neuron:
    """A kind of neuron. Own: its states, then its parameters, then its numbers.

    The fire itself is not its own: a neuron fires where ``u >= theta``, its threshold, a surrogate
    stands for the derivative, and a reset says what the spike leaves of u.

    Attributes:
        name: tells kernels apart.
        charge: (x, *own) -> u, the membrane before the neuron may fire.
        reset: (u, s, theta, *own) -> the states after the step, s being the spike, 0 or 1.
        back: (g_s, spike, x, u, s, theta, *own, *g_states) -> the gradients of x, of the states and
            of the parameters, the last two as tuples, from those of the spike and of the states
            after the step. ``through(g_s, spike)`` is the gradient of u by way of the spike.
        states: how many.
        parameters: how many; tensors, with a number for all neurons or one for each.
        fires: False for one whose output is u instead of s.
    """

    name: str
    charge: Callable[..., Any]
    reset: Callable[..., Any]
    back: Callable[..., Any]
    states: int = 1
    parameters: int = 0
    fires: bool = True


Kind: TypeAlias = tuple[Neuron, Reset, Surrogate]


@dataclass(frozen=True)
class Cell:
    """A neuron and its numbers.

    Attributes:
        neuron: what happens in a step.
        numbers: the neuron's own.
        v_threshold: the neuron fires where its membrane is not below.
        alpha: steepness of the surrogate.
        surrogate: what stands for the derivative of a spike.
        reset: what a spike leaves of the membrane.
    """

    neuron: Neuron
    numbers: tuple[float, ...] = ()
    v_threshold: float = 1.0
    alpha: float = 5.0
    surrogate: Surrogate = ATAN
    reset: Reset = HARD

    @property
    def slope(self) -> tuple[float, ...]:
        """The surrogate's numbers."""
        return self.surrogate.numbers(self.alpha)

    @property
    def kind(self) -> Kind:
        """All of it but the numbers: kernels are compiled for a kind."""
        return self.neuron, self.reset, self.surrogate


LIF = Neuron("lif", lif.charge, lif.reset, lif.back)
PLIF = Neuron("plif", plif.charge, lif.reset, plif.back, parameters=1)
BLOCK_LIF = Neuron("block_lif", lif.charge_by_factor, lif.reset, lif.back_by_factor)
LI = replace(LIF, name="li", reset=integrator.reset, back=integrator.back, fires=False)
PLI = replace(PLIF, name="pli", reset=integrator.reset, back=integrator.back_learned, fires=False)
ADAPTIVE = Neuron(
    "adaptive", adaptive.charge, adaptive.reset, adaptive.back, states=2, parameters=4
)
ADAPTIVE_AFTER = replace(
    ADAPTIVE, name="adaptive_after", reset=adaptive.reset_after, back=adaptive.back_after
)
LEAKY = Neuron("leaky", leaky.charge, integrator.reset, leaky.back, parameters=1, fires=False)
