"""Adaptive neurons: what adLIF, cAdLIF, SiLIF and SE-adLIF have in common, and their readout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn_delays.nn.neurons.node import ScannedNode, stock
from snn_delays.ops.neurons import ADAPTIVE, LEAKY, Neuron
from snn_delays.ops.scan import plain
from snn_delays.runtime.tracing import watcher

Range = tuple[float, float]
AL = (math.exp(-1 / 5), math.exp(-1 / 25))  # sparch's bounds of the membrane's decay


class LearnedNode(ScannedNode):
    """A neuron whose parameters have bounds.

    An optimiser may move a parameter out of its bounds. The next pass in training mode moves it
    back; evaluation uses the nearest number of the bounds. Parameters within bounds get their
    gradients, those on a bound, too.

    Args:
        size: number of neurons N.
        tau_scope: "neuron": a time constant for each; "layer": one for all.
        settings: of SpikingJelly's ``BaseNode``.
    """

    # of every parameter; equal ends: drawn as that number
    DRAWS: ClassVar[Mapping[str, Range]] = {}
    BOUNDS: ClassVar[Mapping[str, Range]] = {}
    TIMES: ClassVar[tuple[str, ...]] = ()  # the parameters that time constants are made of

    def __init__(self, size: int, tau_scope: str = "neuron", **settings: Any) -> None:
        super().__init__(**settings)
        for name, ends in self.DRAWS.items():
            alone = name in self.TIMES and tau_scope == "layer"
            setattr(self, name, nn.Parameter(torch.empty(() if alone else size).uniform_(*ends)))

    def constrain(self) -> None:
        """Clamp parameters to their bounds, in place and unseen by autograd.

        A pass in training mode does so first of all.
        """
        for name, ends in self.BOUNDS.items():
            getattr(self, name).data.clamp_(*ends)

    def bounded(self) -> dict[str, Tensor]:
        """The parameters within their bounds, by name."""
        if self.training and not watcher():
            self.constrain()
            return dict(self.named_parameters(recurse=False))
        return {
            name: _inside(parameter, self.BOUNDS.get(name))
            for name, parameter in self.named_parameters(recurse=False)
        }

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        """One step, [B, N] -> [B, N]."""
        out, states = self.multi_step_functional_forward((inputs[0][None],), states)
        return (out[0][0],), states

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        """A sequence, [T, B, N] -> [T, B, N], step by step."""
        cell = self.cell()
        out, last = plain.scan(cell, inputs[0], states, self.own())
        return (out if cell.neuron.fires else torch.zeros_like(out),), last


class AdaptiveNode(LearnedNode):
    """A neuron with a second state w that holds the membrane v back after spikes.

    See ``ops.neurons.adaptive`` for the equations. v is the membrane after the reset.

    Shape: [T, B, N] -> spikes [T, B, N].
    """

    STEP: ClassVar[Neuron] = ADAPTIVE

    def __init__(self, size: int, **settings: Any) -> None:
        super().__init__(size, **settings)
        self.register_memory("w", 0.0)

    def materialize_states(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], step_mode: str
    ) -> tuple[Any, ...]:
        """Both states as tensors, anew for a batch of another size."""
        materialize = super().materialize_states
        return tuple(materialize(inputs, (state,), step_mode)[0] for state in states)

    def _step(self) -> tuple[Any, ...]:
        return (self.STEP,)

    def own(self) -> tuple[Tensor, ...]:
        """The decays al and be, and a and b with the factor of both."""
        return self.dynamics(**self.bounded())

    def dynamics(self, **parameters: Tensor) -> tuple[Tensor, ...]:
        """From the parameters to what ``own`` returns."""
        raise NotImplementedError


@stock
class LeakyReadoutNode(LearnedNode):
    """The membrane of every class, ``v <- al v + (1 - al) x`` with al learned, which never fires.

    Shape: [T, B, K] -> zeros; the membranes [T, B, K] are in ``v_seq``.
    """

    DRAWS = BOUNDS = {"al": AL}  # noqa: RUF012 - class variables of the base
    TIMES = ("al",)

    def _step(self) -> tuple[Any, ...]:
        return (LEAKY,)

    def own(self) -> tuple[Tensor, ...]:
        """The decay al."""
        return (self.bounded()["al"],)


def _inside(parameter: Tensor, ends: Range | None) -> Tensor:
    """A copy within bounds; gradients pass as if it had not been clamped."""
    if ends is None:
        return parameter
    fixed = parameter.detach()
    return fixed.clamp(*ends) + (parameter - fixed)
