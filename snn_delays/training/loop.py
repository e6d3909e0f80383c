"""One training: epochs, the choice of the best epoch, checkpoints, metrics; new or resumed.

Order of the data, augmentation and dropout depend on the seed and on torch's random state, which
the checkpoint holds. A resumed training therefore ends as if it had never been stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_delays.config import Config
from snn_delays.config.own_parts import own_parts
from snn_delays.data.gpu_loader import AnyLoader, GpuLoader, choose_loader
from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.data.splits import sort_names
from snn_delays.errors import Interrupted, UserError
from snn_delays.evaluate import Evaluation, evaluate
from snn_delays.files import replace_file
from snn_delays.nn import Network, draw_network
from snn_delays.nn.loss import build_loss
from snn_delays.regression import evaluate_steps
from snn_delays.runtime.device import pick_dtype
from snn_delays.runtime.distributed import rank, world_size
from snn_delays.training.checkpoint import Meta, Position, load_parameters, save_checkpoint
from snn_delays.training.delay_metrics import delay_trace, drawn_delays
from snn_delays.training.distributed import agree_on_stop, is_first, reported_once
from snn_delays.training.epoch_metrics import EpochMeter, Sums
from snn_delays.training.error_messages import writing
from snn_delays.training.health import NonFinite, describe_activity, layer_activity
from snn_delays.training.optim import build_optimizers
from snn_delays.training.penalties import penalty_names
from snn_delays.training.progress import Progress
from snn_delays.training.pruning import prune_to_budget
from snn_delays.training.run_files import METRICS_FILE, NONFINITE_FILE
from snn_delays.training.schedules import is_rounded, recurrent_sigma_at, sigma_at
from snn_delays.training.signals import StopSignal
from snn_delays.training.step import PendingStep, StepResult, build_step
from snn_delays.training.tracking import NoTracker, Tracker

ACTIVITY_SAMPLES = 64  # samples on which the layers' activity is measured


@dataclass(frozen=True)
class Phase:
    """One of a run's trainings: its data and its way to choose the epoch.

    Attributes:
        title: "train" or "refit"; its name in progress and metrics.
        train: samples to train on.
        select: samples whose accuracy or NRMSE chooses the epoch; None keeps the last epoch.
        select_name: split of ``select``: "valid", or "test" (only with train.protocol=paper).
        epochs: epochs to train; the schedules always span ``config.train.epochs``.
    """

    title: str
    train: Samples
    select: Samples | None
    select_name: str
    epochs: int

    @property
    def valid_speakers(self) -> list[str] | None:
        """Speakers of the validation data that are not in the training data; None if unknown."""
        known = speakers_of(self.train)
        if known is None or self.select is None or self.select_name != "valid":
            return None
        chose = speakers_of(self.select)
        return chose and [speaker for speaker in chose if speaker not in known]


@dataclass
class RunFolder:
    """The folder of a run, its tracker, the signal that may stop it, and its start time.

    In a resumed run, ``started`` includes the seconds of earlier sessions. ``split`` is the digest
    of split.json. Only the first rank writes.
    """

    path: Path
    tracker: Tracker = field(default_factory=NoTracker)
    stop: StopSignal = field(default_factory=StopSignal)
    started: float = field(default_factory=time.perf_counter)
    split: str = ""

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken in all its sessions."""
        return time.perf_counter() - self.started

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Write these lines to metrics.jsonl, in place of its earlier content."""
        if not is_first():
            return
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with writing(self.path):
            replace_file(self.path / METRICS_FILE, text.encode())


class Training:
    """A network, drawn with ``config.seed`` unless it is given, and everything that trains it.

    Args:
        config: options.
        phase: the data to train on, and the number of epochs.
        classes: class names.
        device: device of the network and its batches.
        folder: folder of the run.
        saved: content of a checkpoint of the same phase to resume from; None: a new training.
        position: the progress of the training, kept up to date.
        initial: parameters to start from, as ``state_dict`` has them; None: those drawn.
    """

    def __init__(
        self,
        config: Config,
        phase: Phase,
        classes: list[str],
        device: torch.device,
        folder: RunFolder,
        saved: dict[str, Any] | None,
        position: Position,
        initial: dict[str, Tensor] | None = None,
    ) -> None:
        self.config, self.phase, self.classes, self.folder = config, phase, classes, folder
        self.position = position
        self.network = draw_network(config, len(classes)).to(device, pick_dtype(config.precision))
        if initial is not None:
            self.network.load_state_dict(initial)
        if position.backends:
            self.network.set_backends(position.backends)
        self._drawn = drawn_delays(self.network)
        self.optimizers = build_optimizers(self.network, config.train)
        self.loss = build_loss(config, self.network, len(classes))
        self.step = self._build_step()
        self.steps = padded_steps(config, phase.train)
        training = build_loader(config, phase.train, self.steps, device, training=True)
        self.loader = choose_loader(training, position.data_on_gpu.get(phase.title))
        position.data_on_gpu[phase.title] = isinstance(self.loader, GpuLoader)
        self.selector = phase.select and choose_loader(
            build_loader(config, phase.select, self.steps, device)
        )
        self.sigma = sigma_at(position.epoch, config)
        self._best: dict[str, Any] | None = None
        self._saved_at = time.monotonic()
        self._epoch: Epoch | None = None
        if saved is not None:
            self._restore(saved)
        batches = len(self.loader)
        done = position.epoch * batches + position.batch
        self._progress = Progress(phase.epochs, batches, phase.title, done)

    def close(self) -> None:
        """Remove the progress bar."""
        self._progress.close()

    def run(self) -> None:
        """Train to the end.

        Leaves the checkpoints "last" and "best", and a line of metrics per epoch.

        Raises:
            UserError: the loss or a gradient became infinite or NaN.
            Interrupted: a signal came; the training is saved.
        """
        while not self.done:
            while (pending := self.next_step()) is not None:
                self.add(self.step(pending.batch))
            self.end_epoch()

    @property
    def done(self) -> bool:
        """Whether every epoch is trained."""
        return self.position.epoch >= self.phase.epochs

    def next_step(self) -> PendingStep | None:
        """The epoch's next step, or None at its end, when ``end_epoch`` is due."""
        if self._epoch is None:
            self._begin_epoch()
        assert self._epoch is not None
        batch = self._epoch.next_batch()
        if batch is None:
            return None
        place = self.position.epoch, self._epoch.number
        return PendingStep(self.network, self.optimizers, batch, place)

    def _build_step(self) -> Callable[[Batch], StepResult]:
        config, device = self.config, next(self.network.parameters()).device
        return build_step(
            self.network, self.optimizers, config.precision, device, self.loss, config.train,
            capture=not own_parts(config),
        )  # fmt: skip

    def _begin_epoch(self) -> None:
        """Set up the next epoch, or the rest of the epoch in which the training was stopped."""
        position = self.position
        self.sigma = sigma_at(position.epoch, self.config)
        self.network.set_sigma(self.sigma)
        self.network.set_recurrent_sigma(recurrent_sigma_at(position.epoch, self.config))
        if is_rounded(position.epoch, self.config) and not self.network.frozen:
            self.network.freeze_delays()
            if (budget := self.config.train.buffer_budget) is not None:
                prune_to_budget(self.network, budget)
            self.step = self._build_step()  # a CUDA graph would go on as before
        self._rates = self.optimizers.learning_rates()
        self._epoch = Epoch(
            self.network,
            self.loader,
            position.epoch,
            self._progress,
            skip_nonfinite=self.config.train.nonfinite == "skip",
            first=position.batch,
            sums=Sums(**position.sums),  # type: ignore[arg-type]
            penalties=penalty_names(self.config.train),
            variance=self.phase.train.target_variance if self._per_step else None,
        )

    def add(self, result: StepResult) -> None:
        """Add the result of the step that ``next_step`` returned; save if a checkpoint is due."""
        assert self._epoch is not None
        with self._explaining_nonfinite():
            self._epoch.add(result)
            self._after_batch(self._epoch)

    def end_epoch(self) -> None:
        """Evaluate, choose the best epoch, save, write the metrics and print them."""
        assert self._epoch is not None
        position, phase = self.position, self.phase
        metrics: dict[str, Any] = {"phase": phase.title, "epoch": position.epoch + 1}
        metrics |= {"sigma": self.sigma, "selection": self.config.selection}
        if any(self.network.recurrences()):
            metrics["recurrent_sigma"] = recurrent_sigma_at(position.epoch, self.config)
        metrics |= {f"lr_{name}": lr for name, lr in self._rates.items()}
        if self.config.train.round_epochs:
            metrics["delays_rounded"] = self.network.frozen
        with self._explaining_nonfinite():
            metrics |= self._epoch.metrics()
        self._epoch = None
        self.optimizers.end_epoch()
        metrics |= layer_activity(self.network, self._activity_batch)
        if self.config.train.buffer_budget is not None:
            metrics["buffer_steps"] = self.network.buffer_steps
        if self._drawn:
            metrics["delays"] = delay_trace(self.network, self._drawn)
        score = (float(position.epoch), 0.0)  # without selection data the last epoch is the best
        if self.selector:
            score, measured = self._select(self.selector)
            metrics |= {f"{phase.select_name}_{key}": value for key, value in measured.items()}
        position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
        position.metrics.append(metrics)
        if self._fits_budget and position.update_best(position.epoch, score):
            self._keep_best()
        self.save()
        self.folder.write_metrics(position.metrics)
        self.folder.tracker.log(metrics)
        self._progress.epoch(metrics, describe_activity(metrics))
        self._stop_if(self._check_due()[1])

    def _select(self, selector: AnyLoader) -> tuple[tuple[float, float], dict[str, float]]:
        """The score that chooses the epoch, the higher the better, and what was measured."""
        if self._per_step:
            measured = evaluate_steps(self.network, selector, self.loss)
            error = measured.error.nrmse
            rank = -math.inf if math.isnan(error) else -error
            return (rank, -measured.loss), {"nrmse": error, "loss": measured.loss}
        evaluation = evaluate(self.network, selector, self.loss)
        score = _selection_score(self.config, evaluation)
        return score, {"accuracy": score[0], "loss": evaluation.loss}

    @property
    def _per_step(self) -> bool:
        return self.config.data.target == "per_step"

    @property
    def _fits_budget(self) -> bool:
        """Whether the network may be chosen: it is pruned, or need not be."""
        return self.config.train.buffer_budget is None or self.network.frozen

    @contextlib.contextmanager
    def _explaining_nonfinite(self) -> Iterator[None]:
        """Turn ``NonFinite`` into a UserError; nonfinite.json lists the batch's samples."""
        try:
            yield
        except NonFinite as error:
            path, epoch = self.folder.path / NONFINITE_FILE, self.position.epoch + 1
            if is_first():
                with writing(self.folder.path):
                    error.note(path, self.phase.train, epoch)
            sentence = (
                f"{error.what} in epoch {epoch}, batch {error.batch + 1} ({path} lists its"
                " samples); lower train.lr_weight or train.lr_delay, try another seed, or skip such"
                " batches (train.nonfinite=skip)."
            )
            raise reported_once(UserError(sentence)) from error

    def _after_batch(self, epoch: Epoch) -> None:
        """Save if a checkpoint is due or a signal came."""
        late, signal = self._check_due()
        if (late or signal) and epoch.number < len(self.loader):
            epoch.check()
            self.position.batch, self.position.sums = epoch.number, asdict(epoch.meter.totals())
            self.save()
            self._stop_if(signal)

    def _check_due(self) -> tuple[bool, int | None]:
        """Whether a checkpoint is due, and the signal that came."""
        late = time.monotonic() - self._saved_at > 60 * self.config.train.checkpoint_minutes
        return agree_on_stop(late, self.folder.stop.received)

    def _stop_if(self, signal: int | None) -> None:
        if signal is not None:
            where = f"after {self.position.epoch} epochs and {self.position.batch} batches"
            raise Interrupted(signal, where, str(self.folder.path))

    @property
    def _activity_batch(self) -> Tensor:
        """The first training samples as one batch, not augmented, [T, B, I]."""
        samples = Samples(self.phase.train.stores, self.phase.train.rows[:ACTIVITY_SAMPLES])
        device = self.loader.device
        loader = build_loader(self.config, samples, self.steps, device)
        return next(iter(loader.epoch())).x

    def save(self) -> None:
        """Write the checkpoint "last", which also holds the best epoch's parameters."""
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
        phase = self.phase
        return Meta(
            self.classes,
            self.steps,
            speakers_of(phase.train),
            phase.valid_speakers,
            self.position.epoch,
            self.sigma,
        )

    def _restore(self, saved: dict[str, Any]) -> None:
        load_parameters(self.network, saved["model"], self.folder.path)
        self.optimizers.load_state_dict(saved["optimizers"])
        torch.set_rng_state(saved["rng"])
        if saved["rng_cuda"] and self.loader.device.type == "cuda":
            states = saved["rng_cuda"]  # earlier versions saved one for each GPU
            torch.cuda.set_rng_state(states[min(torch.cuda.current_device(), len(states) - 1)])
        self._best = saved["best"]
        if self._best is not None:  # "best" on the disk may be damaged, or newer than "last"
            self._write_best()


