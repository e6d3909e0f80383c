"""Epochs of the paper's run with loading and evaluation, by the package and by the reference.

Each is an iterator that trains and evaluates an epoch whenever its next item is asked for, in a
process of its own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from tqdm import tqdm

from scripts.benchmarks.common import say
from scripts.benchmarks.networks import Problem, reference_network, reference_update
from scripts.benchmarks.workers import CONTEXT
from scripts.reference.network import ReferenceNetwork, reference_optimizers
from snn_delays.cli.compose import compose
from snn_delays.data.dataset import load_data
from snn_delays.data.loaders import Samples
from snn_delays.runtime.device import pick_device
from snn_delays.training.run import Run
from snn_delays.training.signals import StopSignal

PROGRESS = 5.0  # seconds between two updates of the time left
Seconds = tuple[float, float]  # of an epoch's training, and of what follows: evaluation, saving
Frames = tuple[Tensor, int]  # of a recording [T, I], and its label

_epochs: Iterator[Seconds]


@contextlib.contextmanager
def process_of(
    epochs: Callable[..., Iterator[Seconds]], *arguments: Any
) -> Iterator[Callable[[], Seconds]]:
    """A function that trains the next of the epochs ``epochs(*arguments)`` in another process."""
    with ProcessPoolExecutor(1, CONTEXT, _begin, (epochs, arguments)) as process:
        yield lambda: process.submit(_next).result()


def _begin(epochs: Callable[..., Iterator[Seconds]], arguments: tuple[Any, ...]) -> None:
    global _epochs
    _epochs = epochs(*arguments)


def _next() -> Seconds:
    with contextlib.redirect_stdout(sys.stderr):
        return next(_epochs)


def our_epochs(options: list[str]) -> Iterator[Seconds]:
    """Epochs of ``snn-delays train`` with these options; after each one it evaluates and saves."""
    config = compose("train", options)
    with Run(config, pick_device(config.device), StopSignal()) as run:
        training = run.next_training()
        assert training is not None
        while not training.done:
            started = time.perf_counter()
            while (pending := training.next_step()) is not None:
                training.add(training.step(pending.batch))
            trained = time.perf_counter()
            training.end_epoch()
            yield trained - started, time.perf_counter() - trained


def reference_epochs(problem: Problem, options: list[str]) -> Iterator[Seconds]:
    """Epochs of dcls + SpikingJelly + Adam on the data of a run with these options.

    As in the authors' code, torch's DataLoader pads every batch to its longest recording, and every
    epoch ends with an evaluation of the test set; its delays are not rounded. The frames lie in
    memory, where the authors' code reads a file for each.
    """
    config = compose("train", options)
    data, size = load_data(config), config.train.batch_size
    loader, tested = _loader(data.train, size, shuffle=True), _loader(data.test, size)
    network = reference_network(problem)
    optimizers, schedules = reference_optimizers(network, config)
    update = reference_update(network, optimizers)
    while True:
        started = time.perf_counter()
        network.train()
        for x, y in tqdm(loader, "reference, training", mininterval=PROGRESS):
            update(x, y)
        for schedule in schedules:
            schedule.step()
        trained = time.perf_counter()
        say(f"reference: {_accuracy(network, tested):.1%} of the test set are right")
        yield trained - started, time.perf_counter() - trained


def _loader(samples: Samples, size: int, *, shuffle: bool = False) -> DataLoader[Frames]:
    frames: Any = [
        (torch.from_numpy(samples.frames(n).astype(np.float32)), int(samples.labels[n]))
        for n in range(len(samples))
    ]
    return DataLoader(frames, size, shuffle=shuffle, collate_fn=_padded)


def _padded(batch: list[Frames]) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, I] and labels [B]."""
    frames, labels = zip(*batch, strict=True)
    return pad_sequence(list(frames)), torch.tensor(labels)


@torch.no_grad()
def _accuracy(network: ReferenceNetwork, loader: DataLoader[Frames]) -> float:
    network.eval()
    batches = tqdm(loader, "reference, evaluating", mininterval=PROGRESS)
    return torch.cat([network(x).argmax(1) == y for x, y in batches]).float().mean().item()
