"""Runs tasks through Hydra's launchers: local processes (joblib), or a cluster (submitit)."""

from __future__ import annotations

import logging
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import hydra
import torch
from omegaconf import DictConfig

from snn_delays.benchmark.jobs import Host, Task, run_task
from snn_delays.cli.explain import unforeseen
from snn_delays.cli.groups import config_folder
from snn_delays.cli.overrides import quoted
from snn_delays.errors import UserError

JOBLIB = "joblib"
KILLED = (
    "Its process was killed, even as the only one; try a lower train.batch_size, if for memory."
)


@dataclass(frozen=True)
class Launcher:
    """Runs tasks, several at a time.

    Attributes:
        host: the process that runs the suite.
        concurrency: number of tasks at a time with Hydra's joblib launcher.
        overrides: overrides for Hydra, such as hydra/launcher=submitit_slurm.
    """

    host: Host
    concurrency: int
    overrides: list[str]

    @property
    def pace(self) -> str:
        """Number of tasks at a time, as text."""
        theirs = self._kind != JOBLIB or any("n_jobs=" in o for o in self.overrides)
        return "as many as the launcher takes" if theirs else str(self.concurrency)

    @property
    def _kind(self) -> str:
        """The launcher that was chosen."""
        chosen = [o.partition("=")[2] for o in self.overrides if o.startswith("hydra/launcher=")]
        return chosen[-1] if chosen else JOBLIB

    def run(self, jobs: list[Task]) -> None:
        """Run all tasks until they have finished or failed, or the file ``host.stop`` exists.

        If the system kills a process (when memory runs out), joblib ends the others, too. The tasks
        that were running are then repeated one at a time at the end, which shows the one to blame.

        Raises:
            UserError: the chosen launcher cannot run here.
        """
        for job in jobs:
            job.running.unlink(missing_ok=True)
        apart: list[Task] = []
        while jobs or apart:
            batch = jobs or [apart.pop(0)]
            whole = self._launch(batch)
            if self.host.stop_signal() is not None:
                return
            if whole:
                jobs = []
                continue
            left = [job for job in batch if job.is_open()]
            fallen = [job for job in left if job.running.exists()] or left
            for job in fallen:
                job.running.unlink(missing_ok=True)
            if jobs:
                apart += fallen
                jobs = [job for job in left if job not in fallen]
            elif fallen:
                fallen[0].fail(KILLED)

    def _launch(self, jobs: list[Task]) -> bool:
        """Launch the tasks; returns False if a process was killed."""
        host = self.host

        def task(config: DictConfig) -> None:
            _pick_gpu(config.job)
            run_task(jobs[config.job], host)

        settings = [f"hydra.sweep.dir={quoted(str(host.stop.parent))}", *self.overrides]
        if self._kind == JOBLIB:
            settings.insert(0, f"hydra.launcher.n_jobs={self.concurrency}")
        before, handlers = sys.argv, logging.root.handlers[:]
        sys.argv = [before[0], "-m", f"job=range({len(jobs)})", *settings]
        folder = str(config_folder())
        try:
            hydra.main(version_base="1.3", config_path=folder, config_name="jobs")(task)()
        except BrokenProcessPool:
            return False
        except RuntimeError as error:  # such as a missing cluster
            if self._kind == JOBLIB:
                raise
            raise UserError(f"hydra/launcher={self._kind} cannot run here: {error}") from error
        except UserError:
            raise
        except Exception as error:
            if not all(job.is_open() and not job.running.exists() for job in jobs):
                raise
            raise UserError(unforeseen(error, self.overrides, "benchmark")) from error
        finally:
            sys.argv = before
            logging.root.handlers[:] = handlers  # a job's would print messages of the next launch
        return True


def _pick_gpu(number: int) -> None:
    """Use another GPU of this machine for each task, in turn."""
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
