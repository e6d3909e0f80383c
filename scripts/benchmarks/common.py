"""Shared by all benchmarks: options, errors, statistics, and the writing of results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import torch

from snn_delays.cli.app import quiet_libraries
from snn_delays.errors import UserError
from snn_delays.ops.maps import BACKENDS
from snn_delays.training import provenance

PACKAGES = ("DCLS", "numba", "scipy")  # besides the packages whose versions every run notes
SHAPES_SPEED = ("OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "KMP_", "GOMP_")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k.startswith(SHAPES_SPEED)}

Row = dict[str, Any]
Columns = dict[str, Callable[[Row], str]]


class Disagreement(Exception):
    """The computation to be timed gives wrong numbers; the message says which, by how much."""


@dataclass(frozen=True)
class Report:
    """A measurement.

    Attributes:
        title: what was measured, a sentence.
        columns: heading of each column of the table, and the function that renders a row's cell.
        rows: the numbers.
    """

    title: str
    columns: Columns
    rows: list[Row]

    def table(self) -> str:
        """Markdown."""
        lines = [list(self.columns), ["---"] * len(self.columns)]
        lines += [[show(row) for show in self.columns.values()] for row in self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# ---- options -----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Options of a benchmark; a mistake ends in one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and exit."""
        self.exit(2, f"{self.prog}: {message.rstrip('.')}.\n")


def make_parser(
    name: str, description: str | None, rounds: int = 7, default: str = "auto"
) -> Parser:
    """The options that every benchmark has.

    Args:
        name: of the script.
        description: the script's docstring.
        rounds: default of --rounds.
        default: of --backend.
    """
    backends = tuple(dict.fromkeys((default, "auto", *BACKENDS)))
    parser = Parser(
        prog=f"python -m scripts.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--rounds", type=positive, default=rounds, help=f"measurements of each ({rounds})")
    add("--backend", choices=backends, default=default, help=f"ours ({default})")
    add("--seed", type=int, default=0, help="of parameters and spikes (0)")
    add("--out", type=Path, metavar="FOLDER", help=f"write {name}.md and {name}.json there")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def positives(text: str) -> list[int]:
    """Whole numbers of at least 1, separated by commas."""
    return [positive(part) for part in text.split(",")]


def run(
    parser: Parser, measure: Callable[[argparse.Namespace], Report], arguments: Sequence[str] | None
) -> int:
    """Read the options, measure, print the table and write it.

    Returns:
        Exit code: 1 where numbers disagree (no speed is printed), 2 for a mistake in the options.
    """
    quiet_libraries()
    options = parser.parse_args(arguments)
    try:
        if options.out is not None:
            _make_folder(options.out)
        report = measure(options)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except Disagreement as error:
        print(f"{parser.prog}: {error} No speed is reported.", file=sys.stderr)
        return 1
    made = _how_made([*parser.prog.split(), *(sys.argv[1:] if arguments is None else arguments)])
    text = f"{report.title}\n\n{report.table()}\n\n{_footer(made)}\n"
    print(text, end="")
    if options.out is not None:
        path = options.out / parser.prog.rpartition(".")[2]
        result = {"title": report.title, "rows": report.rows, "made": made}
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


# ---- statistics --------------------------------------------------------------------------------


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, min, max, n, and the values in their order."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "values": list(values),
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Summary of the ratios of each round; the machine's drift cancels within a round."""
    return summary([a / b for a, b in zip(over, under, strict=True)])


def milliseconds(seconds: Sequence[float]) -> dict[str, Any]:
    """Summary in ms."""
    return summary([1000 * s for s in seconds])


def spread(values: dict[str, Any]) -> str:
    """A summary in a table: ``median (min-max)``."""
    return f"{short(values['median'])} ({short(values['min'])}-{short(values['max'])})"


def spread_of(row: Row, key: str, otherwise: str = "") -> str:
    """A row's summary in a table; ``otherwise`` where the row has none of that name."""
    return spread(row[key]) if key in row else otherwise


def short(value: float) -> str:
    """Three digits, without exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


# ---- results -----------------------------------------------------------------------------------


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out {folder} cannot be written.")


def _how_made(command: list[str]) -> dict[str, Any]:
    return {
        "command": shlex.join(command),
        "commit": provenance.commit(),
        "versions": provenance.versions() | {package: _version(package) for package in PACKAGES},
        "machine": provenance.machine(
            torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
        ),
        "environment": ENVIRONMENT,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _footer(made: dict[str, Any]) -> str:
    machine = made["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    environment = " ".join(f"{k}={v}" for k, v in made["environment"].items())
    return (
        f"Median (min-max). `{made['command']}`, commit {made['commit']}; {machine['cpu']},"
        f" {machine['cores']} cores, {machine['threads']} threads"
        f"{', ' + machine['gpu'] if 'gpu' in machine else ''}"
        f"{f', {environment}' if environment else ''}; {versions}."
    )
