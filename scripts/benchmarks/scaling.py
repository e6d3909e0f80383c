"""Our training step over taps, time steps, hidden neurons and batch size, one changed at a time.

The centre is the SHD network (25 taps, 100 steps, 256 neurons, batch 256) without extra steps; each
changed size alternates with the centre. --factor taps at 251 gives the ratio of 251 taps to 25.
--factor demo is the small network of `snn-delays demo` (18 neurons a layer) over its batch size.
--reference times each size beside dcls + SpikingJelly + Adam, too.
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
    positives,
    ratios,
    run,
    say,
    spread,
    spread_of,
)
from scripts.benchmarks.networks import (
    DEMO,
    SHD,
    SIZES,
    Problem,
    add_sizes,
    our_step,
    reference_step,
)
from scripts.benchmarks.workers import OutOfMemory, Worker, alternate, started
from snn_delays.errors import UserError

VALUES = {
    "taps": [25, 51, 101, 251, 501],
    "steps": [50, 100, 200, 500, 1000],
    "hidden": [128, 256, 512, 1024],
    "batch": [1, 16, 64, 256, 512],
    "demo": [1, 16, 100],
}
LABELS = {"demo": "batch, the demo's network"}
PATIENCE = 120.0  # seconds after which no further round with the reference begins
Point = tuple[str, int]  # a factor and its value
COLUMNS: Columns = {
    "factor": lambda row: str(LABELS.get(row["factor"], row["factor"])),
    "value": lambda row: str(row["value"]),
    "step, ms": lambda row: spread(row["ms"]),
    "centre, ms": lambda row: spread(row["centre_ms"]),
    "against the centre": lambda row: spread(row["ratio"]),
    "error of gradients": lambda row: f"{row['gradient_error']:.0e}",
}
REFERENCE: Columns = {
    "reference, ms": lambda row: spread_of(row, "reference_ms", "out of memory"),
    "times as fast": lambda row: spread_of(row, "times_as_fast"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("scaling", __doc__)
    add = parser.add_argument
    add("--factor", choices=(*VALUES, "all"), default="all", help="what is varied (all)")
    add("--values", type=positives, metavar="N,N,...", help="of that factor, instead of the usual")
    add("--reference", action="store_true", help="time dcls + SpikingJelly + Adam, too")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check every size, then time it beside the centre."""
    if options.values and options.factor == "all":
        raise UserError("--values needs --factor taps, steps, hidden, batch or demo.")
    centre = replace(SHD, extra_steps=0).as_asked(options)
    points = _points(centre, options)
    errors = {point: _check(point, problem) for point, problem in points.items()}
    with started({"centre": (our_step, centre)}) as workers:
        rows = [
            {"factor": point[0], "value": point[1], **errors[point]}
            | _time(point, problem, workers["centre"], options)
            for point, problem in points.items()
        ]
    columns = COLUMNS | REFERENCE if options.reference else COLUMNS
    return Report(_title(centre, options), columns, rows)


def _points(centre: Problem, options: argparse.Namespace) -> dict[Point, Problem]:
    factors = VALUES if options.factor == "all" else {options.factor: VALUES[options.factor]}
    return {
        (factor, value): _problem(centre, factor, value)
        for factor, usual in factors.items()
        for value in options.values or usual
    }


def _problem(centre: Problem, factor: str, value: int) -> Problem:
    if factor == "demo":
        return replace(DEMO, batch=value, backend=centre.backend, seed=centre.seed)
    return centre.resized(**{factor: value})


def _check(point: Point, problem: Problem) -> Row:
    say(f"{_name(point)}: comparing the numbers")
    errors = check_training(_name(point), problem)
    return {f"{name}_error": error for name, error in errors.items()}


def _time(point: Point, problem: Problem, centre: Worker, options: argparse.Namespace) -> Row:
    say(f"{_name(point)}: timing")
    beside: Row = {}
    with started({"point": (our_step, problem)}) as workers:
        seconds = alternate({"centre": centre, **workers}, options.rounds)
        if options.reference:
            say(f"{_name(point)}: timing beside the reference")
            beside = _beside_reference(problem, workers["point"], options.rounds)
    return {
        "ms": milliseconds(seconds["point"]),
        "centre_ms": milliseconds(seconds["centre"]),
        "ratio": ratios(seconds["point"], seconds["centre"]),
        **beside,
    }


def _beside_reference(problem: Problem, ours: Worker, rounds: int) -> Row:
    """The reference's time, round by round; empty if memory does not suffice for it."""
    with started({"reference": (reference_step, problem)}) as workers:
        try:
            seconds = alternate({"ours": ours, **workers}, rounds, PATIENCE)
        except OutOfMemory:
            return {}
    return {
        "reference_ms": milliseconds(seconds["reference"]),
        "times_as_fast": ratios(seconds["reference"], seconds["ours"]),
    }


def _name(point: Point) -> str:
    return f"{point[0]} {point[1]}"


def _title(centre: Problem, options: argparse.Namespace) -> str:
    reference = (
        " The reference, dcls + SpikingJelly + Adam, alternates with each size, in fewer rounds"
        f" than asked for where they would take longer than {PATIENCE:.0f} s."
    )
    return (
        f"Our training step, backend {centre.backend}, float32, one size changed at a time from"
        f" {centre.taps} taps, {centre.steps} steps, {centre.hidden[0]} neurons, batch"
        f" {centre.batch}, no extra steps; by turns with that centre."
        f"{reference if options.reference else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
