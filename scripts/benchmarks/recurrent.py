"""A recurrent layer's step, forward and backward, beside the published recursion in plain torch and
beside its matrix products alone, each on one thread.

The layer's input is random current. The published recursion (``scripts.reference.recurrent``) adds
each spike to the currents of the steps in which it arrives. The products are four of [T B, N] by
[N, N]: forward, forward again on the way back, the gradient of the spikes and that of R.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from scripts.benchmarks.common import (
    Columns,
    Disagreement,
    Report,
    Row,
    make_parser,
    milliseconds,
    positive,
    ratios,
    run,
    say,
    spread,
)
from scripts.benchmarks.workers import alternate, started
from scripts.reference.recurrent import scheduled
from snn_delays.ops import recurrent
from snn_delays.ops.neurons import LIF, Cell
from snn_delays.ops.recurrent import DelayLines

SIGMAS = {"wide": 10.0, "narrow": 0.06}  # at the start and at the end of a training
TAU, ALPHA = 2.0, 5.0
NEAR = 1e-9
COLUMNS: Columns = {
    "sigma": lambda row: f"{row['sigma']:g}",
    "ours, ms": lambda row: spread(row["ours_ms"]),
    "published recursion, ms": lambda row: spread(row["published_ms"]),
    "times faster": lambda row: spread(row["faster"]),
    "products, ms": lambda row: spread(row["products_ms"]),
    "ours over products": lambda row: spread(row["over_products"]),
}


@dataclass(frozen=True)
class Problem:
    """Sizes of a recurrent layer, and its numbers' seed."""

    steps: int
    batch: int
    neurons: int
    sigma: float
    seed: int
    dtype: torch.dtype = torch.float32

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Current [T, B, N], R and delays; about a tenth of the steps fire."""
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        y = 0.2 + 0.5 * torch.randn(self.steps, self.batch, self.neurons, dtype=torch.float64)
        weight = torch.nn.init.orthogonal_(torch.empty(self.neurons, self.neurons).double())
        delay = (12 * torch.randn(self.neurons, dtype=torch.float64)).abs()
        tensors = (part.to(self.dtype).requires_grad_() for part in (y, weight, delay))
        return tuple(tensors)  # type: ignore[return-value]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("recurrent", __doc__, rounds=5)
    for name, default, what in (
        ("hidden", 256, "neurons"), ("steps", 100, "time steps"), ("batch", 32, "samples"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=positive, default=default, help=f"{what} ({default})")
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Compare the numbers in float64, then time all three by turns."""
    rows = []
    for name, sigma in SIGMAS.items():
        problem = Problem(options.steps, options.batch, options.hidden, sigma, options.seed)
        say(f"sigma {name}: comparing the numbers")
        _check(name, replace(problem, steps=min(options.steps, 40), batch=3))
        say(f"sigma {name}: timing")
        makes = {"ours": (our_step, problem), "published": (published_step, problem)}
        with started(makes | {"products": (products, problem)}) as workers:
            rows.append({"sigma": sigma, **_summarise(alternate(workers, options.rounds))})
    return Report(
        f"A recurrent layer of {options.hidden} neurons, batch {options.batch}, {options.steps}"
        " steps, float32, one thread: forward and backward, by turns.",
        COLUMNS,
        rows,
    )


def _summarise(seconds: dict[str, list[float]]) -> Row:
    return {
        **{f"{name}_ms": milliseconds(values) for name, values in seconds.items()},
        "faster": ratios(seconds["published"], seconds["ours"]),
        "over_products": ratios(seconds["ours"], seconds["products"]),
    }


def _check(name: str, problem: Problem) -> None:
    """Spikes and gradients of both in float64.

    Raises:
        Disagreement: they differ.
    """
    double = replace(problem, dtype=torch.float64)
    found = [make(double)() for make in (our_step, published_step)]
    if not torch.equal(found[0][0], found[1][0]):
        raise Disagreement(f"sigma {name}: spikes differ.")
    for ours, theirs in zip(found[0][1:], found[1][1:], strict=True):
        if (ours - theirs).norm() > NEAR * theirs.norm():
            raise Disagreement(f"sigma {name}: gradients differ.")


def our_step(problem: Problem) -> Callable[[], list[Tensor]]:
    """Forward and backward by ``ops.recurrent``."""
    cell, width = Cell(LIF, (TAU,), alpha=ALPHA), torch.tensor(1 + problem.sigma)

    def fire(y: Tensor, weight: Tensor, delay: Tensor, mask: Tensor) -> Tensor:
        lines = DelayLines(delay, width.to(y.dtype))
        return recurrent.scan(y, cell, lines, weight, mask, (torch.zeros_like(mask),))[0]

    return _step(problem, fire)


def published_step(problem: Problem) -> Callable[[], list[Tensor]]:
    """Forward and backward by scheduling, with SpikingJelly's neuron."""
    width = torch.tensor(1 + problem.sigma)

    def fire(y: Tensor, weight: Tensor, delay: Tensor, mask: Tensor) -> Tensor:
        node = neuron.LIFNode(
            tau=TAU, decay_input=False, v_reset=0.0, detach_reset=True,
            surrogate_function=surrogate.ATan(alpha=ALPHA),
        )  # fmt: skip
        return scheduled(y, weight, delay, width.to(y.dtype), mask, node)

    return _step(problem, fire)


def _step(problem: Problem, fire: Callable[..., Tensor]) -> Callable[[], list[Tensor]]:
    leaves = problem.draw()
    mask = torch.ones_like(leaves[0][0])

    def step() -> list[Tensor]:
        spikes = fire(*leaves, mask)
        return [spikes.detach(), *torch.autograd.grad(spikes, leaves, spikes.detach())]

    return step


def products(problem: Problem) -> Callable[[], object]:
    """The matrix products alone, as torch computes them."""
    y, weight, _ = (part.detach() for part in problem.draw())
    x = y.flatten(0, 1)
    return lambda: (x @ weight.T, x @ weight.T, x @ weight, x.T @ x)


if __name__ == "__main__":
    sys.exit(main())
