"""A full training step beside the reference's, and beside what its products and traffic cost.

A step is zero_grad, forward, cross-entropy, backward, both optimisers and the clamp, on random
spikes, at the sizes of the paper's SHD and SSC networks. Ours and the reference alternate, with the
step's matrix products alone and its memory traffic alone (roofline.py). Numbers are compared with
float64 first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from scripts.benchmarks import roofline
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
    summary,
)
from scripts.benchmarks.networks import (
    CASES,
    PRECISIONS,
    SIZES,
    Problem,
    add_sizes,
    our_step,
    reference_step,
)
from scripts.benchmarks.workers import alternate, imported_memory, peak_memory, started

SIGMAS = ("wide", "narrow")
Name = tuple[str, str]  # a case and a sigma
COLUMNS: Columns = {
    "case": lambda row: row["case"],
    "sigma": lambda row: row["sigma"],
    "ours, ms": lambda row: spread(row["ours_ms"]),
    "reference, ms": lambda row: spread(row["reference_ms"]),
    "ratio": lambda row: spread(row["ratio"]),
    "products alone, ms": lambda row: spread(row["products_ms"]),
    "GFLOP/s": lambda row: spread(row["gflops"]),
    "traffic alone, ms": lambda row: spread(row["traffic_ms"]),
    "GB/s": lambda row: spread(row["gb_per_s"]),
    "bound / ours": lambda row: spread(row["share"]),
    "imports, MB": lambda row: f"{row['imports_mb']:.0f}",
    "peak memory, MB": lambda row: f"{row['ours_mb']:.0f}",
    "reference, MB": lambda row: f"{row['reference_mb']:.0f}",
    "error of scores": lambda row: _error(row, "logits"),
    "error of gradients": lambda row: _error(row, "gradient"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("train_step", __doc__)
    add = parser.add_argument
    add("--case", choices=(*CASES, "all"), default="all", help="network and batch (all)")
    add(
        "--sigma",
        choices=(*SIGMAS, "all"),
        default="all",
        help="width of the Gaussian taps: wide, as training starts, or narrow, 0.5 (all)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of ours; mixed: autocast to bfloat16, its error stands beside the speed (float32)",
    )
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check every problem's numbers, then time it."""
    problems = _problems(options)
    errors = {name: _check(name, problem, options) for name, problem in problems.items()}
    rows = [
        {"case": name[0], **asdict(problem), "width": problem.width, **errors[name]}
        | {"precision": options.precision}
        | _time(name, problem, options)
        for name, problem in problems.items()
    ]
    return Report(_title(options), COLUMNS, rows)


def _problems(options: argparse.Namespace) -> dict[Name, Problem]:
    cases = CASES if options.case == "all" else {options.case: CASES[options.case]}
    sigmas = SIGMAS if options.sigma == "all" else (options.sigma,)
    return {
        (name, sigma): replace(case.as_asked(options), sigma=sigma)
        for name, case in cases.items()
        for sigma in sigmas
    }


def _check(name: Name, problem: Problem, options: argparse.Namespace) -> Row:
    say(f"{_text(name)}: comparing the numbers")
    errors = check_training(_text(name), problem, options.precision)
    return {f"{number}_error": error for number, error in errors.items()}


def _time(name: Name, problem: Problem, options: argparse.Namespace) -> Row:
    say(f"{_text(name)}: timing")
    makes: dict[str, tuple[Any, ...]] = {
        "ours": (our_step, problem, options.precision),
        "reference": (reference_step, problem),
    }
    limits = {"products": (roofline.multiply, problem), "traffic": (roofline.copy, problem)}
    with started(makes | limits) as workers:
        seconds = alternate(workers, options.rounds)
    bound = [*map(max, seconds["products"], seconds["traffic"])]
    operations = sum(part.operations for part in roofline.products(problem))
    say(f"{_text(name)}: peak memory")
    megabytes = {f"{which}_mb": peak_memory(*make) / 1e6 for which, make in makes.items()}
    return {
        "ours_ms": milliseconds(seconds["ours"]),
        "reference_ms": milliseconds(seconds["reference"]),
        "ratio": ratios(seconds["reference"], seconds["ours"]),
        "products_ms": milliseconds(seconds["products"]),
        "gflops": summary([operations / s / 1e9 for s in seconds["products"]]),
        "traffic_ms": milliseconds(seconds["traffic"]),
        "gb_per_s": summary([roofline.traffic(problem) / s / 1e9 for s in seconds["traffic"]]),
        "share": ratios(bound, seconds["ours"]),
        "imports_mb": imported_memory() / 1e6,
        **megabytes,
    }


def _text(name: Name) -> str:
    return f"{name[0]}, {name[1]} sigma"


def _error(row: Row, name: str) -> str:
    return f"{row[f'{name}_error']:.0e} (reference {row[f'plain_{name}_error']:.0e})"


def _title(options: argparse.Namespace) -> str:
    return (
        f"Training step, backend {options.backend}, {options.precision}, against dcls +"
        " SpikingJelly + Adam in float32; ratio = reference / ours, round by round. The bound is"
        " the longer of products and traffic alone."
    )


if __name__ == "__main__":
    sys.exit(main())
