"""``snn-delays benchmark suite=<name>``: experiments x seeds, a table, and pairs compared."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from snn_delays.benchmark.suite import Suite, load_suite, overrides, suites
from snn_delays.cli.app import SIGNALLED, compose, help_text, report_errors
from snn_delays.cli.groups import SUITES, config_folder, option_names
from snn_delays.config import BenchmarkConfig, Config
from snn_delays.errors import Interrupted, UserError
from snn_delays.files import replace_file

if TYPE_CHECKING:
    from snn_delays.benchmark.jobs import Job

EXPLAINED = """Options of `snn-delays train` apply to all runs, after the suite's own.
hydra/launcher=... says where they run: joblib (the default) here, submitit_slurm on a cluster
(pip install snn_delays[slurm]).
The same command goes on with what was stopped and skips what is done."""
LOOK_AGAIN = 2.0  # seconds between looks at the runs


def main() -> None:
    """Entry point."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        report_errors(lambda: print(_help()))
        return
    report_errors(lambda: benchmark(sys.argv[1:]))


def _help() -> str:
    lines = [help_text("benchmark", []), "", "suites:"]
    for name in suites(_folder()):
        lines.append(f"  {name:14} {load_suite(_folder(), name).title}")
    return "\n".join([*lines, "", EXPLAINED])


def benchmark(arguments: list[str]) -> None:
    """Run a suite, or go on with it; write results.jsonl and table.md, and print the table.

    Args:
        arguments: options of the suite, of Hydra's launcher and of the runs.

    Raises:
        UserError: a mistake in the options of the suite or of a run; nothing was started then.
        SystemExit: 1 where a run failed.
    """
    mine, hydras, theirs = _sorted(arguments)
    options: BenchmarkConfig = compose("benchmark", mine)
    suite = load_suite(_folder(), options.suite)
    out = Path(options.out or f"runs/benchmark/{suite.name}").expanduser()
    seeds = options.seeds or suite.seeds
    configs = _configs(suite, seeds, out, theirs)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch loads, here and in workers
    from snn_delays.benchmark.jobs import Job

    jobs = [Job(member, config) for member, config in configs]
    left = [job for job in jobs if not job.is_done()]
    at_once = options.jobs or _at_once(options.threads, len(left))
    print(
        f"{suite.title}\n{len(suite.members)} networks x {seeds} seeds: {len(jobs)} runs,"
        f" {len(jobs) - len(left)} done; {at_once} at a time, {options.threads} threads each;"
        f" writing {out}/",
        flush=True,
    )
    if left:
        task = functools.partial(_run, left, options.threads, os.getpid())
        settings = [f"hydra.sweep.dir={out}", *hydras]
        if not any(option.startswith("hydra/launcher=") for option in hydras):
            settings.insert(0, f"hydra.launcher.n_jobs={at_once}")
        from snn_delays.cli.launch import launch

        with Monitor(jobs):
            launch(len(left), task, settings)
    _report(suite, jobs, out)


def _sorted(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Options of the suite, of Hydra and of the runs."""
    mine, hydras, theirs = [], [], []
    for argument in arguments:
        name = argument.partition("=")[0]
        if "=" not in argument or argument.startswith("-"):
            raise UserError(f"{argument} cannot be read. Write option=value.")
        if name in ("seed", "resume"):
            raise UserError(f"{name}=... is the suite's to give; see seeds and out.")
        if name in option_names("benchmark"):
            mine.append(argument)
        elif name.lstrip("+~").startswith("hydra"):
            hydras.append(argument)
        else:
            theirs.append(argument)
    return mine, hydras, theirs


def _configs(suite: Suite, seeds: int, out: Path, theirs: list[str]) -> list[tuple[str, Config]]:
    """The options of every run; seed by seed, so that all networks are there early."""
    members = {}
    for key, member in suite.members.items():
        chosen = overrides(suite.options, member.options, theirs)
        members[key] = compose("train", [*chosen, "resume=auto", f"out={out}"])
    found = []
    for seed in range(seeds):
        for key, config in members.items():
            folder = str((out / key / f"s{seed}").absolute())
            found.append((key, dataclasses.replace(config, seed=seed, out=folder)))
    return found


def _at_once(threads: int, runs: int) -> int:
    """As many runs as there are cores for, or GPUs."""
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    slots = torch.cuda.device_count() or max(cores // threads, 1)
    return max(min(slots, runs), 1)


def _run(jobs: list[Job], threads: int, suite: int, number: int) -> None:
    """One run, in a worker or here."""
    import torch

    from snn_delays.benchmark.jobs import run_job

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    try:
        run_job(jobs[number], threads, suite)
    except Interrupted as stop:  # Hydra would go on with the next after an Exception
        print(f"\nStopped by {signal.Signals(stop.signal).name}; the same command goes on.")
        sys.exit(SIGNALLED + stop.signal)


class Monitor:
    """A bar over the epochs of all runs, from their folders, and a line for each that ends."""

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
        while not self._ended.wait(LOOK_AGAIN):
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
        """Time left, where no bar says it."""
        done = self._epochs()
        if not self._bar.disable or done == self._first:
            return ""
        pace = (time.monotonic() - self._started) / (done - self._first)
        return f"; about {pace * (self._total - done) / 60:.0f} min left"


def _report(suite: Suite, jobs: list[Job], out: Path) -> None:
    from snn_delays.benchmark.results import (
        RESULTS_FILE,
        TABLE_FILE,
        read_line,
        table,
        write_results,
    )

    lines = [line for job in jobs if (line := read_line(job))]
    failures = {job.title: why for job in jobs if (why := job.failure())}
    text = table(suite, lines, failures)
    write_results(out, lines)
    replace_file(out / TABLE_FILE, text.encode())
    print(f"\n{text}\nwritten to {out}/{TABLE_FILE} and {RESULTS_FILE}")
    if failures:
        print(f"{len(failures)} of {len(jobs)} runs failed.", file=sys.stderr)
        sys.exit(1)


def _folder() -> Path:
    return config_folder() / SUITES


if __name__ == "__main__":
    main()
