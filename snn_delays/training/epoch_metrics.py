"""Collects the results of an epoch's batches on their device, and sums them up."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.training.step import StepResult


@dataclass
class Sums:
    """Running sums of an epoch: of losses, correct answers, samples, skipped batches, seconds.

    ``penalties`` holds a sum for each penalty by its name. With targets per step, ``variance`` is
    theirs, and ``squared`` the sum of the samples' mean squared errors; else it is None.
    """

    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    skipped: int = 0
    seconds: float = 0.0
    penalties: dict[str, float] = field(default_factory=dict)
    squared: float = 0.0
    variance: float | None = None

    def score(self) -> tuple[str, float]:
        """ "accuracy" or "nrmse", and its value so far."""
        if self.variance is None:
            return "accuracy", self.correct / max(self.seen, 1)
        return "nrmse", math.sqrt(self.squared / max(self.seen, 1) / self.variance)

    def metrics(self) -> dict[str, float]:
        """Means over the epoch's samples, and its speed."""
        skipped = {"skipped_batches": self.skipped} if self.skipped else {}
        name, score = self.score()
        return {
            "train_loss": self.loss / self.seen,
            **{name: value / self.seen for name, value in self.penalties.items()},
            f"train_{name}": score,
            "samples_per_second": round(self.seen / self.seconds, 1),
            "seconds": round(self.seconds, 2),
            **skipped,
        }


class EpochMeter:
    """Collects results on their device; ``peek`` reads their sums without waiting for a GPU.

    Args:
        sums: sums of earlier batches of the epoch.
        batches: number of batches of the epoch.
        device: of the results.
        penalties: names of the penalties in the results.
        variance: of the targets per step; None: the samples have classes.
    """

    def __init__(
        self,
        sums: Sums,
        batches: int,
        device: torch.device,
        penalties: Sequence[str] = (),
        variance: float | None = None,
    ) -> None:
        self._before, self._penalties, self._variance = sums, penalties, variance
        self._started = time.perf_counter() - sums.seconds
        self._sizes = np.zeros(batches)
        self._rows = torch.full(
            (batches, 3 + len(penalties)), math.nan, dtype=torch.float64, device=device
        )
        self._copy = self._rows.cpu().pin_memory() if device.type == "cuda" else self._rows

    def add(self, number: int, size: int, result: StepResult) -> None:
        """Add the result of batch ``number`` (from 0), which has ``size`` samples."""
        self._sizes[number] = size
        self._rows[number] = result.values
        if self._copy is not self._rows:
            self._copy[number].copy_(self._rows[number], non_blocking=True)

    def peek(self) -> Sums:
        """The sums; on a GPU those of a moment ago, without waiting."""
        return self._sums(self._copy.numpy())

    def totals(self) -> Sums:
        """The sums over all added results; waits for a GPU."""
        return self._sums(self._rows.cpu().numpy())

    def first_nonfinite(self) -> tuple[int, float] | None:
        """Number and loss of the first batch that was not finite, or None."""
        rows = self._rows.cpu().numpy()
        bad = np.flatnonzero(rows[:, 2] == 0)
        return (int(bad[0]), float(rows[bad[0], 0])) if bad.size else None

    def _sums(self, rows: NDArray[np.float64]) -> Sums:
        before, good = self._before, rows[:, 2] == 1
        sizes, (loss, correct, _, *penalties) = self._sizes[good], rows[good].T

        def total(first: float, values: NDArray[np.float64]) -> float:
            """Summed in order, so that a resumed epoch gives the same sum."""
            return float(np.cumsum(np.append(first, values * sizes))[-1])

        per_step = self._variance is not None
        return Sums(
            total(before.loss, loss),
            0 if per_step else before.correct + int(correct.sum()),
            before.seen + int(sizes.sum()),
            before.skipped + int((rows[:, 2] == 0).sum()),
            time.perf_counter() - self._started,
            {
                name: total(before.penalties.get(name, 0.0), values)
                for name, values in zip(self._penalties, penalties, strict=True)
            },
            float(np.cumsum(np.append(before.squared, correct))[-1]) if per_step else 0.0,
            self._variance,
        )
