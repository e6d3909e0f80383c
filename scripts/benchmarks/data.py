"""From recordings to batches: preparing frames, opening them again, loading batches; beside Tonic.

Writes random recordings as a file of SHD's format to a temporary folder. Ours: the package's cache
and loader. Tonic: its dataset of that format, Downsample and ToFrame (no event left out),
DiskCachedDataset, torch's DataLoader with PadTensors, in one process. The two alternate, each in a
process of its own; first, every sample must hold the same number of spikes in both.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tonic
import torch
from torch.utils.data import DataLoader

from scripts.benchmarks.common import (
    Columns,
    Disagreement,
    Report,
    Row,
    make_parser,
    positive,
    ratios,
    run,
    say,
    spread,
    summary,
)
from scripts.benchmarks.epoch import UNITS, data_config, open_recordings, write_recordings
from scripts.benchmarks.networks import SHD
from scripts.benchmarks.workers import alternate, peak_memory, started
from snn_delays.config import Config
from snn_delays.data.loaders import Samples
from snn_delays.training.loop import build_loader

STAGES = {
    "prepare": "making all frames, from nothing",
    "open": "opening them again, to the first sample",
    "batches": "an epoch of shuffled batches",
}
COLUMNS: Columns = {
    "stage": lambda row: STAGES[row["stage"]],
    "ours, samples per second": lambda row: spread(row["ours_per_second"]),
    "Tonic": lambda row: spread(row["tonic_per_second"]),
    "ours, s": lambda row: spread(row["ours_seconds"]),
    "Tonic, s": lambda row: spread(row["tonic_seconds"]),
    "ours / Tonic": lambda row: spread(row["ratio"]),
    "peak memory, MB": lambda row: f"{row['ours_mb']:.0f}",
    "Tonic, MB": lambda row: f"{row['tonic_mb']:.0f}",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("data", __doc__, rounds=5)
    parser.add_argument("--samples", type=positive, default=2048, help="recordings (2048)")
    parser.add_argument("--batch", type=positive, default=256, help="samples per batch (256)")
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Count the spikes in both, then time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say("writing the recordings")
        write_recordings(folder / "train.h5", options.samples, SHD)
        say("counting the spikes")
        _check(folder)
        rows = [_row(stage, folder, options) for stage in STAGES]
    title = f"{options.samples} SHD-like recordings, batches of {options.batch}, beside Tonic."
    return Report(title, COLUMNS, rows)


def _row(stage: str, folder: Path, options: argparse.Namespace) -> Row:
    say(f"{stage}: timing")
    makes = {
        "ours": (OURS[stage], folder, options.batch),
        "tonic": (TONIC[stage], folder, options.batch),
    }
    with started(makes) as workers:
        seconds = alternate(workers, options.rounds)
    say(f"{stage}: peak memory")
    return {
        "stage": stage,
        "samples": options.samples,
        "ratio": ratios(seconds["tonic"], seconds["ours"]),
        **{f"{who}_seconds": summary(s) for who, s in seconds.items()},
        **{
            f"{who}_per_second": summary([options.samples / one for one in s])
            for who, s in seconds.items()
        },
        **{f"{who}_mb": peak_memory(*make) / 1e6 for who, make in makes.items()},
    }


def _check(folder: Path) -> None:
    ours, theirs = _our_store(folder), _tonic_cached(folder)
    for number in range(len(ours)):
        counts = (ours.frames(number).sum(), theirs[number][0].sum())
        if counts[0] != counts[1]:
            raise Disagreement(f"Sample {number}: {counts[0]} spikes, Tonic {counts[1]}.")


# ---- ours --------------------------------------------------------------------------------------


def _config(folder: Path) -> Config:
    return data_config(SHD, folder / "train.h5")


def _our_store(folder: Path) -> Any:
    return open_recordings(_config(folder))


def _prepare(folder: Path, batch: int) -> Callable[[], object]:
    def call() -> object:
        config = _config(folder)
        config.data.cache = tempfile.mkdtemp(dir=folder)
        store = open_recordings(config)
        shutil.rmtree(config.data.cache)
        return store

    return call


def _open(folder: Path, batch: int) -> Callable[[], object]:
    return lambda: _our_store(folder).frames(0)


def _batches(folder: Path, batch: int) -> Callable[[], object]:
    config = _config(folder)
    config.train.batch_size = batch
    samples = Samples.of(_our_store(folder))
    loader = build_loader(config, samples, samples.longest, torch.device("cpu"), training=True)
    return lambda: sum(len(b.y) for b in loader.epoch())


# ---- Tonic -------------------------------------------------------------------------------------


class _Recordings(tonic.datasets.hsd.HSD):
    """Tonic's own dataset of the format, reading our file."""

    def __init__(self, path: Path, transform: Callable[..., Any]) -> None:
        super().__init__(str(path.parent), transform)
        self.location_on_system, self.data_filename = str(path.parent), path.name


def _tonic_dataset(folder: Path) -> _Recordings:
    data = _config(folder).data
    factor = data.channels / UNITS
    return _Recordings(
        folder / "train.h5",
        tonic.transforms.Compose(
            [
                tonic.transforms.Downsample(spatial_factor=factor),
                tonic.transforms.ToFrame(
                    sensor_size=(data.channels, 1, 1),
                    time_window=1000 * data.step_ms,
                    include_incomplete=True,
                ),
                np.uint8,  # as in our cache; ToFrame's own type is int16
            ]
        ),
    )


def _tonic_cached(folder: Path, cache: Path | None = None) -> Any:
    path = cache or folder / "tonic"
    return tonic.DiskCachedDataset(_tonic_dataset(folder), cache_path=str(path))


def _tonic_prepare(folder: Path, batch: int) -> Callable[[], object]:
    def call() -> object:
        cache = Path(tempfile.mkdtemp(dir=folder))
        cached = _tonic_cached(folder, cache)
        for number in range(len(cached)):
            cached[number]
        shutil.rmtree(cache)
        return cached

    return call


def _tonic_open(folder: Path, batch: int) -> Callable[[], object]:
    return lambda: _tonic_cached(folder)[0]


def _tonic_batches(folder: Path, batch: int) -> Callable[[], object]:
    loader: Any = DataLoader(
        _tonic_cached(folder),
        batch_size=batch,
        shuffle=True,
        collate_fn=tonic.collation.PadTensors(batch_first=False),
    )
    return lambda: sum(len(y) for _, y in loader)


OURS = {"prepare": _prepare, "open": _open, "batches": _batches}
TONIC = {"prepare": _tonic_prepare, "open": _tonic_open, "batches": _tonic_batches}

if __name__ == "__main__":
    sys.exit(main())
