"""One run of a suite: in a folder of its own, with a log beside it, gone on with if it is there.

Or the runs of one network with several seeds, trained at once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

import torch

from snn_delays.config import Config
from snn_delays.errors import Interrupted, InUse, UserError
from snn_delays.files import replace_file
from snn_delays.output import guarded, printable
from snn_delays.train.batched import train_batched
from snn_delays.train.loop import METRICS_FILE
from snn_delays.train.run import train
from snn_delays.train.run_folder import RESULT_FILE
from snn_delays.train.signals import request_stop

IN_USE_RETRIES = 60  # seconds to wait for another process that writes to a run's folder


class Task(Protocol):
    """What one process does at a time: a run, or several at once."""

    @property
    def log(self) -> Path:
        """Where to print."""

    @property
    def running(self) -> Path:
        """Is there while a process is at it, and stays where that process was killed."""

    def is_open(self) -> bool:
        """Whether something in it has neither a result nor failed."""

    def fail(self, why: str) -> None:
        """Note why what is open in it failed."""

    def train(self) -> list[tuple[Job, Exception]]:
        """Train, or go on; gives the runs that did not come to their end, and why."""


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
    def running(self) -> Path:
        """Is there while a process trains it, and stays where that process was killed."""
        return self.out.with_suffix(".running")

    @property
    def title(self) -> str:
        """How a person calls it."""
        return f"{self.member}, seed {self.config.seed}"

    def is_done(self) -> bool:
        """Whether it has a result."""
        return (self.out / RESULT_FILE).is_file()

    def failure(self) -> str | None:
        """Why it failed, or None."""
        if self.is_done() or not self.failed.is_file():
            return None
        return self.failed.read_text("utf-8").strip()

    def fail(self, why: str) -> None:
        """Note why it failed."""
        replace_file(self.failed, f"{printable(why)}\n".encode())

    def is_open(self) -> bool:
        """Whether it has neither a result nor failed."""
        return not self.is_done() and self.failure() is None

    def train(self) -> list[tuple[Job, Exception]]:
        """See ``Task``."""
        try:
            train(self.config)
        except Exception as error:
            return [(self, error)]
        return []

    def epochs_done(self) -> int:
        """Epochs trained so far, all of them where it has ended (a refit's second pass aside)."""
        if self.is_done():
            return self.config.train.epochs
        try:
            lines = (self.out / METRICS_FILE).read_bytes().count(b"\n")
        except OSError:
            return 0
        return min(lines, self.config.train.epochs)


@dataclass(frozen=True)
class BatchedJobs:
    """Jobs that differ in seed alone, trained at once. See ``Task``."""

    jobs: Sequence[Job]

    @property
    def log(self) -> Path:
        """The first one's; what is of one seed goes to that one's."""
        return self.jobs[0].log

    @property
    def running(self) -> Path:
        """The first one's."""
        return self.jobs[0].running

    def is_open(self) -> bool:
        """Whether a seed has neither a result nor failed."""
        return any(job.is_open() for job in self.jobs)

    def fail(self, why: str) -> None:
        """Of the seeds that are open."""
        for job in self.jobs:
            if job.is_open():
                job.fail(why)

    def train(self) -> list[tuple[Job, Exception]]:
        """See ``Task``; what is of one seed goes to its log."""
        left = [job for job in self.jobs if job.is_open()]
        with contextlib.ExitStack() as opened:
            files = [
                opened.enter_context(job.log.open("a", buffering=1, encoding="utf-8"))
                for job in left
            ]
            contexts = [functools.partial(_printing_to, file) for file in files]
            try:
                ends = train_batched([job.config for job in left], contexts)
            except Exception as error:
                return [(job, error) for job in left if job.is_open()]
        ended = zip(left, ends, strict=True)
        return [(job, end) for job, end in ended if isinstance(end, Exception)]


@dataclass(frozen=True)
class Host:
    """The process that runs the suite, as its workers know it.

    Attributes:
        node: name of the machine.
        process: its number there.
        threads: of torch and of the compiled loops in each run, on the CPU.
        stop: a file that asks all to save and stop; it holds the number of the signal that came.
    """

    node: str
    process: int
    threads: int
    stop: Path

    def request_stop(self, number: int) -> None:
        """Let every run save and stop, because of the signal of this number; the first counts."""
        if not self.stop.exists():
            self.stop.write_text(str(number), encoding="utf-8")

    def stop_signal(self) -> int | None:
        """Number of the signal that asked so, or None."""
        try:
            return int(self.stop.read_text("utf-8") or signal.SIGTERM)
        except OSError:
            return None

    def is_local(self) -> bool:
        """Whether this process is on the same machine: it, or a worker of it."""
        return self.node == platform.node()

    def has_died(self) -> bool:
        """Whether it died, asked on the same machine."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        return False


def run_task(task: Task, host: Host) -> None:
    """Train, or go on; a failure is noted beside the folder, and nothing is raised.

    Where a signal stops it, all is saved, and the others on this machine are asked to stop too.
    What cannot even be noted, on a full disk, is left open.
    """
    if host.is_local() and host.has_died():  # nobody hears what would be said
        os._exit(128 + signal.SIGTERM)
    if host.stop_signal() is not None:
        return
    with contextlib.suppress(OSError):
        task.running.parent.mkdir(parents=True, exist_ok=True)
        task.running.touch()
        with (
            task.log.open("a", buffering=1, encoding="utf-8") as file,
            _printing_to(file),
            _threads(host.threads),
            _stopping_on_request(host),
        ):
            for job, error in _train_once_unlocked(task):
                _note(job, error, host)
        task.running.unlink(missing_ok=True)


def _note(job: Job, error: Exception, host: Host) -> None:
    if isinstance(error, Interrupted):
        _say(job, f"Stopped by {signal.Signals(error.signal).name}.")
        if host.is_local():
            host.request_stop(error.signal)
    elif isinstance(error, InUse):
        _say(job, str(error))
    elif isinstance(error, UserError):
        job.fail(str(error))
    else:  # ours: the rest of the suite goes on all the same
        traceback.print_exception(error)
        job.fail(f"{type(error).__name__}: {error} (see {job.log})")


def _say(job: Job, line: str) -> None:
    with job.log.open("a", encoding="utf-8") as file:
        print(line, file=file)


def _train_once_unlocked(task: Task) -> list[tuple[Job, Exception]]:
    """Train; a worker of a suite that was killed may still be saving."""
    for _ in range(IN_USE_RETRIES):
        wrong = task.train()
        if not wrong or not all(isinstance(error, InUse) for _, error in wrong):
            return wrong
        time.sleep(1)
    return task.train()


@contextlib.contextmanager
def _printing_to(file: TextIO) -> Iterator[None]:
    """What is printed and warned of goes to a file."""
    root = logging.getLogger()
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file), guarded():
        handlers, root.handlers = root.handlers, [logging.StreamHandler(sys.stderr)]
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
def _stopping_on_request(host: Host) -> Iterator[None]:
    """A worker saves its run and stops where it is asked to, or where its suite here has died."""
    local = host.is_local()
    if local and host.process != os.getpid():  # a terminal's reaches the suite as well, which asks
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            if host.stop_signal() is not None or (local and host.has_died()):
                request_stop(signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if local and host.has_died():  # nobody hears what would be said
            os._exit(128 + signal.SIGTERM)
