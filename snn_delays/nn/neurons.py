"""Neurons, as SpikingJelly nodes, so that its monitors and operation counters see them."""

from __future__ import annotations

import math
from typing import Any

import torch
from spikingjelly.activation_based import base, neuron, surrogate
from torch import Tensor

from snn_delays.config import ModelConfig
from snn_delays.config.options import check_options
from snn_delays.nn.recurrence import Recurrence
from snn_delays.nn.stock import is_stock
from snn_delays.ops.neurons import LI, LIF, PLI, PLIF, Cell, Neuron
from snn_delays.ops.scan import scan, why_not
from snn_delays.runtime.tracing import transformed


def build_neuron(
    kind: str, *, tau: float, v_threshold: float, surrogate_alpha: float, store_membrane: bool
) -> neuron.BaseNode:
    """A leaky integrate-and-fire node over whole sequences [T, B, N].

    Charge ``v <- v + x - v / tau``, fire where ``v >= v_threshold``, hard reset to 0 with the
    reset path detached; surrogate ATan.

    Args:
        kind: "lif", or "plif" with a learned tau (Fang et al. 2021).
        tau: time constant in steps, above 1.
        v_threshold: firing threshold; infinity for a neuron that only integrates.
        surrogate_alpha: steepness of the surrogate gradient.
        store_membrane: keep the membrane of every step in ``v_seq``.

    Raises:
        ValueError: another kind, or tau that is not above one step.
    """
    check_options(ModelConfig, neuron=kind)
    if not tau > 1:
        raise ValueError(f"tau={tau:g} must be above 1 step.")
    settings = {
        "decay_input": False,
        "v_threshold": float(v_threshold),
        "v_reset": 0.0,
        "surrogate_function": surrogate.ATan(alpha=surrogate_alpha),
        "detach_reset": True,
        "step_mode": "m",
        "store_v_seq": store_membrane,
    }
    if kind == "plif":
        return ParametricLIFNode(init_tau=float(tau), **settings)
    return LIFNode(tau=float(tau), **settings)


class _CompiledScan(neuron.BaseNode):
    """SpikingJelly's node; its sequences run through ``ops.scan`` where that computes the same.

    A subclass runs as SpikingJelly runs it. One that overrides ``single_step_functional_forward``
    alone runs step by step.
    """

    v: Tensor | float

    def __init_subclass__(cls) -> None:
        """Refuse methods of SpikingJelly's older nodes, which nothing calls.

        Raises:
            TypeError: the class has one of them.
        """
        super().__init_subclass__()
        for name in ("neuronal_charge", "neuronal_fire", "neuronal_reset"):
            if hasattr(cls, name) and not hasattr(neuron.BaseNode, name):
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: override"
                    " single_step_functional_forward, or subclass SpikingJelly's SimpleBaseNode."
                )
        own = vars(cls).keys() & {"single_step_functional_forward", "multi_step_functional_forward"}
        if own == {"single_step_functional_forward"}:
            cls.multi_step_functional_forward = base.MemoryModule.multi_step_functional_forward

    def multi_step_forward(
        self, x_seq: Tensor, *args: Any, recurrence: Recurrence | None = None, **kwargs: Any
    ) -> Tensor:
        """Spikes of a sequence, [T, B, N] -> [T, B, N]; the state goes on from where it was.

        Args:
            x_seq: feedforward current.
            args: what SpikingJelly's node takes.
            recurrence: connections of the neurons with each other, which ``may_be_recurrent``.
            kwargs: what SpikingJelly's node takes.
        """
        if recurrence is not None:
            return self._fire_recurrently(x_seq, recurrence)
        if args or kwargs or not (self._serves(x_seq) and self.is_plain()):
            return super().multi_step_forward(x_seq, *args, **kwargs)
        (v,) = self.materialize_states((x_seq,), (self.v,), "m")
        cell, parameters = self._cell()
        out, (self.v,) = scan(x_seq, cell, (v,), parameters)
        if not self.store_v_seq:
            return out
        self.v_seq = out
        return torch.zeros_like(x_seq)

    def _fire_recurrently(self, x_seq: Tensor, recurrence: Recurrence) -> Tensor:
        (v,) = self.materialize_states((x_seq,), (self.v,), "m")
        cell, parameters = self._cell()
        if not self.store_v_seq:
            out, (self.v,) = recurrence(x_seq, cell, (v,), parameters)
            return out
        out, states = recurrence.history(x_seq, cell, (v,), parameters)
        self.v_seq = torch.stack([v for (v,) in states])
        self.v = self.v_seq[-1]
        return out

    def is_plain(self) -> bool:
        """Whether nothing was set or overridden that the scan does not do."""
        return self._is_built() and (not self.store_v_seq or self.v_threshold == math.inf)

    def _is_built(self) -> bool:
        return (
            is_stock(self, LIFNode, ParametricLIFNode)
            and is_stock(self.surrogate_function, surrogate.ATan)
            and not self.decay_input
            and self.v_reset == 0
            and self.detach_reset
            and self.surrogate_function.spiking
            and self._neuron_precision is None
        )

    def _serves(self, x_seq: Tensor) -> bool:
        same = all(p.dtype == x_seq.dtype for p in self.parameters())
        refused = x_seq.is_meta or transformed()  # by SpikingJelly's, in some of its settings
        return same and x_seq.numel() > 0 and (refused or why_not(x_seq) is None)

    def _cell(self) -> tuple[Cell, tuple[Tensor, ...]]:
        """The neuron of ``ops``, and its parameters."""
        raise NotImplementedError

    def _make_cell(self, kinds: tuple[Neuron, Neuron], *numbers: float) -> Cell:
        """A cell of the first kind, or of the second if it only integrates."""
        kind = kinds[self.store_v_seq and self.v_threshold == math.inf]
        return Cell(kind, numbers, self.v_threshold, self.surrogate_function.alpha)


def may_be_recurrent(node: Any) -> bool:
    """Whether neurons take recurrent connections; other nodes would not say that they do not."""
    return isinstance(node, _CompiledScan) and node._is_built()


class LIFNode(_CompiledScan, neuron.LIFNode):
    """SpikingJelly's ``LIFNode``, faster."""

    def _cell(self) -> tuple[Cell, tuple[Tensor, ...]]:
        return self._make_cell((LIF, LI), self.tau), ()


class ParametricLIFNode(_CompiledScan, neuron.ParametricLIFNode):
    """SpikingJelly's ``ParametricLIFNode``, faster."""

    def _cell(self) -> tuple[Cell, tuple[Tensor, ...]]:
        return self._make_cell((PLIF, PLI)), (self.w.sigmoid(),)
