"""The recurrent connections of a hidden layer, whose spikes come back to it after delays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snn_delays.config import ModelConfig, TrainConfig
from snn_delays.config.options import check_options
from snn_delays.nn.delays import HasDelays
from snn_delays.nn.sync import Dropout, dropout_mask
from snn_delays.ops import recurrent
from snn_delays.ops.neurons import Cell
from snn_delays.ops.recurrent import DelayLines, plain
from snn_delays.runtime.tracing import watcher


class Recurrence(HasDelays):
    """A weight between every two neurons of a layer, and a delay for each neuron's spikes.

    Source: DelRec, arXiv 2509.24852.

    A spike arrives 1 + delay steps later. In training mode learned delays act through triangles of
    half-width ``1 + sigma`` around them, which are not normalised; in evaluation mode, and always
    for other delays, each acts through the one step nearest to it.

    An optimiser may move delays below 0. The next pass in training mode moves them back;
    evaluation takes them for 0.

    Args:
        neurons: of the layer, N.
        delays: "learned" (a parameter), "fixed" (drawn, rounded, a buffer) or "undelayed" (zero).
        delay_init: "half_normal" or "uniform".
        delay_low: least delay that is drawn, in steps.
        delay_spread: standard deviation of the half normal, or length of the uniform's interval.
        delay_gradient: "smooth", or "straight_through": in training mode learned delays, too, act
            through one step, and only their gradient is that of the triangle.
        delay_noise: standard deviation in steps of the noise that every pass in training mode draws
            for each learned delay, from torch's global random state.
        width_scope: "layer", or "neuron": half-widths ``1 + 2 sigma sigmoid(p)`` with learned p,
            drawn as 0.
        dropout: share of the recurrent current's neurons silenced in training, one mask per sample
            and neuron, constant over time.

    Raises:
        ValueError: a value that cannot be.

    Attributes:
        weight: R [N, N], from the second to the first, orthogonal.
        delay: [N], in steps.
        p: [N], where each neuron has a width of its own; else None.
        sigma: set by the training schedule; in ``state_dict``, too.
    """

    def __init__(
        self,
        neurons: int,
        *,
        delays: str = "learned",
        delay_init: str = "half_normal",
        delay_low: float = 0.0,
        delay_spread: float = 12.0,
        delay_gradient: str = "smooth",
        delay_noise: float = 0.0,
        width_scope: str = "layer",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(delays)
        check_options(
            ModelConfig,
            recurrent=delays,
            recurrent_delay_init=delay_init,
            recurrent_delay_low=delay_low,
            recurrent_delay_spread=delay_spread,
            recurrent_width_scope=width_scope,
            recurrent_dropout=dropout,
        )
        check_options(TrainConfig, delay_gradient=delay_gradient, delay_noise=delay_noise)
        self.delay_gradient = delay_gradient
        self.delay_noise = delay_noise
        self.sigma = 10.0
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(neurons, neurons)))
        delay = _draw_delay(neurons, delays, delay_init, delay_low, delay_spread)
        if delays == "learned":
            self.delay = nn.Parameter(delay)
        else:
            self.register_buffer("delay", delay)
        by_neuron = delays == "learned" and width_scope == "neuron"
        self.p = nn.Parameter(torch.zeros(neurons)) if by_neuron else None
        self.dropout = Dropout(dropout, step_mode="m") if dropout else nn.Identity()

    @property
    def delay_exists(self) -> Tensor:
        """Which delays a connection has: all, [N]."""
        return torch.ones_like(self.delay, dtype=torch.bool)

    @property
    def buffer_steps(self) -> Tensor:
        """1 + each neuron's rounded delay, [N]: ``HasDelays.buffer_steps``."""
        return 1 + self.delay.detach().clamp(min=0).round().long()

    def constrain(self) -> None:
        """Clamp delays to 0 and more, as a pass in training mode does first of all."""
        self.delay.data.clamp_(min=0)

    def lines(self) -> DelayLines:
        """The delays that act in this mode, within their bounds."""
        delay: Tensor = self.delay
        if self.training and not watcher() and delay.is_leaf:
            self.constrain()
        else:
            delay = _inside(delay)
        if self.deployed:
            return DelayLines(delay)
        if self.delay_noise:
            delay = _inside(delay + self.delay_noise * torch.randn_like(delay))
        spread = self.width if self.p is None else 2 * self.width * self.p.sigmoid()
        return DelayLines(delay, 1 + spread, self.delay_gradient == "straight_through")

    def forward(
        self, y: Tensor, cell: Cell, states: Sequence[Tensor], parameters: Sequence[Tensor] = ()
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Spikes of neurons with these connections, and their last states: ``ops.recurrent.scan``.

        No spikes came before the first step, whatever the call before this one did. The recurrent
        current is not rounded inside ``torch.autocast``.
        """
        with torch.autocast(y.device.type, enabled=False):
            return recurrent.scan(
                y, cell, self.lines(), self.weight, self._mask(y[0]), states, parameters
            )

    def history(
        self, y: Tensor, cell: Cell, states: Sequence[Tensor], parameters: Sequence[Tensor] = ()
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """The same with the states after every step: ``ops.recurrent.plain.scan``."""
        return plain.scan(cell, y, self.lines(), self.weight, self._mask(y[0]), states, parameters)

    def _mask(self, like_BN: Tensor) -> Tensor:
        masked = (
            self.dropout.training
        )  # evaluate.Unrounded sets this module's mode, and not dropout's
        return dropout_mask(self.dropout, like_BN) if masked else torch.ones_like(like_BN)

    def extra_repr(self) -> str:
        """Sizes and settings, for ``print(network)``."""
        return f"{len(self.weight)}, delays={self.delays}"


def _inside(delay: Tensor) -> Tensor:
    """At least 0; gradients pass a clamped delay as if it had not been clamped."""
    fixed = delay.detach()
    return fixed.clamp(min=0) + (delay - fixed)


def _draw_delay(neurons: int, delays: str, init: str, low: float, spread: float) -> Tensor:
    if delays == "undelayed":
        return torch.zeros(neurons)
    drawn = torch.randn(neurons).abs() if init == "half_normal" else torch.rand(neurons)
    delay = low + spread * drawn
    return delay.round() if delays == "fixed" else delay
