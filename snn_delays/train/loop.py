"""One training from scratch: epochs, the choice of the best, checkpoints, metrics."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_delays.config import Config
from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.data.splits import sort_names
from snn_delays.device import autocast, pick_dtype
from snn_delays.errors import UserError
from snn_delays.evaluate import Evaluation, evaluate
from snn_delays.nn import Network, draw_network
from snn_delays.train.checkpoint import Meta, checkpoint_path, save_checkpoint
from snn_delays.train.optim import Optimizers, build_optimizers
from snn_delays.train.progress import Progress
from snn_delays.train.schedules import sigma_at
from snn_delays.train.tracking import Tracker

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Plan:
    """What to train on and how to choose the epoch.

    Attributes:
        title: its name in progress and metrics.
        train: samples to train on.
        select: samples whose accuracy chooses the epoch; None keeps the last.
        select_name: what ``select`` is: "valid", or "test" (train.protocol=paper alone).
        epochs: epochs to train; the schedules span ``config.train.epochs`` all the same.
    """

    title: str
    train: Samples
    select: Samples | None
    select_name: str
    epochs: int

    @property
    def valid_speakers(self) -> list[str] | None:
        """Speakers of the validation data that do not train, or None where there are none."""
        known = speakers_of(self.train)
        if known is None or self.select is None or self.select_name != "valid":
            return None
        chose = speakers_of(self.select)
        return chose and [speaker for speaker in chose if speaker not in known]


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run and its tracker."""

    path: Path
    tracker: Tracker

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl and report it."""
        with open(self.path / METRICS_FILE, "a") as file:
            file.write(json.dumps(line) + "\n")
        self.tracker.log(line)


@dataclass
class Best:
    """The best epoch so far; the first of equals."""

    epoch: int = 0
    rank: tuple[float, float] = (-1.0, 0.0)

    def update(self, epoch: int, rank: tuple[float, float]) -> bool:
        """Take epoch ``epoch`` (from 1) if its rank is higher; say whether it was taken."""
        better = rank > self.rank
        if better:
            self.epoch, self.rank = epoch, rank
        return better


def fit(
    config: Config, plan: Plan, classes: list[str], device: torch.device, folder: RunFolder
) -> int:
    """Train a network drawn with ``config.seed``.

    Leaves the checkpoints "last" and "best", and a line of metrics per epoch.

    Returns:
        The best epoch, from 1.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    network = draw_network(config, len(classes)).to(device, pick_dtype(config.precision))
    optimizers = build_optimizers(network, config.train)
    steps = padded_steps(config, plan.train)
    loader = build_loader(config, plan.train, steps, device, training=True)
    selector = plan.select and build_loader(config, plan.select, steps, device)
    speakers, valid_speakers = speakers_of(plan.train), plan.valid_speakers
    best = Best()
    with Progress(plan.epochs, len(loader), plan.title) as progress:
        for epoch in range(plan.epochs):
            sigma = sigma_at(epoch, config.train, config.model.layer_taps)
            network.set_sigma(sigma)
            metrics = {"phase": plan.title, "epoch": epoch + 1, "sigma": sigma}
            metrics |= {"selection": config.selection}
            metrics |= {f"lr_{name}": lr for name, lr in optimizers.learning_rates().items()}
            metrics |= train_epoch(
                network, optimizers, loader, epoch, progress, precision=config.precision
            )
            optimizers.end_epoch()
            rank = (float(epoch), 0.0)  # nothing to select on: the last is the best
            if selector:
                evaluation = evaluate(network, selector)
                rank = _rank(config, evaluation)
                name = plan.select_name
                metrics |= {f"{name}_accuracy": rank[0], f"{name}_loss": evaluation.loss}
            meta = Meta(classes, steps, speakers, valid_speakers, epoch + 1, sigma)
            _save(config, folder.path, meta, network, optimizers, best.update(epoch + 1, rank))
            folder.add_metrics(metrics)
            progress.epoch(metrics)
    return best.epoch


def train_epoch(
    network: Network,
    optimizers: Optimizers,
    loader: Loader,
    epoch: int,
    progress: Progress,
    *,
    precision: str = "float32",
) -> dict[str, float]:
    """One pass over the training data; its mean loss, accuracy and speed.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    network.train()
    started = time.perf_counter()
    loss_sum, right, seen = 0.0, 0, 0
    for batch in loader.epoch(epoch):
        scores, loss = _step(network, optimizers, batch, precision)
        if not math.isfinite(loss):
            raise UserError(
                f"The loss became {loss} in epoch {epoch + 1}; lower train.lr_weight or"
                " train.lr_delay, or try another seed."
            )
        seen += len(batch.y)
        loss_sum += loss * len(batch.y)
        right += int((scores.argmax(1) == batch.y).sum())
        rate = seen / (time.perf_counter() - started)
        progress.batch(epoch + 1, loss_sum / seen, right / seen, rate)
    seconds = time.perf_counter() - started
    return {
        "train_loss": loss_sum / seen,
        "train_accuracy": right / seen,
        "samples_per_second": round(seen / seconds, 1),
        "seconds": round(seconds, 2),
    }


def _step(
    network: Network, optimizers: Optimizers, batch: Batch, precision: str
) -> tuple[torch.Tensor, float]:
    optimizers.zero_grad()
    with autocast(precision, batch.x.device):
        scores = network(batch.x)
    loss = nn.functional.cross_entropy(scores, batch.target)
    loss.backward()
    optimizers.step()
    network.constrain()
    return scores.detach(), loss.item()


def _rank(config: Config, evaluation: Evaluation) -> tuple[float, float]:
    """Accuracy, then the lower loss; the authors take the accuracy averaged over batches alone."""
    if config.train.protocol == "paper":
        return evaluation.batch_accuracy, 0.0
    return evaluation.score().accuracy, -evaluation.loss


def padded_steps(config: Config, train: Samples) -> int | None:
    """The length that samples are padded to: the longest training sample, or None (paper)."""
    return None if config.train.protocol == "paper" else train.longest


def build_loader(
    config: Config,
    samples: Samples,
    steps: int | None,
    device: torch.device,
    training: bool = False,
) -> Loader:
    """Batches of ``samples``: for training in an order drawn per epoch, and augmented."""
    return Loader(
        samples,
        config.train.batch_size,
        steps,
        pick_dtype(config.precision),
        device,
        config.seed if training else None,
        config.data if training and any(vars(config.data.augment).values()) else None,
    )


def speakers_of(samples: Samples) -> list[str] | None:
    """The speakers that occur, in order, or None where they are not known."""
    speakers = samples.speakers
    return None if speakers is None else sort_names(np.unique(speakers))


def _save(
    config: Config,
    out: Path,
    meta: Meta,
    network: Network,
    optimizers: Optimizers,
    best: bool,
) -> None:
    state = {
        "model": network.state_dict(),
        "optimizers": optimizers.state_dict(),
        "rng": torch.get_rng_state(),
    }
    for which in ("last", "best") if best else ("last",):
        save_checkpoint(checkpoint_path(out, which), asdict(config), meta, state)
