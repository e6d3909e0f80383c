"""What all neurons are: SpikingJelly nodes whose sequences run through one scan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from spikingjelly.activation_based import base, neuron
from torch import Tensor

from snn_delays.nn.recurrence import Recurrence
from snn_delays.nn.stock import is_stock
from snn_delays.nn.surrogates import is_known, surrogate_of
from snn_delays.ops.neurons import Cell
from snn_delays.ops.resets import RESETS
from snn_delays.ops.scan import scan, why_not
from snn_delays.runtime.tracing import transformed

_stock: set[type] = set()
Node = TypeVar("Node", bound=type)


def stock(kind: Node) -> Node:
    """Register a class whose nodes do what their cell does, and nothing else."""
    _stock.add(kind)
    return kind


class ScannedNode(neuron.BaseNode):
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
            recurrence: connections of the neurons with each other, which needs ``is_built``.
            kwargs: what SpikingJelly's node takes.
        """
        if recurrence is not None:
            return self._fire_recurrently(x_seq, recurrence)
        if args or kwargs or not (self._serves(x_seq) and self.is_plain()):
            return super().multi_step_forward(x_seq, *args, **kwargs)
        states = self.materialize_states((x_seq,), tuple(self.memories()), "m")
        out, last = scan(x_seq, self.cell(), states, self.own())
        self.take_states(last)
        if not self.store_v_seq:
            return out
        self.v_seq = out
        return torch.zeros_like(x_seq)

    def _fire_recurrently(self, x_seq: Tensor, recurrence: Recurrence) -> Tensor:
        states = self.materialize_states((x_seq,), tuple(self.memories()), "m")
        given = x_seq, self.cell(), states, self.own()
        if not self.store_v_seq:
            out, last = recurrence(*given)
            self.take_states(last)
            return out
        out, history = recurrence.history(*given)
        self.take_states(history[-1])
        self.v_seq = torch.stack([v for v, *_ in history])
        return out

    def take_states(self, states: Iterable[Tensor]) -> None:
        """Hold states as a pass has left them, [B, N] each."""
        self._memories.update(zip(self._memories, states, strict=True))

    def is_plain(self) -> bool:
        """Whether nothing was set or overridden that the scan does not do."""
        return self.is_built() and (not self.store_v_seq or self.integrates)

    @property
    def integrates(self) -> bool:
        """Whether it never fires, and its membrane is its output."""
        return self.store_v_seq and self.v_threshold == math.inf

    def is_built(self) -> bool:
        """Whether it is as ``build_neuron`` builds it, but for what it stores."""
        return (
            type(self) in _stock
            and is_stock(self, type(self))
            and is_known(self.surrogate_function)
            and not getattr(self, "decay_input", False)
            and self.v_reset in (0, None)
            and self._neuron_precision is None
        )

    def _serves(self, x_seq: Tensor) -> bool:
        same = all(p.dtype == x_seq.dtype for p in self.parameters())
        refused = x_seq.is_meta or transformed()  # by SpikingJelly's, in some of its settings
        return same and x_seq.numel() > 0 and (refused or why_not(x_seq) is None)

    def cell(self) -> Cell:
        """The neuron of ``ops``."""
        neuron, *numbers = self._step()
        surrogate, alpha = surrogate_of(self.surrogate_function), self.surrogate_function.alpha
        reset = RESETS["soft" if self.v_reset is None else "hard", self.detach_reset]
        return Cell(neuron, tuple(numbers), self.v_threshold, alpha, surrogate, reset)

    def own(self) -> tuple[Tensor, ...]:
        """The cell's parameters, a scalar or [N] each."""
        return ()

    def _step(self) -> tuple[Any, ...]:
        """What happens in a step, and its numbers."""
        raise NotImplementedError
