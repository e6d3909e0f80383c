"""The files in the folder of a run; without torch."""

from __future__ import annotations

from pathlib import Path

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
