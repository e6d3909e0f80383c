"""Running sums of an epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_delays.train.step import Outcome


@dataclass
class Sums:
    """Running sums of an epoch."""

    loss: float = 0.0
    right: int = 0
    seen: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Means of the epoch, and its speed."""
        skipped = {"skipped_batches": self.skipped} if self.skipped else {}
        return {
            "train_loss": self.loss / self.seen,
            "train_accuracy": self.right / self.seen,
            "samples_per_second": round(self.seen / self.seconds, 1),
            "seconds": round(self.seconds, 2),
            **skipped,
        }


class Tally:
    """Adds up outcomes where they are; a GPU need not be waited for to glance at the sums.

    Args:
        sums: to begin with.
        device: of the outcomes.
    """

    def __init__(self, sums: Sums, device: torch.device) -> None:
        self._started = time.perf_counter() - sums.seconds
        values = [sums.loss, sums.right, sums.seen, sums.skipped]
        self._sums = torch.tensor(values, dtype=torch.float64, device=device)
        self._bad = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)
        on_gpu = device.type == "cuda"
        self._copy = self._sums.cpu().pin_memory() if on_gpu else self._sums

    def add(self, number: int, size: int, outcome: Outcome) -> None:
        """The outcome of batch ``number``, from 0, which has ``size`` samples."""
        finite = outcome.finite
        loss, right = outcome.loss.double(), outcome.right.double()
        n = torch.full_like(loss, size)
        good = torch.stack([loss * n, right, n, torch.zeros_like(n)])
        bad = torch.zeros_like(good)
        bad[3] = 1
        self._sums += torch.where(finite, good, bad)
        first = ~finite & (self._bad[0] < 0)
        self._bad = torch.where(first, torch.stack([torch.full_like(n, number), loss]), self._bad)
        if self._copy is not self._sums:
            self._copy.copy_(self._sums, non_blocking=True)

    def glance(self) -> Sums:
        """The sums; on a GPU, as they were a moment ago."""
        return self._as_sums(self._copy)

    def read(self) -> Sums:
        """The sums of all that was added."""
        return self._as_sums(self._sums)

    def first_bad(self) -> tuple[int, float] | None:
        """Number and loss of the first batch that was not finite, or None."""
        number, loss = self._bad.tolist()
        return None if number < 0 else (int(number), loss)

    def _as_sums(self, values: Tensor) -> Sums:
        loss, right, seen, skipped = values.tolist()
        seconds = time.perf_counter() - self._started
        return Sums(loss, int(right), int(seen), int(skipped), seconds)
