"""One hidden layer of the network, and the three paths along which it computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.neurons import ScannedNode
from snn_delays.nn.recurrence import Recurrence
from snn_delays.nn.sync import dropout_mask
from snn_delays.ops.maps import check_input
from snn_delays.ops.norm_neuron import norm_neuron
from snn_delays.ops.spectral.block import BlockSettings, FusedBlock
from snn_delays.ops.spectral.layer import make_plan
from snn_delays.ops.spectral.spectrum import Spectrum, spikes_in_time
from snn_delays.runtime.distributed import whole_batch
from snn_delays.runtime.weight_cache import invalidate

Path: TypeAlias = Literal["spectra", "scan", "modules"]


@dataclass(frozen=True)
class How:
    """How a layer computes a pass.

    Attributes:
        backend: key of ``BACKENDS`` of its delayed linear map; None: it has none, or torch follows
            every operation.
        path: "spectra": on the CPU, map, norm, neuron and dropout are one function, which takes and
            gives spectra. "scan": on a GPU, what follows the map is one function. "modules": the
            modules run one after another.
        why: why not a faster path; empty where there is none.
        takes_spectra: whether the layer before gives its spikes as a spectrum.
        onward: taps and extra steps of the next layer, where that layer takes the spectrum of the
            spikes; None: the spikes leave as a sequence in time.
    """

    backend: str | None
    path: Path = "modules"
    why: str = ""
    takes_spectra: bool = False
    onward: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, str | None]:
        """What result.json holds of it."""
        return {"backend": self.backend, "path": self.path, "why": self.why}


class Block(nn.Module):
    """Delayed linear -> BatchNorm -> neuron, recurrent or not -> dropout -> (filter).

    The recurrent current is added to that of the norm. Shape: [T, B, I] -> [T + extra_steps, B, O].

    Attributes:
        measured: whether a pass in training mode leaves ``rates``, for which the modules run one
            after another.
        rates: firing rates of that pass, spikes per step of each sample and neuron before dropout,
            [B, O], differentiable; ``take_rates`` clears them.
    """

    def __init__(
        self,
        linear: DelayedLinear,
        norm: nn.Module,
        neuron: nn.Module,
        dropout: nn.Module,
        filter: nn.Module,
        recurrence: Recurrence | None = None,
        measured: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.neuron = neuron
        self.dropout = dropout
        self.filter = filter
        self.recurrence = recurrence
        self.measured = measured
        self.rates: Tensor | None = None

    def forward(self, x: Tensor | Spectrum, how: How | None = None) -> Any:
        """[T, B, I] -> [T + extra_steps, B, O].

        Args:
            x: a sequence in time, or its spectrum.
            how: the path, which ``nn.plan`` decides; None: module by module.
        """
        if how is not None and how.path == "spectra":
            return self._by_spectra(x, how)
        y = self.linear(x)
        if how is not None and how.path == "scan":
            return self.filter(self._by_scan(y))
        spikes = self._fire(self.norm(y))
        if self.measured and self.training:
            self.rates = spikes.mean(0)
        return self.filter(self.dropout(spikes))

    def take_rates(self) -> Tensor:
        """The rates of the last pass in training mode, which the block then holds no more."""
        rates, self.rates = self.rates, None
        if rates is None:
            raise ValueError("No rates: they need measured=True and a pass in training mode.")
        return rates

    def _fire(self, x: Tensor) -> Any:
        if self.recurrence is None:
            return self.neuron(x)
        if not (isinstance(self.neuron, ScannedNode) and self.neuron.is_built()):
            raise ValueError(
                f"The neurons of a recurrent block must be as build_neuron builds them; these"
                f" ({type(self.neuron).__name__}) are others, or were changed."
            )
        return self.neuron(x, recurrence=self.recurrence)

    def _by_spectra(self, x: Tensor | Spectrum, how: How) -> Tensor | Spectrum:
        norm: Any = self.norm
        node: Any = self.neuron
        linear, synapses = self.linear, self.linear.synapses()
        if isinstance(x, Tensor):
            check_input(x, synapses, linear.extra_steps)
            x = Spectrum.of(x, make_plan(x.shape[0], linear.taps, linear.extra_steps))
        invalidate(linear.weight)
        batch, steps = x.values.shape[2], x.plan.out_steps
        mask = dropout_mask(self.dropout, x.values.new_empty(batch, len(synapses.weight)))
        settings = BlockSettings(
            synapses=synapses,
            plan=x.plan,
            next_plan=make_plan(steps, *(how.onward or (1, 0))),
            cell=node.cell(),
            eps=norm.eps,
        )
        parameters = synapses.weight, synapses.delay, norm.weight, norm.bias
        values, mean, var, states = FusedBlock.apply(
            x.values, *parameters, mask, settings, *node.own()
        )
        node.take_states(states)
        norm.running.track(mean, var, steps * whole_batch(batch))
        spikes = Spectrum(values, settings.next_plan)
        return spikes if how.onward else spikes_in_time(spikes, mask)

    def _by_scan(self, y_TBO: Tensor) -> Tensor:
        norm: Any = self.norm
        node: Any = self.neuron
        spikes_TBO, _, _, states = norm_neuron(
            y_TBO,
            norm.weight,
            norm.bias,
            dropout_mask(self.dropout, torch.empty_like(y_TBO[0])),
            *node.own(),
            eps=norm.eps,
            cell=node.cell(),
            running=norm.running,
        )
        node.take_states(states)
        return spikes_TBO