class Epoch:
    """One pass over the training data: its batches, their results, its metrics.

    Args:
        network: set to training mode.
        loader: batches of the training data.
        epoch: its number, from 0.
        progress: shows every batch.
        skip_nonfinite: skip a batch whose loss or gradient is infinite or NaN.
        first: the first batch, from 0.
        sums: sums over the batches before ``first``.
        penalties: names of the penalties in the loss.
        variance: of the targets per step; None: the samples have classes.

    Attributes:
        number: number of the next batch, from 0.
        meter: results of the batches.
    """

    def __init__(
        self,
        network: Network,
        loader: AnyLoader,
        epoch: int,
        progress: Progress,
        *,
        skip_nonfinite: bool = False,
        first: int = 0,
        sums: Sums | None = None,
        penalties: Sequence[str] = (),
        variance: float | None = None,
    ) -> None:
        network.train()
        self.number = first
        self.meter = EpochMeter(sums or Sums(), len(loader), loader.device, penalties, variance)
        self._loader, self._epoch, self._progress = loader, epoch, progress
        self._batches = iter(loader.epoch(epoch, first))
        self._size = 0
        self._skips = skip_nonfinite

    def next_batch(self) -> Batch | None:
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        self._size = 0 if batch is None else len(batch.indices)
        return batch

    def add(self, result: StepResult) -> None:
        """Add the result of the batch that ``next_batch`` returned.

        Raises:
            NonFinite: a loss or gradient became infinite or NaN. Only checked on the CPU: on a GPU
                the check would have to wait.
        """
        self.meter.add(self.number, self._size, result)
        if self._loader.device.type != "cuda":
            self.check()
        self.number += 1
        self._progress.batch(self._epoch + 1, self.meter.peek)

    def check(self) -> None:
        """Raise ``NonFinite`` for the first batch that is not finite, unless these are skipped."""
        bad = None if self._skips else self.meter.first_nonfinite()
        if bad is not None:
            number, loss = bad
            raise NonFinite(loss, number, self._loader.batch_indices(self._epoch, number))

    def metrics(self) -> dict[str, float]:
        """Mean loss, accuracy or NRMSE, and speed.

        Raises:
            NonFinite: see ``add``.
            UserError: every batch was skipped.
        """
        self.check()
        totals = self.meter.totals()
        if not totals.seen:
            sentence = (
                f"In every batch of epoch {self._epoch + 1} the loss or a gradient was infinite or"
                " NaN; lower train.lr_weight or train.lr_delay."
            )
            raise reported_once(UserError(sentence))
        return totals.metrics()


def _selection_score(config: Config, evaluation: Evaluation) -> tuple[float, float]:
    """The score that chooses the epoch: accuracy, then negative loss.

    The paper's protocol uses its authors' score, the accuracy averaged over batches.
    """
    if config.train.protocol == "paper":
        return evaluation.batch_accuracy, 0.0
    return evaluation.score().accuracy, -evaluation.loss


def padded_steps(config: Config, train: Samples) -> int | None:
    """The length that batches are padded to: the longest training sample, or None (paper)."""
    return None if config.train.protocol == "paper" else train.longest


def build_loader(
    config: Config,
    samples: Samples,
    steps: int | None,
    device: torch.device,
    training: bool = False,
) -> Loader:
    """A loader of ``samples``; for training it shuffles, augments, and gives each rank its part."""
    return Loader(
        samples,
        config.train.batch_size,
        steps,
        pick_dtype(config.precision),
        device,
        config.seed if training else None,
        config.data if training and any(vars(config.data.augment).values()) else None,
        (rank(), world_size()) if training else (0, 1),
    )


def speakers_of(samples: Samples) -> list[str] | None:
    """The speakers that occur, sorted; None if unknown."""
    speakers = samples.speakers
    return None if speakers is None else sort_names(np.unique(speakers))
