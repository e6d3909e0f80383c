"""Numbered jobs through Hydra's launchers: processes here (joblib), or a cluster (submitit)."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from snn_delays.cli.groups import config_folder


def launch(count: int, job: Callable[[int], None], overrides: list[str]) -> None:
    """Run ``job(0)`` to ``job(count - 1)``, several at a time.

    Args:
        count: number of jobs.
        job: can be pickled with what it holds.
        overrides: Hydra's, such as hydra.launcher.n_jobs=2.
    """

    def task(config: DictConfig) -> None:
        job(config.job)

    before = sys.argv
    sys.argv = [before[0], "-m", f"job=range({count})", *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="jobs")(task)()
    finally:
        sys.argv = before
