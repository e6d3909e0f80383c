"""Our training step with each neuron beside that with LIF, at the size of the SHD network.

Each alternates with LIF. The numbers are those of the same network module by module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from scripts.benchmarks.agreement import check_training
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
from scripts.benchmarks.networks import SHD, SIZES, Problem, add_sizes, our_step, plain_network
from scripts.benchmarks.workers import alternate, started
from snn_delays.config.neurons import NEURONS

COLUMNS: Columns = {
    "neuron": lambda row: row["neuron"],
    "step, ms": lambda row: spread(row["ms"]),
    "with LIF, ms": lambda row: spread(row["lif_ms"]),
    "against LIF": lambda row: spread(row["ratio"]),
    "error of gradients": lambda row: f"{row['gradient_error']:.0e}",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("neurons", __doc__)
    others = [name for name in NEURONS if name != "lif"]
    parser.add_argument("--neuron", choices=(*others, "all"), default="all", help="which (all)")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check every neuron's numbers, then time its step beside LIF's."""
    lif = SHD.as_asked(options)
    names = [name for name in NEURONS if options.neuron in (name, "all") and name != "lif"]
    rows = [_row(replace(lif, neuron=name), lif, options.rounds) for name in names]
    title = (
        f"Our training step with each neuron, backend {lif.backend}, float32: {lif.hidden[0]}"
        f" neurons, {lif.taps} taps, {lif.steps} steps, batch {lif.batch}; by turns with LIF."
    )
    return Report(title, COLUMNS, rows)


def _row(problem: Problem, lif: Problem, rounds: int) -> Row:
    say(f"{problem.neuron}: comparing the numbers")
    errors = check_training(problem.neuron, problem, reference=plain_network)
    say(f"{problem.neuron}: timing")
    with started({"other": (our_step, problem), "lif": (our_step, lif)}) as workers:
        seconds = alternate(workers, rounds)
    return {
        "neuron": problem.neuron,
        **{f"{name}_error": error for name, error in errors.items()},
        "ms": milliseconds(seconds["other"]),
        "lif_ms": milliseconds(seconds["lif"]),
        "ratio": ratios(seconds["other"], seconds["lif"]),
    }


if __name__ == "__main__":
    sys.exit(main())
