"""The layer that holds weights and delays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_delays.ops.delay import delayed_linear
from snn_delays.ops.taps import Sigma


class DelayedLinear(nn.Module):
    """A linear layer whose every synapse has ``kernel_count`` weights and delays.

    In training mode learned delays act through Gaussian taps of width ``sigma``. In evaluation
    mode, and always for fixed delays, each acts through the one tap nearest to it: the deployed
    network, a function of the parameters that changes nothing in them.

    Shape: [T, B, inputs] -> [T + extra_steps, B, outputs].

    Args:
        inputs: number of inputs I.
        outputs: number of outputs O.
        taps: number of taps D; delays lie in [0, D - 1] steps.
        kernel_count: delayed copies of each synapse C.
        delays: "learned" (a parameter), "fixed" (drawn, rounded, a buffer), "none" (zero) or
            "dense" (the c-th copy at delay c: with C = D, an ordinary temporal convolution).
        delay_init: "uniform" over [0, D - 1], or "uniform_clamped": over [0, D], cut at D - 1,
            which is the authors' draw.
        extra_steps: steps added behind the sequence.
        bias: add a bias, drawn as torch's convolutions draw it.
        density: share of synapses that exist, by a fixed Bernoulli mask (one per synapse).
        backend: implementation of the map.

    Attributes:
        weight: [O, I, C], Kaiming uniform for 'relu': bound sqrt(6 / (I C)).
        delay: [O, I, C], in steps.
        sigma: width of the Gaussian in steps, set by the training schedule.
    """

    mask: Tensor | None
    width: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        taps: int,
        kernel_count: int = 1,
        delays: str = "learned",
        delay_init: str = "uniform",
        extra_steps: int = 0,
        bias: bool = False,
        density: float = 1.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.taps = taps
        self.delays = delays
        self.extra_steps = extra_steps
        self.backend = backend
        shape = (outputs, inputs, kernel_count)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self._set_delay(_draw_delay(shape, taps, delays, delay_init))
        self.register_buffer("width", torch.empty(()), persistent=False)
        self.sigma = float(max(taps // 2, 1))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        if self.bias is not None:
            bound = (inputs * kernel_count) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)
        mask = torch.rand(outputs, inputs, 1) < density if density < 1 else None
        self.register_buffer("mask", mask)
        self.constrain()

    def _set_delay(self, delay: Tensor) -> None:
        if self.delays == "learned":
            self.delay = nn.Parameter(delay)
        else:
            self.register_buffer("delay", delay)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp delays to their range and silence missing synapses; after every optimiser step."""
        if self.delays == "learned":
            self.delay.clamp_(0, self.taps - 1)
        if self.mask is not None:
            self.weight.mul_(self.mask)

    @property
    def exists(self) -> Tensor:
        """Which synapses a mask leaves, [O, I, C]."""
        every = torch.ones_like(self.weight, dtype=torch.bool)
        return every if self.mask is None else every & self.mask

    @property
    def sigma(self) -> float:
        """Width of the Gaussian in steps."""
        return self._sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self._sigma = sigma
        self.width.fill_(sigma)

    @property
    def active_sigma(self) -> Sigma:
        """Width of the Gaussian that acts now, or None: one tap at the rounded delay.

        On a GPU it is a scalar there, which a recorded CUDA graph reads anew.
        """
        if not self.training or self.delays != "learned":
            return None
        return self.width if self.width.is_cuda else self._sigma

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I] -> [T + extra_steps, B, O]."""
        y = delayed_linear(
            x,
            self.weight,
            self.delay,
            self.active_sigma,
            taps=self.taps,
            extra_steps=self.extra_steps,
            backend=self.backend,
        )
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Sizes and settings, for ``print(network)``."""
        outputs, inputs, count = self.weight.shape
        return f"{inputs}, {outputs}, taps={self.taps}, kernel_count={count}, delays={self.delays}"


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
