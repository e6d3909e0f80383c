"""Hours that the published experiments take on this machine: time of a step times number of steps.

    python -m scripts.reproduce.hours [--device cuda] [--rounds 3] [paper/shd ...]

The spikes are random. Sizes: SHD 8,156 recordings of up to 1.4 s, SSC 75,466 of 1 s, GSC 84,843 of
1 s. Evaluation is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from snn_delays.cli.app import quiet_libraries
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import groups
from snn_delays.config import Config
from snn_delays.data.loaders import Batch
from snn_delays.nn import draw_network
from snn_delays.runtime.device import autocast, pick_device, tensor_cores
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import recurrent_sigma_at, sigma_at
from snn_delays.training.step import build_step

WARM_UP = 2  # steps; on a GPU the second one is captured as a CUDA graph
RATE = 0.05  # spikes per channel and step
TRAINING = {"shd": (8156, 1.40, 20), "ssc": (75466, 1.0, 35), "gsc": (84843, 1.01, 35)}  # n, s, K
PUBLISHED = (  # folders of experiments
    "paper", "axonal", "dendritic", "silif", "dcadlif", "delrec", "se_adlif", "best",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    quiet_libraries()
    known = [n for n in groups("train")["experiment"] if n.partition("/")[0] in PUBLISHED]
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reproduce.hours",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="*", metavar="experiment", help="(all)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=3, help="steps that are timed (3)")
    options = parser.parse_args(arguments)
    print("| experiment | step, ms | steps | hours |\n|---|---|---|---|")
    for name in options.experiments or known:
        if name not in known:
            parser.error(f"{name} is not one of {', '.join(known)}.")
        config = compose("train", [f"experiment={name}", f"device={options.device}"])
        with tensor_cores(config.precision):
            seconds = step_seconds(config, options.rounds)
        steps = config.train.epochs * -(-TRAINING[config.data.name][0] // config.train.batch_size)
        hours = steps * seconds / 3600
        print(f"| {name} | {1000 * seconds:,.0f} | {steps:,} | {hours:.1f} |", flush=True)
    return 0


def step_seconds(config: Config, rounds: int) -> float:
    """Median time of a training step in seconds, without the warm-up steps."""
    _, length_s, classes = TRAINING[config.data.name]
    steps = round(1000 * length_s / config.data.step_ms)
    device = pick_device(config.device)
    network = draw_network(config, classes).to(device)
    network.set_sigma(sigma_at(0, config))
    network.set_recurrent_sigma(recurrent_sigma_at(0, config))
    optimizers = build_optimizers(network, config.train)
    step = build_step(network, optimizers, config.precision, device)
    size = config.train.batch_size
    x = (torch.rand(steps, size, config.data.channels) < RATE).float().to(device)
    y = torch.randint(classes, (size,), device=device)
    batch = Batch(x, y, y, np.arange(size))
    if device.type == "cuda" and config.backend == "auto":  # as in a run
        with autocast(config.precision, device):
            network.set_backends(network.fastest_backends(x))
    times = []
    for _ in range(rounds + WARM_UP):
        started = time.perf_counter()
        step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


if __name__ == "__main__":
    sys.exit(main())
