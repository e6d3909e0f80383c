"""Sequences that travel between layers as spectra. Shapes as in ``ops.spectral.layer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.spectral.layer import Plan, SpectralLinear, ToSpectrum, to_spectrum, to_time
from snn_delays.ops.taps import Synapses
from snn_delays.runtime.weight_cache import invalidate


@dataclass(frozen=True)
class Spectrum:
    """A sequence of real numbers, as the layer that takes it wants its spectrum.

    Attributes:
        values: [F, 2, B, C].
        plan: how the layer convolves the sequence.
    """

    values: Tensor
    plan: Plan

    @classmethod
    def of(cls, x_TBC: Tensor, plan: Plan) -> Spectrum:
        """The spectrum of a sequence, differentiable."""
        return cls(ToSpectrum.apply(x_TBC, plan), plan)


def delayed_linear_of(x: Spectrum, synapses: Synapses) -> Tensor:
    """``delayed_linear`` of the sequence whose spectrum ``x`` is, [T + extra_steps, B, O]."""
    invalidate(synapses.weight)
    y: Tensor = SpectralLinear.apply(x.values, synapses.weight, synapses.delay, synapses, x.plan)
    return y


def spikes_in_time(x: Spectrum, size_BC: Tensor) -> Tensor:
    """The spikes whose spectrum ``x`` is, [T, B, C]; exact, since a spike is 0 or of known size."""
    spikes_TBC: Tensor = _SpikesInTime.apply(x.values, size_BC, x.plan)
    return spikes_TBC


class _SpikesInTime(Function):
    """Spectrum [F, 2, B, C], size of a spike [B, C] -> spikes [T, B, C]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size_BC: Tensor, plan: Plan) -> Tensor:
        ctx.plan = plan
        return to_time(values, plan, plan.steps).gt_(size_BC / 2).mul_(size_BC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBC: Tensor) -> Any:
        return to_spectrum(g_TBC, ctx.plan), None, None
