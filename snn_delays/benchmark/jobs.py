"""One run of a suite: in a folder of its own, with a log beside it, gone on with if it is there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from snn_delays.config import Config
from snn_delays.errors import Interrupted, UserError
from snn_delays.train.folder import RESULT_FILE
from snn_delays.train.loop import METRICS_FILE
from snn_delays.train.run import train


@dataclass(frozen=True)
class Job:
    """A member of a suite with one seed.

    Attributes:
        member: its short name.
        config: validated; ``config.out`` is the run's folder.
    """

    member: str
    config: Config

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(str(self.config.out))

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.out.with_suffix(".log")

    @property
    def failed(self) -> Path:
        """Says why the run failed, if it did."""
        return self.out.with_suffix(".failed")

    @property
    def title(self) -> str:
        """How a person calls it."""
        return f"{self.member}, seed {self.config.seed}"

    def is_done(self) -> bool:
        """Whether it has a result."""
        return (self.out / RESULT_FILE).is_file()

    def failure(self) -> str | None:
        """Why it failed, or None."""
        return self.failed.read_text().strip() if self.failed.is_file() else None

    def epochs_done(self) -> int:
        """Epochs trained so far, all of them where it has ended (a refit's second pass aside)."""
        if self.is_done():
            return self.config.train.epochs
        try:
            lines = (self.out / METRICS_FILE).read_bytes().count(b"\n")
        except OSError:
            return 0
        return min(lines, self.config.train.epochs)


def run_job(job: Job, threads: int, suite: int) -> None:
    """Train, or go on; a failure is noted beside the folder, and nothing is raised.

    Args:
        job: which.
        threads: of torch and of the compiled loops, on the CPU.
        suite: process that runs the suite.

    Raises:
        Interrupted: a signal came; all is saved.
    """
    job.out.parent.mkdir(parents=True, exist_ok=True)
    job.failed.unlink(missing_ok=True)
    with _logged(job.log), _threads(threads), _end_with(suite):
        try:
            train(job.config)
        except Interrupted:
            raise
        except UserError as error:
            job.failed.write_text(f"{error}\n")
        except Exception as error:  # ours: the rest of the suite goes on all the same
            traceback.print_exc()
            job.failed.write_text(f"{type(error).__name__}: {error} (see {job.log})\n")


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What is printed and warned of goes to a file."""
    root = logging.getLogger()
    with (
        path.open("a", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        handlers, root.handlers = root.handlers, [logging.StreamHandler(file)]
        try:
            yield
        finally:
            root.handlers = handlers


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _end_with(suite: int) -> Iterator[None]:
    """A worker whose suite was killed saves its run and ends, so that the suite can go on anew."""
    if os.getppid() != suite:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            if os.getppid() != suite:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if os.getppid() != suite:  # nobody hears what an exception would say
            os._exit(128 + signal.SIGTERM)
