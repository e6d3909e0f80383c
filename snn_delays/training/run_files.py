"""The files in the folder of a run, and a summary of each run under a folder; without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_delays.config import Config
from snn_delays.config.options import check_types, from_dict
from snn_delays.documents import read_json, read_yaml
from snn_delays.errors import UserError
from snn_delays.files import is_locked

CONFIG_FILE = "config.yaml"
LOCK_FILE = ".lock"
METRICS_FILE = "metrics.jsonl"
NONFINITE_FILE = "nonfinite.json"  # exists if a loss or gradient was infinite or NaN
RESULT_FILE = "result.json"
SPLIT_FILE = "split.json"
FAILED_SUFFIX = ".failed"  # of a file beside the folder, in which a suite says why the run failed


def checkpoint_path(folder: Path, which: str) -> Path:
    """Path of the checkpoint "last", "previous" or "best" in a run's folder."""
    return folder / "checkpoints" / f"{which}.pt"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / CONFIG_FILE).is_file() or checkpoint_path(folder, "last").is_file()


def epochs_done(folder: Path) -> int:
    """Number of epochs that a run has trained, those of a refit included."""
    try:
        return (folder / METRICS_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the folder of every run in ``folder`` and below; hidden folders are left out."""
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if is_run(Path(place)):
            folders.clear()
            yield Path(place)


@dataclass(frozen=True)
class RunSummary:
    """A run as its small files describe it.

    Attributes:
        folder: the run's folder.
        config: its options.
        result: content of result.json, without a check of its checksum; None: not finished.
        state: "finished", "running", "failed" or "stopped".
        epochs: number of epochs trained; of a finished run the number in its options.
        modified: when the run last wrote its options, metrics or result, in seconds since 1970.
    """

    folder: Path
    config: Config
    result: dict[str, Any] | None
    state: str
    epochs: int
    modified: float

    @property
    def score(self) -> dict[str, Any] | None:
        """Accuracy, interval and n, or NRMSE and n: of the test data, else the validation data."""
        result = self.result or {}
        return result if {"accuracy", "nrmse"} & {*result} else result.get("valid")


def summarise_run(folder: Path) -> RunSummary:
    """The summary of a run.

    Raises:
        UserError: config.yaml or result.json is missing or damaged, or is of another version.
    """
    try:
        config: Config = from_dict(Config, read_yaml(folder / CONFIG_FILE))
        check_types(config)
        there = (folder / RESULT_FILE).is_file()
        result = read_json(folder / RESULT_FILE) if there else None
        files = [folder / name for name in (CONFIG_FILE, METRICS_FILE, RESULT_FILE)]
        modified = max(file.stat().st_mtime for file in files if file.is_file())
        epochs = config.train.epochs if there else epochs_done(folder)
        summary = RunSummary(folder, config, result, _state(folder), epochs, modified)
        if there:
            _check_score(summary)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: {error.filename}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (
            str(error)
            if isinstance(error, UserError)
            else f"{CONFIG_FILE} or {RESULT_FILE} is damaged."
        )
        raise UserError(f"{folder} cannot be read: {reason}") from error
    return summary


def _check_score(summary: RunSummary) -> None:
    """Refuse a result whose accuracy is not a number with an interval, or NRMSE no number."""
    if not isinstance(summary.result, dict):
        raise TypeError(f"{RESULT_FILE} holds no result.")
    if summary.score is not None and "nrmse" in summary.score:
        float(summary.score["nrmse"])
    elif summary.score is not None:
        low, high = summary.score["interval"]
        float(summary.score["accuracy"]), float(low), float(high)


def _state(folder: Path) -> str:
    if (folder / RESULT_FILE).is_file():
        return "finished"
    if is_locked(folder / LOCK_FILE):
        return "running"
    notes = (folder / NONFINITE_FILE, folder.with_suffix(FAILED_SUFFIX))
    return "failed" if any(note.is_file() for note in notes) else "stopped"
