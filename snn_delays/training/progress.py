"""The progress of a training on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from snn_delays.training.epoch_metrics import Sums


class Progress:
    """A bar with loss, accuracy or NRMSE, samples per second and time left, and a line per epoch.

    Without a terminal there is no bar, and the lines include the time left. The first batch and the
    first evaluation may compile kernels, so neither counts in the estimate of the time left.

    Args:
        epochs: number of epochs.
        batches: batches per epoch.
        title: name of the training.
        done: number of batches that earlier sessions trained on.
    """

    def __init__(self, epochs: int, batches: int, title: str, done: int = 0) -> None:
        self._epochs, self._batches = epochs, batches
        self._done = self._untimed = done
        self._title = title
        self._timed = False
        self._start = self._trained = time.perf_counter()
        self._evaluated = False
        self._bar = tqdm(
            total=epochs * batches,
            initial=done,
            unit="batch",
            disable=None,
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} batches, {remaining} left{postfix}",
        )

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def batch(self, epoch: int, peek: Callable[[], Sums]) -> None:
        """Show the running means of an epoch, and advance the bar by a batch.

        Args:
            epoch: its number, from 1.
            peek: returns its sums so far; only called if there is a bar.
        """
        self._trained = time.perf_counter()
        self._done += 1
        if not self._timed and self._batches > 1:
            self._restart_clock()
            return
        if self._bar.disable:
            return
        sums = peek()
        self._bar.set_description_str(f"{self._title} {epoch}/{self._epochs}", refresh=False)
        seen = max(sums.seen, 1)
        self._bar.set_postfix_str(
            f"loss {sums.loss / seen:.3f}, {score_text(*sums.score()).strip()},"
            f" {seen / sums.seconds:.0f} samples/s",
            refresh=False,
        )
        self._bar.update()

    def _restart_clock(self) -> None:
        """Time what follows the batches so far."""
        self._timed = True
        self._start = time.perf_counter()
        self._untimed = self._done
        bar = self._bar
        bar.initial = bar.n = bar.last_print_n = self._done
        bar.unpause()

    def epoch(self, metrics: dict[str, Any], remark: str = "") -> None:
        """Print the line of a finished epoch, with ``remark`` behind it."""
        epoch = metrics["epoch"]
        name = "accuracy" if "train_accuracy" in metrics else "nrmse"
        line = (
            f"{self._title} {epoch:3d}/{self._epochs}  loss {metrics['train_loss']:.4f}"
            f"  {score_text(name, metrics[f'train_{name}'])}"
        )
        if f"valid_{name}" in metrics:
            line += f"  {score_text(name, metrics[f'valid_{name}'], 'valid')}"
        if "test_accuracy" in metrics:
            line += f"  test {metrics['test_accuracy']:6.1%} ({metrics['selection']})"
        line += f"  {metrics['samples_per_second']:.0f} samples/s"
        if metrics.get("skipped_batches"):
            line += f"  {metrics['skipped_batches']} batches skipped"
        line += f"  {remark}" if remark else ""
        elapsed = (time.perf_counter() if self._evaluated else self._trained) - self._start
        timed = self._done - self._untimed
        if self._bar.disable and timed:
            left = elapsed / timed * (self._epochs - epoch) * self._batches
            line += f"  {_minutes(left)} left"
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
        if not self._evaluated:
            self._evaluated = True
            self._restart_clock()


def score_text(name: str, value: float, title: str | None = None) -> str:
    """A score in words, behind ``title`` or its name: "accuracy  93.1%", "NRMSE 0.1234"."""
    if name == "nrmse":
        return f"{title or 'NRMSE'} {value:.4f}"
    return f"{title or name} {value:6.1%}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if minutes >= 60
        else f"{minutes}:{rest:02d}"
    )
