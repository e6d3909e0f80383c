"""Axonal and dendritic delays beside synaptic ones: a layer forward and backward, a training step.

The layer has 256 inputs and outputs, 25 taps, 112 steps, 12 extra ones and a batch of 128; the step
is that of the SHD network. Each type alternates with the synaptic one, at the default backend.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.benchmarks.agreement import relative, require
from scripts.benchmarks.common import (
    Columns,
    Report,
    Row,
    make_parser,
    milliseconds,
    ratios,
    run,
    say,
    spread,
)
from scripts.benchmarks.networks import (
    RATE,
    SHD,
    Problem,
    add_sizes,
    our_network,
    our_step,
    random_batch,
)
from scripts.benchmarks.workers import alternate, started
from snn_delays.nn import DelayedLinear

TYPES = ("axonal", "dendritic")
SMALL = 4  # samples at which numbers are compared
COLUMNS: Columns = {
    "what": lambda row: row["what"],
    "delays": lambda row: row["delay_type"],
    "ms": lambda row: spread(row["ms"]),
    "synaptic, ms": lambda row: spread(row["synaptic_ms"]),
    "against synaptic": lambda row: spread(row["ratio"]),
    "error of gradients": lambda row: f"{row['gradient_error']:.0e}",
}


@dataclass(frozen=True)
class Layer:
    """A layer in training and its input.

    Attributes:
        hidden: inputs, and outputs.
        taps: D; (taps - 1) // 2 steps are added behind the sequence.
        steps: of the input.
        batch: samples.
        backend: of the map.
        seed: of parameters and spikes.
        delay_type: whose the delays are.
    """

    hidden: int
    taps: int
    steps: int
    batch: int
    backend: str
    seed: int
    delay_type: str = "synaptic"

    def gradients(self, dtype: torch.dtype = torch.float32) -> Callable[[], list[Tensor]]:
        """Forward and backward: the gradients of input, weights and delays."""
        torch.manual_seed(self.seed)
        layer = DelayedLinear(
            self.hidden,
            self.hidden,
            taps=self.taps,
            extra_steps=(self.taps - 1) // 2,
            delay_type=self.delay_type,
            backend=self.backend,
        ).to(dtype)
        x = (torch.rand(self.steps, self.batch, self.hidden) < RATE).to(dtype).requires_grad_()
        pull = torch.randn(self.steps + layer.extra_steps, self.batch, self.hidden).to(dtype)
        leaves = [x, layer.weight, layer.delay]
        return lambda: list(torch.autograd.grad(layer(x), leaves, pull))


def layer_step(layer: Layer) -> Callable[[], object]:
    """The layer, forward and backward."""
    return layer.gradients()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("delay_types", __doc__)
    add_sizes(parser, "hidden", "taps", "steps", "batch")
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check the numbers of every type, then time it beside the synaptic one."""
    layer = Layer(
        options.hidden or 256,
        options.taps or 25,
        options.steps or 112,
        options.batch or 128,
        options.backend,
        options.seed,
    )
    network = SHD.as_asked(options)
    rows = [_row("layer", kind, layer, layer_step, _layer_error, options) for kind in TYPES]
    rows += [_row("SHD step", kind, network, our_step, _step_error, options) for kind in TYPES]
    return Report(_title(options), COLUMNS, rows)


def _row(
    what: str,
    kind: str,
    problem: Any,
    step: Callable[..., Any],
    error: Callable[[Any], float],
    options: argparse.Namespace,
) -> Row:
    say(f"{what}, {kind}: comparing the numbers")
    own = replace(problem, delay_type=kind)
    found = error(replace(own, batch=min(own.batch, SMALL)))
    require(f"{what}, {kind}: the gradient", found, 0.0)
    say(f"{what}, {kind}: timing")
    with started({"synaptic": (step, problem), kind: (step, own)}) as workers:
        seconds = alternate(workers, options.rounds)
    return {
        "what": what,
        "delay_type": kind,
        "gradient_error": found,
        "ms": milliseconds(seconds[kind]),
        "synaptic_ms": milliseconds(seconds["synaptic"]),
        "ratio": ratios(seconds[kind], seconds["synaptic"]),
    }


def _layer_error(layer: Layer) -> float:
    """The worst deviation of a gradient from that of the reference backend in float64."""
    exact = replace(layer, backend="reference").gradients(torch.float64)()
    return max(relative(a, b) for a, b in zip(layer.gradients()(), exact, strict=True))


def _step_error(problem: Problem) -> float:
    quiet = replace(problem, dropout=0.0)
    found = _network_gradients(quiet, torch.float32)
    exact = _network_gradients(replace(quiet, backend="reference"), torch.float64)
    return max(relative(a, b) for a, b in zip(found, exact, strict=True))


def _network_gradients(problem: Problem, dtype: torch.dtype) -> list[Tensor]:
    network = our_network(problem).to(dtype)
    x, y = random_batch(problem)
    F.cross_entropy(network(x.to(dtype)), y).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def _title(options: argparse.Namespace) -> str:
    return (
        f"Axonal and dendritic delays, backend {options.backend}, float32, by turns with synaptic"
        " ones; a ratio below 1 is faster."
    )


if __name__ == "__main__":
    sys.exit(main())
