"""``snn-delays benchmark suite=<name>``: experiments x seeds, with a table and comparisons."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_delays.benchmark.suite import Suite, load_suite, named, suites
from snn_delays.cli.app import SIGNALLED, refuse_torchrun, report_errors
from snn_delays.cli.compose import check_launcher, compose
from snn_delays.cli.groups import SUITES, config_folder, option_names, own_suite_folders
from snn_delays.cli.help import help_text
from snn_delays.cli.overrides import HELP, SEARCH_PATH, refuse_words, split_words
from snn_delays.cli.suite_runs import member_configs, seed_configs, trial_configs
from snn_delays.cli.wrapping import wrapped
from snn_delays.config import BenchmarkConfig, Config, shapes_result
from snn_delays.errors import InUse, UserError
from snn_delays.files import Locked, locked, replace_file
from snn_delays.output import printable

if TYPE_CHECKING:
    from snn_delays.benchmark.jobs import Host, Job, Task
    from snn_delays.benchmark.trials import Trial

EXPLAINED = (
    "suite=<path>.yaml is a suite of your own. --config-dir FOLDER adds your own suites"
    " (FOLDER/suites), experiments (FOLDER/experiment) and other groups. Options of `snn-delays"
    " train` apply to all runs, after the suite's own options. hydra/launcher=... chooses where"
    " runs are computed: joblib (the default) on this machine, submitit_slurm on a cluster (pip"
    " install snn-delays[slurm]). The same command resumes stopped runs and skips finished ones."
)
LOCK_FILE, STOP_FILE = ".lock", ".stop"


def main() -> None:
    """Entry point."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        report_errors(lambda: print(wrapped(_help(sys.argv[1:]))))
        return
    refuse_torchrun("benchmark")
    report_errors(lambda: benchmark(sys.argv[1:]))


def _help(arguments: list[str]) -> str:
    split_words("benchmark", arguments, allowed=(HELP,))
    lines = [help_text("benchmark", []), "", "suites:"]
    own = own_suite_folders()
    for name in (name for folder in [_folder(), *own] for name in suites(folder)):
        lines.append(f"  {name:14} {load_suite(_folder(), name, own).title}")
    return "\n".join([*lines, "", EXPLAINED])


def benchmark(arguments: list[str]) -> None:
    """Run or resume a suite; write results.jsonl and table.md, and print the table.

    Args:
        arguments: options of the suite, of Hydra's launcher and of the runs.

    Raises:
        UserError: a mistake in the options of the suite or of a run, options that differ from those
            of existing runs, or a folder that cannot be written or is in use; no run was started.
        SystemExit: code 1 if a run failed or is not finished, 128 + number after a signal.
    """
    mine, hydras, theirs = _split_arguments(arguments)
    given: BenchmarkConfig = compose("benchmark", mine)
    suite = load_suite(_folder(), given.suite, own_suite_folders())
    out = Path(given.out or f"runs/benchmark/{suite.name}").expanduser()
    seeds = given.seeds or suite.seeds
    places = [word for word in hydras if word.startswith(SEARCH_PATH)]
    members = member_configs(suite, theirs, places)
    trials = trial_configs(suite, given.trials, theirs, places)
    check_launcher(hydras)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # before torch loads, here and in workers
    from snn_delays.benchmark.jobs import Host
    from snn_delays.benchmark.search import trial_jobs

    if given.batched:
        _check_batched(members)
    host = Host(platform.node(), os.getpid(), given.threads, (out / STOP_FILE).absolute())
    with _locked_folder(out):
        searches = {key: trial_jobs(key, found, out) for key, found in trials.items()}
        ready = {key: config for key, config in members.items() if key not in trials}
        _check_there([*itertools.chain(*searches.values()), *_seed_jobs(ready, seeds, out)])
        host.stop.unlink(missing_ok=True)
        print(
            f"{suite.title}\n{len(suite.members)} networks x {seeds} seeds, in {out}/", flush=True
        )
        accounts, failures = _search(members, trials, searches, host, given, hydras)
        jobs = _seed_jobs(members, seeds, out, accounts)
        _check_there(jobs)
        try:
            _run_all(jobs, host, given, hydras)
        finally:
            options = [option for option in theirs if shapes_result(named(option))]
            failures |= _report(suite, jobs, out, options, failures)
        _end(jobs, failures, host)


