"""The progress of a suite on the terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from snn_delays.benchmark.jobs import Job

POLL_INTERVAL = 2.0  # seconds between reads of the runs' folders


class Monitor:
    """A bar over the epochs of all runs, read from their folders, and a line per finished run."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._said = {job.title for job in jobs if job.is_done()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._total = sum(job.config.train.epochs for job in jobs)
        self._bar = tqdm(
            total=self._total,
            initial=self._epochs(),
            file=sys.stderr,
            disable=None,
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} epochs, {elapsed}, {remaining} left",
        )
        self._out = sys.stdout

    def __enter__(self) -> Self:
        self._started, self._first = time.monotonic(), self._epochs()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self._bar.close()

    def _epochs(self) -> int:
        return sum(job.epochs_done() for job in self._jobs)

    def _watch(self) -> None:
        while not self._ended.wait(POLL_INTERVAL):
            self._look()

    def _look(self) -> None:
        for job in self._jobs:
            if job.title not in self._said and (job.is_done() or job.failure()):
                self._said.add(job.title)
                how = "done" if job.is_done() else f"FAILED: {job.failure()}"
                line = f"[{len(self._said)}/{len(self._jobs)}] {job.title}: {how}{self._left()}"
                tqdm.write(line, file=self._out)
                self._out.flush()
        self._bar.set_description_str(f"{len(self._said)}/{len(self._jobs)} runs", refresh=False)
        self._bar.n = self._epochs()
        self._bar.refresh()

    def _left(self) -> str:
        """The time left as text, if there is no bar that shows it."""
        done = self._epochs()
        if not self._bar.disable or done == self._first:
            return ""
        pace = (time.monotonic() - self._started) / (done - self._first)
        return f"; about {pace * (self._total - done) / 60:.0f} min left"
