"""The runs of a suite's search, and the choice of each network's options on validation data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.benchmark.jobs import Job
from snn_delays.benchmark.trials import Trial
from snn_delays.config import Config
from snn_delays.errors import UserError
from snn_delays.training.run_folder import read_result

FOLDER = "search"  # in a member's folder
SEED = 1000  # of every trial; the runs of the table have the seeds 0, 1, ...


def trial_jobs(member: str, trials: Sequence[Trial], folder: Path) -> list[Job]:
    """Runs that train on validation data held out of the training data, and leave the test set.

    Args:
        member: the network's short name.
        trials: its trials.
        folder: the suite's folder.
    """
    jobs = []
    for number, trial in enumerate(trials):
        train = dataclasses.replace(trial.config.train, protocol="validation", test=False)
        out = str((folder / member / FOLDER / f"t{number}").absolute())
        config = dataclasses.replace(trial.config, seed=SEED, out=out, train=train)
        jobs.append(Job(member, config, name=f"{member}, trial {number}"))
    return jobs


def chosen(trials: Sequence[Trial], jobs: Sequence[Job]) -> tuple[Config, dict[str, Any]]:
    """The options with the best validation accuracy, the first of equal ones; and their account.

    Args:
        trials: the trials of a network.
        jobs: their runs, which have ended.

    Returns:
        The options of the network's runs; what the lines of its results say of the search.

    Raises:
        UserError: every trial failed, or the result of one is damaged.
    """
    results = [read_result(job.out) for job in jobs]
    scores = [result["valid"] if result else None for result in results]
    done = [(score["accuracy"], -n) for n, score in enumerate(scores) if score]
    if not done:
        raise UserError(f"Every trial of its search failed, the first one so: {jobs[0].failure()}")
    best = trials[-max(done)[1]]
    account = {
        "options": best.options,
        "accuracies": [score and score["accuracy"] for score in scores],
        "n": next(score["n"] for score in scores if score),
    }
    return best.config, account
