"""A layer and a network with rounded delays, computed by our code and by torch's convolution.

Every function returns a callable without arguments, to be timed or compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.benchmarks.networks import Problem, our_network, random_batch, reference_of
from scripts.reference.network import ReferenceNetwork
from snn_delays.nn import DelayedLinear, Network
from snn_delays.ops.maps import delayed_linear
from snn_delays.ops.taps import Synapses

RATE = 0.05  # spikes per channel and step of a layer's input
CALIBRATION = 4  # samples that set BatchNorm's statistics

Call = Callable[[], Tensor]


# ---- a layer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A deployed layer and its input.

    Attributes:
        neurons: inputs, and outputs.
        taps: D.
        steps: of the input; the output has (taps - 1) // 2 more.
        batch: samples.
        seed: of parameters and spikes.
    """

    neurons: int
    taps: int
    steps: int
    batch: int
    seed: int

    @property
    def extra_steps(self) -> int:
        """Steps that the output has beyond the input's last step."""
        return (self.taps - 1) // 2

    def build(self, backend: str) -> DelayedLinear:
        """The module, in evaluation mode."""
        torch.manual_seed(self.seed)
        return DelayedLinear(
            self.neurons,
            self.neurons,
            taps=self.taps,
            extra_steps=self.extra_steps,
            backend=backend,
        ).eval()

    def spikes(self) -> Tensor:
        """[T, B, I]."""
        g = torch.Generator().manual_seed(self.seed)
        return (torch.rand(self.steps, self.batch, self.neurons, generator=g) < RATE).float()


def layer_module(sizes: Layer, backend: str, dtype: torch.dtype = torch.float32) -> Call:
    """The module ``DelayedLinear``."""
    layer, x = sizes.build(backend).to(dtype), sizes.spikes().to(dtype)
    return torch.no_grad()(lambda: layer(x))


def layer_function(sizes: Layer, backend: str) -> Call:
    """The function that the module calls."""
    layer, x = sizes.build(backend), sizes.spikes()
    return torch.no_grad()(
        lambda: delayed_linear(
            x,
            Synapses(layer.weight, layer.delay, sizes.taps),
            extra_steps=sizes.extra_steps,
            backend=backend,
        )
    )


def layer_convolution(sizes: Layer) -> Call:
    """torch's convolution; its kernel, padding and memory layout are prepared beforehand."""
    kernel = _convolution_kernel(sizes.build("auto"))
    x = F.pad(sizes.spikes().permute(1, 2, 0), (sizes.taps - 1, sizes.extra_steps)).contiguous()
    return torch.no_grad()(lambda: F.conv1d(x, kernel).permute(2, 0, 1))


@torch.no_grad()
def _convolution_kernel(layer: DelayedLinear) -> Tensor:
    kernel_DOI = Synapses(layer.weight, layer.delay, layer.taps).kernel()
    return kernel_DOI.permute(1, 2, 0).flip(-1).contiguous()


# ---- a network ---------------------------------------------------------------------------------


class ConvolutionNetwork(ReferenceNetwork):
    """The reference network with convolutions whose kernels are prepared beforehand."""

    kernels: list[Tensor]

    def delayed(self, number: int, x: Tensor) -> Tensor:
        """[T, B, I] -> [T + extra steps, B, O]."""
        padded = F.pad(x.permute(1, 2, 0), (self.taps - 1, self.right))
        return F.conv1d(padded, self.kernels[number]).permute(2, 0, 1)


def network_module(problem: Problem, backend: str, dtype: torch.dtype = torch.float32) -> Call:
    """Our network in evaluation mode."""
    network = calibrated(problem).to(dtype)
    network.set_backend(backend)
    x = random_batch(problem)[0].to(dtype)
    return torch.no_grad()(lambda: network(x))


def network_convolution(problem: Problem) -> Call:
    """The same network, computed by convolutions and SpikingJelly's neurons."""
    ours = calibrated(problem).float()
    network = reference_of(ours, problem, ConvolutionNetwork).eval()
    network.kernels = [_convolution_kernel(linear) for linear in ours.delayed_layers()]
    x, _ = random_batch(problem)
    return torch.no_grad()(lambda: network(x))


@torch.no_grad()
def calibrated(problem: Problem) -> Network:
    """A deployed network in float64 whose neurons fire: BatchNorm has seen a small batch."""
    small = replace(problem, batch=CALIBRATION, backend="reference")
    network = our_network(small, torch.float64).eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics become those of this batch
    network(random_batch(small)[0].double())
    return network.eval()
