"""The runs of a suite's search, and the choice of each network's options on validation data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from snn_delays.benchmark.jobs import Job
from snn_delays.benchmark.rows import Row, seeded
from snn_delays.errors import UserError
from snn_delays.training.run_folder import read_result

FOLDER = "search"  # in a member's folder
SEED = 1000  # of every trial; the runs of the table have the seeds 0, 1, ...


def trial_jobs(member: str, row: Row, folder: Path) -> list[Job]:
    """Runs that train on validation data held out of the training data, and leave the test set.

    Args:
        member: the network's short name.
        row: the network and its trials.
        folder: the suite's folder.
    """
    jobs = []
    for number, trial in enumerate(row.trials):
        config = seeded(trial.config, 0, folder / member / FOLDER / f"t{number}")
        train = dataclasses.replace(config.train, protocol="validation", test=False)
        config = dataclasses.replace(config, seed=SEED, train=train)
        jobs.append(Job(member, config, name=f"{member}, trial {number}"))
    return jobs


def chosen(row: Row, jobs: Sequence[Job]) -> Row:
    """A network with the options of best validation accuracy, the first of equal ones.

    Args:
        row: the network and its trials.
        jobs: their runs, which have ended.

    Raises:
        UserError: every trial failed, or the result of one is damaged.
    """
    results = [read_result(job.out) for job in jobs]
    scores = [result["valid"] if result else None for result in results]
    done = [(score["accuracy"], -n) for n, score in enumerate(scores) if score]
    if not done:
        raise UserError(f"Every trial of its search failed, the first one so: {jobs[0].failure()}")
    best = row.trials[-max(done)[1]]
    account = {
        "options": best.options,
        "accuracies": [score and score["accuracy"] for score in scores],
        "n": next(score["n"] for score in scores if score),
    }
    return Row(best.config, account={**row.account, "search": account})
