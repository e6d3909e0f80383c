"""The jobs of a suite: a single run, or the batched runs of one network with several seeds.

Each run has a folder of its own with a log beside it; an unfinished run is resumed.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch

from snn_delays.config import Config
from snn_delays.errors import Interrupted, InUse, UserError
from snn_delays.files import replace_file
from snn_delays.output import guarded, printable
from snn_delays.training.batched import train_batched
from snn_delays.training.run import train
from snn_delays.training.run_files import FAILED_SUFFIX, RESULT_FILE, epochs_done
from snn_delays.training.signals import request_stop

IN_USE_RETRIES = 60  # seconds to wait until another process releases a run's folder


class Task(Protocol):
    """The work of one process at a time: a run, or several batched runs."""

    @property
    def log(self) -> Path:
        """The file for its output."""

    @property
    def running(self) -> Path:
        """A file that exists while a process does the task, and stays if the process is killed."""

    def is_open(self) -> bool:
        """Whether a run of the task has neither finished nor failed."""

    def fail(self, why: str) -> None:
        """Note the reason why its open runs failed."""

    def train(self) -> list[tuple[Job, Exception]]:
        """Train or resume; returns the runs that did not finish, with their errors."""


@dataclass(frozen=True)
class Job:
    """A member of a suite with one seed.

    Attributes:
        member: its short name.
        config: validated; ``config.out`` is the run's folder.
        name: its name in messages; "": the member and the seed.
        account: how its options were found, for its line of the results.
    """

    member: str
    config: Config
    name: str = ""
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(str(self.config.out))

    @property
    def log(self) -> Path:
        """The run's output."""
        return self.out.with_suffix(".log")

    @property
    def failed(self) -> Path:
        """A file with the reason why the run failed; exists only if it did."""
        return self.out.with_suffix(FAILED_SUFFIX)

    @property
    def running(self) -> Path:
        """A file that exists while a process trains the run, and stays if that is killed."""
        return self.out.with_suffix(".running")

    @property
    def title(self) -> str:
        """The run's name in messages."""
        return self.name or f"{self.member}, seed {self.config.seed}"

    def is_done(self) -> bool:
        """Whether it has a result."""
        return (self.out / RESULT_FILE).is_file()

    def failure(self) -> str | None:
        """The reason why it failed, or None."""
        if self.is_done() or not self.failed.is_file():
            return None
        return self.failed.read_text("utf-8").strip()

    def fail(self, why: str) -> None:
        """Note the reason why it failed."""
        replace_file(self.failed, f"{printable(why)}\n".encode())

    def is_open(self) -> bool:
        """Whether it has neither finished nor failed."""
        return not self.is_done() and self.failure() is None

    def train(self) -> list[tuple[Job, Exception]]:
        """See ``Task``."""
        try:
            train(self.config)
        except Exception as error:
            return [(self, error)]
        return []

    def epochs_done(self) -> int:
        """Number of epochs trained so far, at most ``train.epochs`` (a refit trains more)."""
        if self.is_done():
            return self.config.train.epochs
        return min(epochs_done(self.out), self.config.train.epochs)


@dataclass(frozen=True)
class BatchedJobs:
    """Jobs that differ in seed alone, with batched steps. See ``Task``."""

    jobs: Sequence[Job]

    @property
    def log(self) -> Path:
        """The first job's log; output of one seed goes to its own log."""
        return self.jobs[0].log

    @property
    def running(self) -> Path:
        """The first job's file."""
        return self.jobs[0].running

    def is_open(self) -> bool:
        """Whether a job has neither finished nor failed."""
        return any(job.is_open() for job in self.jobs)

    def fail(self, why: str) -> None:
        """Note the reason why the open jobs failed."""
        for job in self.jobs:
            if job.is_open():
                job.fail(why)

    def train(self) -> list[tuple[Job, Exception]]:
        """See ``Task``; output of one seed goes to its own log."""
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
    """The process that runs the suite, described for its workers.

    Attributes:
        node: name of its machine.
        process: its process id.
        threads: CPU threads of each run.
        stop: a file that tells all runs to save and stop; contains the signal's number.
        folder: its working folder, in which workers find the user's own modules.
    """

    node: str
    process: int
    threads: int
    stop: Path
    folder: str = field(default_factory=os.getcwd)

    def request_stop(self, number: int) -> None:
        """Tell every run to save and stop because of this signal; only the first call counts."""
        if not self.stop.exists():
            self.stop.write_text(str(number), encoding="utf-8")

    def stop_signal(self) -> int | None:
        """Number of the signal that stops the suite, or None."""
        try:
            return int(self.stop.read_text("utf-8") or signal.SIGTERM)
        except OSError:
            return None

    def is_local(self) -> bool:
        """Whether the current process runs on the host's machine."""
        return self.node == platform.node()

    def has_died(self) -> bool:
        """Whether the host process has ended; only valid if ``is_local``."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        return False


def run_task(task: Task, host: Host) -> None:
    """Train or resume a task; failures are noted beside the run's folder, and none is raised.

    If a signal stops the task, its runs are saved, and the other tasks on this machine are told to
    stop. A run whose failure cannot be noted, on a full disk, stays open.
    """
    if host.is_local() and host.has_died():  # nobody would read the output
        os._exit(128 + signal.SIGTERM)
    if host.stop_signal() is not None:
        return
    if host.folder not in sys.path:
        sys.path.append(host.folder)
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
        if host.is_local() and not host.has_died():  # else its stop file would stop the next suite
            host.request_stop(error.signal)
    elif isinstance(error, InUse):
        _say(job, str(error))
    elif isinstance(error, UserError):
        job.fail(str(error))
    else:  # a bug of this package: the rest of the suite continues
        traceback.print_exception(error)
        job.fail(f"{type(error).__name__}: {error} (see {job.log})")


def _say(job: Job, line: str) -> None:
    with job.log.open("a", encoding="utf-8") as file:
        print(line, file=file)


def _train_once_unlocked(task: Task) -> list[tuple[Job, Exception]]:
    """Train; wait first if a worker of a killed suite still saves to a run's folder."""
    for _ in range(IN_USE_RETRIES):
        wrong = task.train()
        if not wrong or not all(isinstance(error, InUse) for _, error in wrong):
            return wrong
        time.sleep(1)
    return task.train()


@contextlib.contextmanager
def _printing_to(file: TextIO) -> Iterator[None]:
    """A context in which prints and log messages go to a file."""
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
    """A context in which a worker stops if the suite's stop file appears or its host has ended."""
    local = host.is_local()
    if local and host.process != os.getpid():  # Ctrl-C also reaches the host, which tells workers
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
        if local and host.has_died():  # nobody would read the output
            os._exit(128 + signal.SIGTERM)
