"""A training epoch with its data: speed, share of time spent in the loader, peak memory.

Writes random recordings as a file of SHD's format to a temporary folder. A process of its own
prepares their frames and trains the network of SHD or SSC on them with the package's own loader and
loop. The first epoch, which compiles the kernels, is not counted. ``--case ssc --samples 75466`` is
SSC's training data in size; ``--batches`` ends every epoch early, since memory does not grow with
the number of batches.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.benchmarks.agreement import check_training
from scripts.benchmarks.common import (
    Columns,
    Report,
    Row,
    make_parser,
    positive,
    run,
    say,
    spread,
    summary,
)
from scripts.benchmarks.networks import (
    CASES,
    SIZES,
    Problem,
    add_sizes,
    configure,
    our_network,
)
from scripts.benchmarks.workers import CONTEXT, peak
from snn_delays.config import Config
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.frame_cache import FrameStore, cache_folder, open_frames
from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.data.sources import SpikeSource
from snn_delays.training.loop import Epoch, build_loader
from snn_delays.training.optim import build_optimizers
from snn_delays.training.progress import Progress
from snn_delays.training.step import build_step

UNITS = 700
SPIKES = 7000  # per second of a recording, about SHD's
SHORTEST = 0.6  # length of the shortest recording relative to the longest
COLUMNS: Columns = {
    "samples": lambda row: str(row["samples"]),
    "batch": lambda row: str(row["batch"]),
    "epoch, s": lambda row: spread(row["seconds"]),
    "samples per second": lambda row: spread(row["samples_per_second"]),
    "waiting for data, %": lambda row: spread(row["waiting_percent"]),
    "preparing the frames, s": lambda row: f"{row['preparing_seconds']:.1f}",
    "imports, MB": lambda row: f"{row['imports_mb']:.0f}",
    "peak while preparing, MB": lambda row: f"{row['preparing_mb']:.0f}",
    "peak memory, MB": lambda row: f"{row['peak_mb']:.0f}",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("epoch", __doc__, rounds=3)
    add = parser.add_argument
    add("--case", choices=CASES, default="shd", help="network and batch (shd)")
    add("--samples", type=positive, default=2048, help="recordings (2048)")
    add("--batches", type=positive, help="of every epoch at most (all)")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check the network's numbers, then train."""
    problem = CASES[options.case].as_asked(options)
    say("comparing the numbers")
    check_training("network", problem)
    with tempfile.TemporaryDirectory() as folder:
        say("writing the recordings")
        path = write_recordings(Path(folder) / "train.h5", options.samples, problem)
        config = data_config(problem, path)
        with ProcessPoolExecutor(1, CONTEXT) as process:
            row = process.submit(_train, problem, config, options.rounds, options.batches).result()
    return Report(_title(options), COLUMNS, [{"samples": options.samples, **row}])


def write_recordings(path: Path, samples: int, problem: Problem) -> Path:
    """A file of SHD's format: random spikes, the longest recording of ``problem.steps`` steps."""
    rng = np.random.default_rng(problem.seed)
    longest = (problem.steps - 0.5) * Config().data.step_ms / 1000  # float16 may round it up
    seconds = longest * rng.uniform(SHORTEST, 1, samples)
    seconds[0] = longest
    classes = [f"class {k}" for k in range(problem.classes)]
    labels = np.arange(samples) % problem.classes
    write_spikes(path, _spikes(seconds, rng), labels, classes, None)
    return path


def _spikes(seconds: NDArray[np.float64], rng: np.random.Generator) -> Iterator[Any]:
    for length in seconds:
        count = 2 + rng.poisson(SPIKES * length)
        times = np.sort(rng.uniform(0, length, count))
        times[0], times[-1] = 0, length
        yield times, rng.integers(0, UNITS, count)


def data_config(problem: Problem, path: Path) -> Config:
    """Options of a training on the file ``path``, with the frame cache beside it."""
    config = configure(problem)
    config.data.name, config.data.cache = "spikes", str(path.parent / "cache")
    config.data.train_file = config.data.test_file = str(path)
    config.train.batch_size = problem.batch
    return config


def open_recordings(config: Config) -> FrameStore:
    """The frames of the training file, prepared if they are missing."""
    source = SpikeSource(Path(str(config.data.train_file)), config.data, config.frame_arithmetic)
    return open_frames(source, cache_folder(config.data))


@dataclass(frozen=True)
class TimedLoader(Loader):
    """A loader that notes how long the training waits for it.

    Attributes:
        waits: seconds spent inside the loader, one number per batch and one per end of an epoch.
    """

    waits: list[float] = field(default_factory=list)

    def epoch(self, epoch: int = 0, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """As the loader."""
        batches = super().epoch(epoch, first, every)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waits.append(time.perf_counter() - started)
            if batch is None:
                return
            yield batch


def _train(problem: Problem, config: Config, rounds: int, batches: int | None) -> Row:
    imports = peak()
    say("preparing the frames")
    started = time.perf_counter()
    samples = Samples.of(open_recordings(config))
    preparing, preparing_mb = time.perf_counter() - started, peak() / 1e6
    plain = build_loader(config, samples, samples.longest, torch.device("cpu"), training=True)
    loader = TimedLoader(**vars(plain))
    network = our_network(problem)
    optimizers = build_optimizers(network, config.train)
    step = build_step(network, optimizers, config.precision, loader.device)
    seconds, shares = [], []
    with contextlib.closing(Progress(rounds + 1, len(loader), "epoch")) as progress:
        for epoch in range(rounds + 1):
            say(f"  epoch {epoch} of {rounds}" if epoch else "  warming up")
            loader.waits.clear()
            started, trained = time.perf_counter(), 0
            current = Epoch(network, loader, epoch, progress)
            while current.number != batches and (batch := current.next_batch()) is not None:
                current.add(step(batch))
                trained += len(batch.y)
            seconds.append(time.perf_counter() - started)
            shares.append(100 * sum(loader.waits) / seconds[-1])
    return {
        "batch": problem.batch,
        "steps": samples.longest,
        "hidden": list(problem.hidden),
        "seconds": summary(seconds[1:]),
        "samples_per_second": summary([trained / s for s in seconds[1:]]),
        "waiting_percent": summary(shares[1:]),
        "preparing_seconds": preparing,
        "imports_mb": imports / 1e6,
        "preparing_mb": preparing_mb,
        "peak_mb": peak() / 1e6,
    }


def _title(options: argparse.Namespace) -> str:
    return (
        f"Training epochs of {options.case.upper()}'s network with their data, backend"
        f" {options.backend}, float32; waiting: time inside the loader."
    )


if __name__ == "__main__":
    sys.exit(main())
