"""The two networks that are timed, ours and the reference, and a training step of each.

The reference is the paper's network, assembled from dcls, SpikingJelly and torch's Adam as in its
authors' code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.benchmarks.common import positive
from scripts.reference.network import ReferenceNetwork, reference_optimizers
from snn_delays.config import SIG_END, SIGMA_OFFSETS, Config, validate
from snn_delays.nn import Network, build_network
from snn_delays.runtime.device import autocast
from snn_delays.training.optim import build_optimizers

RATE = 0.1  # spikes per channel and step
PRECISIONS = ("float32", "mixed")
SIZES = {
    "hidden": ("N", "neurons of each hidden layer"),
    "taps": ("D", "delay taps, odd"),
    "steps": ("T", "time steps of the input"),
    "batch": ("B", "samples"),
}

Reference = TypeVar("Reference", bound=ReferenceNetwork)


@dataclass(frozen=True)
class Problem:
    """A network and its batch.

    Attributes:
        hidden: neurons of each hidden layer.
        taps: of every layer.
        steps: of the input.
        batch: samples.
        classes: number of classes.
        tau: membrane time constant, steps.
        dropout: share of hidden neurons silenced.
        extra_steps: steps that each layer adds; None: (taps - 1) // 2.
        sigma: "wide", as training starts, or "narrow", as it ends.
        backend: of our network.
        seed: of parameters and spikes.
        device: "cpu" or "cuda".
        neuron: of all layers.
        delay_type: whose the delays are.
        units_per_channel: of 700 units, those that are summed into an input channel.
    """

    hidden: tuple[int, ...]
    taps: int
    steps: int
    batch: int
    classes: int
    tau: float
    dropout: float
    extra_steps: int | None = None
    sigma: str = "wide"
    backend: str = "auto"
    seed: int = 0
    device: str = "cpu"
    neuron: str = "lif"
    delay_type: str = "synaptic"
    units_per_channel: int = 5

    @property
    def width(self) -> float:
        """Width of the Gaussian taps, steps."""
        return (SIG_END if self.sigma == "narrow" else self.taps // 2) + SIGMA_OFFSETS["gauss"]

    def resized(self, **sizes: int | None) -> Problem:
        """The problem with other sizes; "hidden" applies to every layer, None keeps a size."""
        given: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
        if "hidden" in given:
            given["hidden"] = (given["hidden"],) * len(self.hidden)
        return replace(self, **given)

    def as_asked(self, options: argparse.Namespace) -> Problem:
        """The problem with the options' sizes, backend and seed."""
        sizes = {name: getattr(options, name) for name in SIZES}
        return replace(self.resized(**sizes), backend=options.backend, seed=options.seed)


SHD = Problem((256, 256), 25, 100, 256, 20, 1.005, 0.4)
SSC = Problem((512, 512, 512), 31, 100, 128, 35, 1.5, 0.25)
DEMO = Problem((18, 18), 25, 50, 100, 16, 1.005, 0.1, units_per_channel=50)
CASES = {"shd": SHD, "ssc": SSC}


def add_sizes(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add an option for each of these sizes of a problem."""
    for name in names:
        letter, help = SIZES[name]
        parser.add_argument(f"--{name}", type=positive, metavar=letter, help=help)


def configure(problem: Problem) -> Config:
    """The package's configuration of a problem.

    Raises:
        UserError: no network can have these sizes.
    """
    config = Config(backend=problem.backend, seed=problem.seed)
    config.model.hidden = list(problem.hidden)
    config.model.taps = problem.taps
    config.model.extra_steps = problem.extra_steps
    config.model.tau_ms = problem.tau * config.data.step_ms
    config.model.dropout, config.model.neuron = problem.dropout, problem.neuron
    config.model.delay_type = problem.delay_type
    config.data.units_per_channel = problem.units_per_channel
    validate(config)
    return config


def random_batch(problem: Problem) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, I] and labels [B]."""
    g = torch.Generator().manual_seed(problem.seed)
    channels = configure(problem).data.channels
    x = torch.rand(problem.steps, problem.batch, channels, generator=g) < RATE
    y = torch.randint(problem.classes, (problem.batch,), generator=g)
    return x.float().to(problem.device), y.to(problem.device)


def our_network(problem: Problem, dtype: torch.dtype = torch.float32) -> Network:
    """Our network, in training mode."""
    torch.manual_seed(problem.seed)
    network = build_network(configure(problem), problem.classes).to(problem.device, dtype)
    network.set_sigma(problem.width)
    return network


def plain_network(problem: Problem, dtype: torch.dtype) -> Network:
    """Our network module by module, its maps by their definition."""
    network = our_network(problem, dtype)
    network.set_backend("reference")
    return network


def reference_network(problem: Problem, dtype: torch.dtype = torch.float32) -> ReferenceNetwork:
    """The reference, with our network's parameters."""
    return reference_of(our_network(problem, dtype), problem, ReferenceNetwork)


def reference_of(network: Network, problem: Problem, kind: type[Reference]) -> Reference:
    """An instance of ``kind``, the reference or a subclass, with the parameters of ``network``."""
    config = configure(problem)
    theirs = kind(
        [config.data.channels, *problem.hidden, problem.classes],
        problem.taps,
        1,
        config.tau,
        problem.dropout,
        config.model.layer_extra_steps,
    ).to(network.readout.linear.weight)
    theirs.copy_from(network)
    for linear in theirs.maps:  # a schedule sets SIG, which needs no gradient
        linear.SIG.requires_grad_(False)
    return theirs


def scores(network: nn.Module, x: Tensor, precision: str) -> Tensor:
    """[T, B, I] -> [B, K]; in "mixed" precision under torch's autocast to bfloat16."""
    with autocast(precision, x.device):
        return network(x)


def our_step(problem: Problem, precision: str = "float32") -> Callable[[], None]:
    """A training step of our network."""
    network = our_network(problem)
    optimizers = build_optimizers(network, configure(problem).train)
    x, y = random_batch(problem)

    def step() -> None:
        network.zero_grad()
        F.cross_entropy(scores(network, x, precision), y).backward()
        optimizers.step()
        network.constrain()

    return step


def reference_step(problem: Problem, precision: str = "float32") -> Callable[[], None]:
    """A training step of the reference."""
    network = reference_network(problem)
    optimizers, _ = reference_optimizers(network, configure(problem))
    step = reference_update(network, optimizers, precision)
    x, y = random_batch(problem)
    return lambda: step(x, y)


def reference_update(
    network: ReferenceNetwork, optimizers: list[torch.optim.Optimizer], precision: str = "float32"
) -> Callable[[Tensor, Tensor], None]:
    """The reference's training step, a function of spikes [T, B, I] and labels [B]."""

    def step(x: Tensor, y: Tensor) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(scores(network, x, precision), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        network.clamp()

    return step
