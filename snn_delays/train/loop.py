"""One training: epochs, the choice of the best, checkpoints, metrics; from scratch or gone on with.

Order of the data, augmentation and dropout follow from the seed and from torch's random state in
the checkpoint, so a training that was stopped anywhere ends as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_delays.config import Config
from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.data.resident import Batches, ResidentLoader, on_device
from snn_delays.data.splits import sort_names
from snn_delays.device import pick_dtype
from snn_delays.errors import Interrupted, UserError
from snn_delays.evaluate import Evaluation, evaluate
from snn_delays.files import replace_file
from snn_delays.nn import Network, draw_network
from snn_delays.ops.sums import processes, rank
from snn_delays.train.checkpoint import Meta, Position, load_parameters, save_checkpoint
from snn_delays.train.faults import writing
from snn_delays.train.guards import (
    NONFINITE_FILE,
    NonFinite,
    describe_activity,
    layer_activity,
)
from snn_delays.train.optim import Optimizers, build_optimizers
from snn_delays.train.processes import agreed, is_first, said_once
from snn_delays.train.progress import Progress
from snn_delays.train.schedules import sigma_at
from snn_delays.train.signals import StopSignal
from snn_delays.train.step import Outcome, Turn, Turns, build_step
from snn_delays.train.tally import Sums, Tally
from snn_delays.train.trace import delay_trace, drawn_delays
from snn_delays.train.tracking import NoTracker, Tracker

METRICS_FILE = "metrics.jsonl"
LOOKED_AT = 64  # samples on which the layers' activity is measured


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


@dataclass
class RunFolder:
    """The folder of a run, its tracker, the signal that may stop it, and when it was started.

    Where it goes on in another process, ``started`` lies back by what the earlier ones took.
    ``split`` is the digest of split.json. Of several processes, the first alone writes.
    """

    path: Path
    tracker: Tracker = field(default_factory=NoTracker)
    stop: StopSignal = field(default_factory=StopSignal)
    started: float = field(default_factory=time.perf_counter)
    split: str = ""

    @property
    def seconds(self) -> float:
        """That the run has taken so far."""
        return time.perf_counter() - self.started

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Make metrics.jsonl these lines."""
        if not is_first():
            return
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with writing(self.path):
            replace_file(self.path / METRICS_FILE, text.encode())


