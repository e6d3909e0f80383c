"""The layer that holds weights and delays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_delays.config import ModelConfig, TrainConfig
from snn_delays.config.options import check_options, is_own
from snn_delays.nn.delays import HasDelays
from snn_delays.nn.own_parts import own_shape
from snn_delays.nn.rounding import NO_ROUNDING, Rounding
from snn_delays.ops.maps import Problem, check_backend, delayed_linear
from snn_delays.ops.spectral.spectrum import Spectrum, delayed_linear_of
from snn_delays.ops.taps import SHAPES, Synapses
from snn_delays.runtime.tracing import watcher
from snn_delays.runtime.weight_cache import constants


class DelayedLinear(HasDelays):
    """A linear layer whose every synapse has ``kernel_count`` weights, and delays.

    In training mode learned delays act through taps of width ``sigma`` around them. In evaluation
    mode, and always for fixed and frozen delays, each acts through the one tap nearest to it: the
    deployed network, a function of the parameters that changes nothing in them.

    An optimiser may move delays out of their range, and synapses that do not exist away from zero.
    The next pass in training mode moves them back; evaluation uses the nearest tap of the range and
    no synapse that does not exist.

    Shape: [T, B, inputs] -> [T + extra_steps, B, outputs].

    Args:
        inputs: number of inputs I.
        outputs: number of outputs O.
        taps: number of taps D; delays lie in [0, D - 1] steps.
        kernel_count: delayed copies of each synapse C.
        delays: "learned" (a parameter), "fixed" (drawn, rounded, a buffer), "none" (zero) or
            "dense" (the c-th copy at delay c: with C = D, an ordinary temporal convolution).
        delay_type: whose the delays are: "synaptic", each synapse's; "axonal", one for every input,
            or "dendritic", one for every output, which its synapses share.
        delay_init: "uniform" over [0, D - 1], or "uniform_clamped": over [0, D], cut at D - 1,
            which is the authors' draw.
        delay_kernel: shape of the taps around a learned delay in training mode, "gauss",
            "triangle", or ``module:name`` of the user's own.
        delay_gradient: "smooth", or "straight_through": learned delays act through the nearest tap
            in training mode, too, but their gradient is that of taps of width ``sigma``.
        delay_noise: standard deviation in steps of the noise that every pass in training mode draws
            for each learned delay, from torch's global random state.
        extra_steps: steps added behind the sequence.
        bias: add a bias, drawn as torch's convolutions draw it.
        density: share of synapses that exist, by a fixed Bernoulli mask (one per synapse).
        rounding: what weights and delays are rounded to before they act, in both modes.
        prunable: have a mask with density 1, too, for ``prune``.
        backend: implementation of the map.

    Raises:
        ValueError: a value that cannot be.

    Attributes:
        weight: [O, I, C], Kaiming uniform for 'relu': bound sqrt(6 / (I C)).
        delay: in steps, [O, I, C]; axonal [1, I, C], dendritic [O, 1, C].
        frozen: whether learned delays stay where they are; see ``freeze_delays``.
        sigma: width of the taps in steps, set by the training schedule; in ``state_dict``, too.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        taps: int,
        kernel_count: int = 1,
        delays: str = "learned",
        delay_type: str = "synaptic",
        delay_init: str = "uniform",
        delay_kernel: str = "gauss",
        delay_gradient: str = "smooth",
        delay_noise: float = 0.0,
        extra_steps: int = 0,
        bias: bool = False,
        density: float = 1.0,
        rounding: Rounding = NO_ROUNDING,
        prunable: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__(delays)
        check_options(
            ModelConfig,
            taps=taps,
            kernel_count=kernel_count,
            delays=delays,
            delay_type=delay_type,
            delay_init=delay_init,
            delay_kernel=delay_kernel,
            extra_steps=extra_steps,
            density=density,
        )
        check_options(TrainConfig, delay_gradient=delay_gradient, delay_noise=delay_noise)
        check_backend(backend)
        if is_own(delay_kernel):
            own_shape(delay_kernel)  # which refuses one that does not fit
        if delays == "dense" and kernel_count > taps:
            raise ValueError(
                f"delays=dense has a copy at each of the {taps} taps: kernel_count={kernel_count}"
                f" must be at most {taps}."
            )
        if delays == "dense" and delay_type != "synaptic":
            raise ValueError(
                f"delay_type={delay_type} has no use with delays=dense, whose every synapse has a"
                " weight at every delay."
            )
        self.taps = taps
        self.delay_type = delay_type
        self.delay_kernel = delay_kernel
        self.delay_gradient = delay_gradient
        self.delay_noise = delay_noise
        self.extra_steps = extra_steps
        self.rounding = rounding
        self.backend = backend
        shape = (outputs, inputs, kernel_count)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        shared = {"axonal": (1, *shape[1:]), "dendritic": (outputs, 1, kernel_count)}
        self._set_delay(_draw_delay(shared.get(delay_type, shape), taps, delays, delay_init))
        self.sigma = float(max(taps // 2, 1))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        if self.bias is not None:
            bound = (inputs * kernel_count) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)
        sparse = torch.rand(outputs, inputs, 1) < density if density < 1 else None
        every = torch.ones(outputs, inputs, 1, dtype=torch.bool) if prunable else None
        self.register_buffer("mask", every if sparse is None else sparse)
        self.constrain()

    def _set_delay(self, delay: Tensor) -> None:
        if self.delays == "learned":
            self.delay = nn.Parameter(delay)
        else:
            self.register_buffer("delay", delay)

    def constrain(self) -> None:
        """Clamp delays to their range and silence missing synapses.

        A pass in training mode does so first of all; after the last optimiser step it makes the
        parameters themselves those of the deployed network.
        """
        _constrain(self.weight, self.delay, self.mask, self.taps)

    def synapses(self) -> Synapses:
        """The synapses that act in this mode, their weights and delays within their bounds.

        In training mode these hold the parameters themselves, brought into their bounds, or what
        they are rounded to; in evaluation mode copies, which several calls share and nobody may
        change.
        """
        weight, delay = self._acting()
        if self.deployed:
            return Synapses(weight, delay, self.taps)
        if self.delay_noise:
            noise = self.delay_noise * torch.randn_like(delay)
            delay = _inside(delay + noise, self.taps)
        kernel = self.delay_kernel
        shape = own_shape(kernel) if is_own(kernel) else SHAPES[kernel]
        straight_through = self.delay_gradient == "straight_through"
        return Synapses(weight, delay, self.taps, shape, self.width, straight_through)

    def _acting(self) -> tuple[Tensor, Tensor]:
        weight, delay = self.weight, self.delay
        if watcher() or not (weight.is_leaf and delay.is_leaf):
            return self._bounded(weight, delay)
        if self.training:
            _constrain(weight, delay, self.mask, self.taps)
            return self.rounding.apply(weight, delay, self.taps)
        if torch.is_grad_enabled() or weight.device.type != "cpu":
            return self._bounded(weight, delay)
        numbers = (weight, delay) if self.mask is None else (weight, delay, self.mask)
        kind = self.taps, self.rounding
        return constants(numbers, kind, lambda: self._bounded(weight, delay))

    def _bounded(self, weight: Tensor, delay: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded copies within bounds; gradients pass as if nothing were rounded."""
        existing = weight if self.mask is None else weight * self.mask
        return self.rounding.apply(existing, _inside(delay, self.taps), self.taps)

    @property
    def exists(self) -> Tensor:
        """Which synapses a mask leaves, [O, I, C]."""
        every = torch.ones_like(self.weight, dtype=torch.bool)
        return every if self.mask is None else every & self.mask

    @property
    def delay_exists(self) -> Tensor:
        """Which delays a synapse has that a mask leaves, in the shape of ``delay``."""
        shared = [n for n in range(2) if self.delay.shape[n] < self.weight.shape[n]]
        return self.exists.any(shared[0], keepdim=True) if shared else self.exists

    @property
    def buffer_steps(self) -> Tensor:
        """1 + the longest rounded delay of each input's synapses, [I]; 0 for an input without.

        These are the rows of a ring buffer: ``HasDelays.buffer_steps``.
        """
        _, delay = self._bounded(self.weight.detach(), self.delay.detach())
        steps = 1 + delay.round().long()
        return (steps * self.exists).amax((0, 2))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        if self.mask is not None:  # that of a layer without one leaves every synapse
            state_dict.setdefault(f"{prefix}mask", torch.ones_like(self.mask))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    @torch.no_grad()
    def prune(self, keep: Tensor) -> None:
        """Remove all synapses but those of ``keep`` [O, I] for good; a delay without is 0.

        Raises:
            ValueError: the layer was not made ``prunable`` and has no mask.
        """
        if self.mask is None:
            raise ValueError("A layer without a mask cannot be pruned: make it with prunable=True.")
        self.mask &= keep.unsqueeze(2)
        self.delay.mul_(self.delay_exists)
        self.constrain()

    def problem(self, x: Tensor, steps: int) -> Problem:
        """The problem that the map has to solve for ``steps`` steps of a batch like ``x``."""
        return Problem(
            steps=steps,
            batch=x.shape[1],
            weight=self.weight.shape,
            delay=self.delay.shape,
            taps=self.taps,
            extra_steps=self.extra_steps,
            dtype=x.dtype,
            device=x.device,
            deployed=self.deployed,
            gradients=torch.is_grad_enabled(),
        )

    def forward(self, x: Tensor | Spectrum) -> Tensor:
        """[T, B, I], or its spectrum -> [T + extra_steps, B, O]."""
        y = self._map(x)
        return y if self.bias is None else y + self.bias

    def _map(self, x: Tensor | Spectrum) -> Tensor:
        synapses = self.synapses()
        if isinstance(x, Spectrum):
            return delayed_linear_of(x, synapses)
        return delayed_linear(x, synapses, extra_steps=self.extra_steps, backend=self.backend)

    def extra_repr(self) -> str:
        """Sizes and settings, for ``print(network)``."""
        outputs, inputs, count = self.weight.shape
        return f"{inputs}, {outputs}, taps={self.taps}, kernel_count={count}, delays={self.delays}"


def _constrain(weight: Tensor, delay: Tensor, mask: Tensor | None, taps: int) -> None:
    """In place and unseen by autograd: what lies within bounds keeps its bits.

    So a second pass may come before the gradients of the first.
    """
    delay.data.clamp_(0, taps - 1)
    if mask is not None:
        weight.data.mul_(mask)


def _inside(delay: Tensor, taps: int) -> Tensor:
    """Within [0, D - 1]; gradients pass a clamped delay as if it had not been clamped."""
    fixed = delay.detach()
    return fixed.clamp(0, taps - 1) + (delay - fixed)


def _draw_delay(shape: tuple[int, ...], taps: int, delays: str, init: str) -> Tensor:
    if delays == "none":
        return torch.zeros(shape)
    if delays == "dense":
        return torch.arange(shape[2]).expand(shape).to(torch.get_default_dtype()).contiguous()
    if init == "uniform_clamped":
        delay = torch.empty(shape).uniform_(0, taps).clamp_(max=taps - 1)
    else:
        delay = torch.empty(shape).uniform_(0, taps - 1)
    return delay.round() if delays == "fixed" else delay