def _seed_jobs(
    members: dict[str, Config], seeds: int, out: Path, accounts: dict[str, Any] | None = None
) -> list[Job]:
    from snn_delays.benchmark.jobs import Job

    known = accounts or {}
    configs = seed_configs(members, seeds, out)
    return [Job(member, config, account=known.get(member, {})) for member, config in configs]


def _search(
    members: dict[str, Config],
    trials: dict[str, list[Trial]],
    searches: dict[str, list[Job]],
    host: Host,
    given: BenchmarkConfig,
    hydras: list[str],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Run the trials, and replace the options of members that have some by those of the best.

    Returns:
        How the options were found, by member; and why a search failed, whose member is left out.
    """
    from snn_delays.benchmark.search import chosen

    accounts: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    jobs = [*itertools.chain(*searches.values())]
    if jobs:
        _run_all(jobs, host, dataclasses.replace(given, batched=False), hydras, "trials")
        _end(jobs, {}, host)
    for key, found in trials.items():
        try:
            members[key], account = chosen(found, searches[key])
            accounts[key] = {"search": account}
        except UserError as error:
            failures[f"{key}, search"] = str(error)
            print(f"The search of {key} failed.", file=sys.stderr)
            del members[key]
    return accounts, failures


@contextlib.contextmanager
def _locked_folder(out: Path) -> Iterator[None]:
    """A context that locks the suite's folder: a second suite would use the same runs."""
    from snn_delays.training.error_messages import writing

    try:
        with writing(out):
            lock = contextlib.ExitStack()
            lock.enter_context(locked(out / LOCK_FILE, wait=False))
    except Locked as error:
        raise InUse(
            f"Another suite (process {error}) is writing to {out}; wait for it, or choose another"
            " out."
        ) from error
    with lock:
        yield


def _check_batched(members: dict[str, Config]) -> None:
    """Refuse networks whose seeds cannot be batched."""
    from snn_delays.training.batched import why_not_batched

    for member, config in members.items():
        reason = why_not_batched(config)
        if reason:
            raise UserError(f"batched=true cannot train the row {member}: {reason}.")


def _check_there(jobs: list[Job]) -> None:
    """Refuse options that differ from those of existing runs, before any run is started."""
    from snn_delays.training.run_files import is_run
    from snn_delays.training.run_folder import other_options

    for job in jobs:
        try:
            differing = other_options(job.config, job.out) if is_run(job.out) else ""
        except UserError:  # damaged: it will say so itself, and the rest goes on
            continue
        if differing:
            raise UserError(
                f"{job.out} holds a run of other options: {differing}; give the suite's own, or"
                " choose another out."
            )


def _run_all(
    jobs: list[Job], host: Host, given: BenchmarkConfig, hydras: list[str], what: str = "runs"
) -> None:
    """Run what is left, with a bar over all; the first signal lets every run save."""
    from snn_delays.benchmark.monitor import Monitor
    from snn_delays.cli.launch import Launcher
    from snn_delays.training.signals import StopSignal

    left = [job for job in jobs if not job.is_done()]
    tasks = _tasks(left, given.batched)
    concurrency = given.jobs or min(_concurrency(host.threads, left), max(len(tasks), 1))
    launcher = Launcher(host, concurrency, hydras)
    as_one = "; the seeds of a network count as one" if given.batched else ""
    print(
        f"{len(jobs)} {what}, {len(jobs) - len(left)} done; {launcher.pace} at a time,"
        f" {host.threads} threads each{as_one}",
        flush=True,
    )
    if not left:
        return
    for job in left:
        job.failed.unlink(missing_ok=True)
    with Monitor(jobs), StopSignal(host.request_stop):
        launcher.run(tasks)


def _tasks(jobs: list[Job], batched: bool) -> list[Task]:
    """The tasks of the suite: one per run, or with ``batched`` one per network."""
    from snn_delays.benchmark.jobs import BatchedJobs

    if not batched:
        return [*jobs]
    members = dict.fromkeys(job.member for job in jobs)
    return [BatchedJobs([job for job in jobs if job.member == member]) for member in members]


def _end(jobs: list[Job], failures: dict[str, str], host: Host) -> None:
    """Print the runs that are not finished, and exit with a code if there are any."""
    failed = sum(job.title in failures for job in jobs)
    if failed:
        print(f"{failed} of {len(jobs)} runs failed.", file=sys.stderr)
    number = host.stop_signal()
    if number is not None:
        host.stop.unlink()
        name = signal.Signals(number).name
        print(f"Stopped by {name}; all is saved, and the same command resumes.", file=sys.stderr)
        sys.exit(SIGNALLED + number)
    left = [job.title for job in jobs if job.is_open()]
    if left:
        print(f"Not finished: {'; '.join(left)}. The same command resumes.", file=sys.stderr)
    if failures or left:
        sys.exit(1)


def _split_arguments(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split arguments into options of the suite, of Hydra and of the runs."""
    _, words = split_words("benchmark", arguments, allowed=())
    refuse_words("benchmark", words)
    mine, hydras, theirs = [], [], []
    for argument in words:
        name = named(argument)
        if name in ("seed", "resume") or (name == "out" and not argument.startswith("out=")):
            raise UserError(f"{name}=... is set by the suite; see seeds and out.")
        if name in option_names("benchmark"):
            mine.append(argument)
        elif name.startswith("hydra"):
            hydras.append(argument)
        else:
            theirs.append(argument)
    return mine, hydras, theirs


def _concurrency(threads: int, jobs: list[Job]) -> int:
    """Number of runs at a time: the number of GPUs, or of cores over threads per run."""
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    gpus = torch.cuda.device_count() if any(job.config.device != "cpu" for job in jobs) else 0
    return max(min(gpus or cores // threads, len(jobs)), 1)


def _report(
    suite: Suite, jobs: list[Job], out: Path, given: list[str], searches: dict[str, str]
) -> dict[str, str]:
    """Write and print the results so far; returns the reasons of failed runs, by title.

    Args:
        suite: the suite.
        jobs: its runs.
        out: its folder.
        given: options of the command line that affect the results.
        searches: the reasons of failed searches, by title.
    """
    from snn_delays.analysis.curves import write_learning_curve
    from snn_delays.benchmark.results import (
        RESULTS_FILE,
        TABLE_FILE,
        read_line,
        table,
        write_results,
    )
    from snn_delays.training.error_messages import writing

    lines, failures = [], searches | {job.title: why for job in jobs if (why := job.failure())}
    for job in jobs:
        try:
            lines += [line for line in [read_line(job)] if line]
            if job.is_done():
                write_learning_curve(job.out)
        except UserError as error:
            failures[job.title] = str(error)
    text = table(suite, lines, failures, given)
    with writing(out):
        write_results(out, lines)
        replace_file(out / TABLE_FILE, printable(text).encode())
    print(f"\n{text}\nwritten to {out}/{TABLE_FILE} and {RESULTS_FILE}")
    seeds = {job.config.seed for job in jobs}
    further = {p.parent.name for p in out.glob("*/s*/result.json")} - {f"s{s}" for s in seeds}
    if further:
        print(f"Left out because of seeds={len(seeds)}: {', '.join(sorted(further))}.")
    return failures


def _folder() -> Path:
    return config_folder() / SUITES


if __name__ == "__main__":
    main()