class Training:
    """A network drawn with ``config.seed``, and all that trains it.

    Args:
        config: options.
        plan: what to train on, and for how long.
        classes: class names.
        device: where.
        folder: of the run.
        saved: content of a checkpoint to go on from, of the same phase; None: from scratch.
        position: where the training stands.
    """

    def __init__(
        self,
        config: Config,
        plan: Plan,
        classes: list[str],
        device: torch.device,
        folder: RunFolder,
        saved: dict[str, Any] | None,
        position: Position,
    ) -> None:
        self.config, self.plan, self.classes, self.folder = config, plan, classes, folder
        self.position = position
        self.network = draw_network(config, len(classes)).to(device, pick_dtype(config.precision))
        if position.backends:
            self.network.set_backends(position.backends)
        self._drawn = drawn_delays(self.network)
        self.optimizers = build_optimizers(self.network, config.train)
        self._step = build_step(self.network, self.optimizers, config.precision, device)
        self.steps = padded_steps(config, plan.train)
        training = build_loader(config, plan.train, self.steps, device, training=True)
        self.loader = on_device(training, position.resident.get(plan.title))
        position.resident[plan.title] = isinstance(self.loader, ResidentLoader)
        self.selector = plan.select and on_device(
            build_loader(config, plan.select, self.steps, device)
        )
        self.sigma = sigma_at(position.epoch, config.train, config.model.layer_taps)
        self._best: dict[str, Any] | None = None
        self._saved_at = time.monotonic()
        if saved is not None:
            self._restore(saved)

    def run(self) -> Turns[int]:
        """Train to the end.

        Leaves the checkpoints "last" and "best", and a line of metrics per epoch.

        Returns:
            The best epoch, from 1.

        Raises:
            UserError: the loss or a gradient became infinite or NaN.
            Interrupted: a signal came; all is saved.
        """
        position, batches = self.position, len(self.loader)
        done = position.epoch * batches + position.batch
        with Progress(self.plan.epochs, batches, self.plan.title, done) as progress:
            for epoch in range(position.epoch, self.plan.epochs):
                yield from self._epoch(epoch, progress)
                self._stop_if(self._asked()[1])
        return position.best_epoch

    def _epoch(self, epoch: int, progress: Progress) -> Turns[None]:
        position = self.position
        self.sigma = sigma_at(epoch, self.config.train, self.config.model.layer_taps)
        self.network.set_sigma(self.sigma)
        metrics = {"phase": self.plan.title, "epoch": epoch + 1, "sigma": self.sigma}
        metrics |= {"selection": self.config.selection}
        metrics |= {f"lr_{name}": lr for name, lr in self.optimizers.learning_rates().items()}
        sums = Sums(**position.sums)  # type: ignore[arg-type]
        metrics |= yield from self._train(epoch, sums, progress)
        self.optimizers.end_epoch()
        metrics |= layer_activity(self.network, self._looked_at)
        if self._drawn:
            metrics["delays"] = delay_trace(self.network, self._drawn)
        rank = (float(epoch), 0.0)  # nothing to select on: the last is the best
        if self.selector:
            evaluation = evaluate(self.network, self.selector)
            rank = _rank(self.config, evaluation)
            name = self.plan.select_name
            metrics |= {f"{name}_accuracy": rank[0], f"{name}_loss": evaluation.loss}
        position.epoch, position.batch, position.sums = epoch + 1, 0, {}
        position.metrics.append(metrics)
        if position.update_best(epoch + 1, rank):
            self._keep_best()
        self.save()
        self.folder.write_metrics(position.metrics)
        self.folder.tracker.log(metrics)
        progress.epoch(metrics, describe_activity(metrics))

    def _train(self, epoch: int, sums: Sums, progress: Progress) -> Turns[dict[str, float]]:
        try:
            return (
                yield from train_epoch(
                    self.network,
                    self.optimizers,
                    self.loader,
                    epoch,
                    progress,
                    step=self._step,
                    skip_nonfinite=self.config.train.nonfinite == "skip",
                    first=self.position.batch,
                    sums=sums,
                    after_batch=self._after_batch,
                )
            )
        except NonFinite as error:
            path = self.folder.path / NONFINITE_FILE
            if is_first():
                with writing(self.folder.path):
                    error.note(path, self.plan.train, epoch + 1)
            sentence = (
                f"{error.what} in epoch {epoch + 1}, batch {error.number + 1}, whose samples"
                f" {path} names; lower train.lr_weight or train.lr_delay, try another seed, or"
                " leave such batches out (train.nonfinite=skip)."
            )
            raise said_once(UserError(sentence)) from error

    def _after_batch(self, number: int, tally: Tally) -> None:
        """Save where it is time to, or where a signal came; ``number`` batches are done."""
        late, signal = self._asked()
        if (late or signal) and number < len(self.loader):
            if self.config.train.nonfinite == "stop":
                check(tally, self.loader, self.position.epoch)
            self.position.batch, self.position.sums = number, asdict(tally.read())
            self.save()
            self._stop_if(signal)

    def _asked(self) -> tuple[bool, int | None]:
        """Whether a checkpoint is due, and the signal that came."""
        late = time.monotonic() - self._saved_at > 60 * self.config.train.checkpoint_minutes
        return agreed(late, self.folder.stop.received)

    def _stop_if(self, signal: int | None) -> None:
        if signal is not None:
            where = f"after {self.position.epoch} epochs and {self.position.batch} batches"
            raise Interrupted(signal, where, str(self.folder.path))

    @property
    def _looked_at(self) -> Tensor:
        """The first samples, as they are in evaluation."""
        samples = Samples(self.plan.train.stores, self.plan.train.rows[:LOOKED_AT])
        device = self.loader.device
        loader = build_loader(self.config, samples, self.steps, device)
        return next(iter(loader.epoch())).x

    def save(self) -> None:
        """Write the checkpoint "last", which holds the best epoch's parameters, too."""
        if is_first():
            self._write_last()
        self._saved_at = time.monotonic()

    def _write_last(self) -> None:
        self.position.seconds = self.folder.seconds
        on_gpu = self.loader.device.type == "cuda"
        state = {
            "model": self.network.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": [torch.cuda.get_rng_state()] if on_gpu else [],
            "position": vars(self.position),
            "split": self.folder.split,
            "best": self._best,
        }
        with writing(self.folder.path):
            save_checkpoint(self.folder.path, "last", asdict(self.config), self._meta, state)

    def _keep_best(self) -> None:
        model = {
            name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()
        }
        self._best = {"model": model, "meta": vars(self._meta)}
        self._write_best()

    def _write_best(self) -> None:
        assert self._best is not None
        if not is_first():
            return
        meta = Meta(**self._best["meta"])
        with writing(self.folder.path):
            state = {"model": self._best["model"], "split": self.folder.split}
            save_checkpoint(self.folder.path, "best", asdict(self.config), meta, state)

    @property
    def _meta(self) -> Meta:
        plan = self.plan
        return Meta(
            self.classes,
            self.steps,
            speakers_of(plan.train),
            plan.valid_speakers,
            self.position.epoch,
            self.sigma,
        )

    def _restore(self, saved: dict[str, Any]) -> None:
        load_parameters(self.network, saved["model"], self.folder.path)
        self.optimizers.load_state_dict(saved["optimizers"])
        torch.set_rng_state(saved["rng"])
        if saved["rng_cuda"] and self.loader.device.type == "cuda":
            states = saved["rng_cuda"]  # earlier versions keep one for each GPU
            torch.cuda.set_rng_state(states[min(torch.cuda.current_device(), len(states) - 1)])
        self._best = saved["best"]
        if self._best is not None:  # the file may be damaged, or of an epoch that is lost
            self._write_best()


