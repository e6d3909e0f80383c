"""The deployed network (rounded delays): one layer, and the whole SHD network.

The peer is torch's convolution, in the network with SpikingJelly's neurons. Building its dense
kernel is not timed; for the layer, padding and layout are not timed either.
Layer: 256 -> 256, 112 + 12 steps, 25 taps, 5 % spikes. Network: SHD's, 100 steps, 10 % spikes,
BatchNorm calibrated on these spikes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scripts.benchmarks import deployed
from scripts.benchmarks.agreement import relative, require
from scripts.benchmarks.common import (
    Columns,
    Report,
    Row,
    make_parser,
    milliseconds,
    positives,
    ratios,
    run,
    say,
    spread,
)
from scripts.benchmarks.networks import SHD, add_sizes
from scripts.benchmarks.workers import alternate, started
from snn_delays.errors import UserError
from snn_delays.ops.maps import BACKENDS

PEER = "conv1d"
LIMITS = {"layer": 1e-5, "network": 1e-3}  # relative deviation from float64
LAYER = {"hidden": 256, "taps": 25, "steps": 112}
COLUMNS: Columns = {
    "what": lambda row: row["what"],
    "batch": lambda row: str(row["batch"]),
    "by": lambda row: row["by"],
    "ms": lambda row: spread(row["ms"]),
    "times as fast as conv1d": lambda row: spread(row["ratio"]),
    "error": lambda row: f"{row['error']:.0e}",
}

Make = tuple[Any, ...]  # a function of ``deployed`` and its arguments


@dataclass(frozen=True)
class Trial:
    """Several ways to compute one output.

    Attributes:
        what: "layer" or "network".
        batch: samples.
        exact: the computation in float64.
        makes: the computations to time, by name; ``PEER`` is one of them.
    """

    what: str
    batch: int
    exact: Make
    makes: dict[str, Make]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("inference", __doc__, default="all")
    add = parser.add_argument
    add("--what", choices=("layer", "network", "all"), default="all", help="what to run (all)")
    add("--batch", type=positives, default=[1, 256], metavar="B,B,...", help="samples (1,256)")
    add_sizes(parser, *LAYER)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check every trial's numbers, then time it."""
    trials = [trial for batch in options.batch for trial in _trials(batch, options)]
    errors = [_check(trial) for trial in trials]
    rows = [
        row
        for trial, served in zip(trials, errors, strict=True)
        for row in _time(trial, served, options.rounds)
    ]
    return Report(_title(), COLUMNS, rows)


def _trials(batch: int, options: argparse.Namespace) -> Iterator[Trial]:
    backends = ("auto", *BACKENDS) if options.backend == "all" else (options.backend,)
    if options.what != "network":
        yield _layer(batch, backends, options)
    if options.what != "layer":
        yield _network(batch, backends, options)


def _layer(batch: int, backends: Sequence[str], options: argparse.Namespace) -> Trial:
    sizes = {name: getattr(options, name) or usual for name, usual in LAYER.items()}
    layer = deployed.Layer(sizes["hidden"], sizes["taps"], sizes["steps"], batch, options.seed)
    makes: dict[str, Make] = {PEER: (deployed.layer_convolution, layer)}
    makes |= {f"DelayedLinear, {b}": (deployed.layer_module, layer, b) for b in backends}
    makes |= {f"delayed_linear(), {b}": (deployed.layer_function, layer, b) for b in backends[:1]}
    exact = (deployed.layer_module, layer, "reference", torch.float64)
    return Trial("layer", batch, exact, makes)


def _network(batch: int, backends: Sequence[str], options: argparse.Namespace) -> Trial:
    sizes = {name: getattr(options, name) for name in LAYER}
    problem = SHD.resized(batch=batch, seed=options.seed, **sizes)
    makes: dict[str, Make] = {PEER: (deployed.network_convolution, problem)}
    makes |= {f"Network, {b}": (deployed.network_module, problem, b) for b in backends}
    exact = (deployed.network_module, problem, "reference", torch.float64)
    return Trial("network", batch, exact, makes)


def _check(trial: Trial) -> dict[str, float]:
    """Relative deviation from float64 of every computation that is possible here."""
    say(f"{trial.what}, batch {trial.batch}: comparing the numbers")
    exact = _result(trial.exact)
    peer = relative(_result(trial.makes[PEER]), exact)
    errors = {}
    for name, make in trial.makes.items():
        try:
            errors[name] = relative(_result(make), exact)
        except ValueError as error:
            say(f"  {name}: left out. {error}")
            continue
        what = f"{trial.what}, batch {trial.batch}, {name}: the output"
        require(what, errors[name], peer, LIMITS[trial.what])
    if len(errors) == 1:
        raise UserError(f"None of {', '.join(list(trial.makes)[1:])} serves.")
    return errors


def _result(make: Make) -> torch.Tensor:
    function, *arguments = make
    return function(*arguments)()


def _time(trial: Trial, errors: dict[str, float], rounds: int) -> Iterator[Row]:
    say(f"{trial.what}, batch {trial.batch}: timing")
    with started({name: trial.makes[name] for name in errors}) as workers:
        seconds = alternate(workers, rounds)
    for name, error in errors.items():
        yield {
            "what": trial.what,
            "batch": trial.batch,
            "by": name,
            "ms": milliseconds(seconds[name]),
            "ratio": ratios(seconds[PEER], seconds[name]),
            "error": error,
        }


def _title() -> str:
    return (
        "Deployed layer and network (rounded delays), float32, by turns with torch's convolution"
        " with its kernel prepared; ratio round by round; error: relative deviation from float64."
    )


if __name__ == "__main__":
    sys.exit(main())
