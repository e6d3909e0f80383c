"""``snn-delays analyse run=<folder>``: a report on the learned delays of a run."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from snn_delays.cli.app import run_command
from snn_delays.config import AnalyseConfig
from snn_delays.errors import UserError

if TYPE_CHECKING:
    from snn_delays.analysis.page import Report
    from snn_delays.analysis.trained_run import TrainedRun
    from snn_delays.data.loaders import Samples


def main() -> None:
    """Entry point."""
    run_command("analyse", _analyse)


def _analyse(options: AnalyseConfig) -> None:
    from snn_delays.analysis.page import write_report
    from snn_delays.training.error_messages import explained

    if (options.run is None) == (options.runs is None):
        raise UserError("Give run=<folder>, or runs=[<folder>,<folder>] to compare.")
    out = _out(options)
    with explained("this machine is too small for the network and its recordings"):
        report = _one(options, out) if options.run is not None else _several(options, out)
    with _written(out):
        path = write_report(report, out)
    print(f"written to {path}, with each figure as PNG and SVG and its numbers as CSV beside it")


def _out(options: AnalyseConfig) -> Path:
    if options.out is not None:
        return Path(options.out).expanduser()
    return Path(options.run).expanduser() / "analysis" if options.run else Path("analysis")


@contextlib.contextmanager
def _written(out: Path) -> Iterator[None]:
    """A context for code that writes to ``out``; an OSError becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out={out} cannot be written: {error.strerror or error}; choose another out."
        ) from error


def _prepare(out: Path) -> None:
    """Check before the work that ``out`` can be written; leaves no file there."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    with _written(out):
        tempfile.TemporaryFile(dir=there).close()


def _one(options: AnalyseConfig, out: Path) -> Report:
    from snn_delays.analysis.causal import count_evaluations
    from snn_delays.analysis.report import run_report
    from snn_delays.analysis.trained_run import held_out_samples, open_run
    from snn_delays.data.progress import progress

    folder = str(options.run)
    subject = open_run(folder)
    samples = held_out_samples(subject, folder)
    _prepare(out)
    total = count_evaluations(subject.network, options.repeats) + 1
    with contextlib.closing(progress(range(total), "analysing", total, "parts")) as parts:
        return run_report(
            subject,
            samples,
            sample=options.sample,
            repeats=options.repeats,
            step=lambda done: next(parts, None),
        )


def _several(options: AnalyseConfig, out: Path) -> Report:
    from snn_delays.analysis.comparison import comparison_report
    from snn_delays.analysis.trained_run import open_run

    runs = options.runs or []
    if len(runs) < 2:
        raise UserError("runs=[...] needs two runs or more; give run=<folder> for one.")
    places = [Path(run).expanduser().resolve() for run in runs]
    for place, run in zip(places, runs, strict=True):
        if places.count(place) > 1:
            raise UserError(f"runs=[...] names {run} twice.")
    subjects = [open_run(run) for run in runs]
    samples = [_known_samples(*both) for both in zip(subjects, runs, strict=True)]
    _prepare(out)
    return comparison_report(subjects, samples)


def _known_samples(subject: TrainedRun, folder: str) -> Samples | None:
    """The recordings that a run is tested on, or None, and a line why, where they are gone."""
    from snn_delays.analysis.trained_run import held_out_samples

    try:
        return held_out_samples(subject, folder)
    except UserError as error:
        print(f"{folder} is left out of the tests in pairs: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