def train_epoch(
    network: Network,
    optimizers: Optimizers,
    loader: Batches,
    epoch: int,
    progress: Progress,
    *,
    step: Callable[[Batch], Outcome],
    skip_nonfinite: bool = False,
    first: int = 0,
    sums: Sums | None = None,
    after_batch: Callable[[int, Tally], None] | None = None,
) -> Turns[dict[str, float]]:
    """One pass over the training data; its mean loss, accuracy and speed.

    Args:
        network: in any mode; left in training mode.
        optimizers: of its parameters.
        loader: of the training data.
        epoch: from 0.
        progress: told of every batch.
        step: of a batch, as ``build_step`` gives it.
        skip_nonfinite: leave out a batch whose loss or gradient is infinite or NaN.
        first: batch to begin with, from 0.
        sums: of the batches before it.
        after_batch: called with the number of batches done and their tally.

    Raises:
        NonFinite: a loss or gradient became infinite or NaN.
        UserError: no batch was left.
    """
    network.train()
    tally = Tally(sums or Sums(), len(loader), loader.device)
    waits = loader.device.type != "cuda"  # or who looks at results stops the GPU
    for number, batch in enumerate(loader.epoch(epoch, first), first):
        together = yield Turn(network, optimizers, batch, (epoch, number))
        tally.add(number, len(batch.numbers), together or step(batch))
        if waits and not skip_nonfinite:
            check(tally, loader, epoch)
        progress.batch(epoch + 1, tally.glance)
        if after_batch is not None:
            after_batch(number + 1, tally)
    if not skip_nonfinite:
        check(tally, loader, epoch)
    found = tally.read()
    if not found.seen:
        sentence = f"Every batch of epoch {epoch + 1} was infinite or NaN; lower the rates."
        raise said_once(UserError(sentence))
    return found.metrics()


def check(tally: Tally, loader: Batches, epoch: int) -> None:
    """Raise ``NonFinite`` for the first batch of an epoch, from 0, that was so."""
    bad = tally.first_bad()
    if bad is not None:
        number, loss = bad
        raise NonFinite(loss, number, loader.places(epoch, number))


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
    """Batches of ``samples``: for training in an order drawn per epoch, augmented, and shared."""
    return Loader(
        samples,
        config.train.batch_size,
        steps,
        pick_dtype(config.precision),
        device,
        config.seed if training else None,
        config.data if training and any(vars(config.data.augment).values()) else None,
        (rank(), processes()) if training else (0, 1),
    )


def speakers_of(samples: Samples) -> list[str] | None:
    """The speakers that occur, in order, or None where they are not known."""
    speakers = samples.speakers
    return None if speakers is None else sort_names(np.unique(speakers))
