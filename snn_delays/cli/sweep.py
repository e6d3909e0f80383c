"""Multiruns: all jobs are checked before the first one starts, and a failure stops no other."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from snn_delays.cli.compose import checked, number_in_multirun
from snn_delays.cli.explain import explain
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Failed:
    """The return value of a run that failed and has printed why."""


@contextlib.contextmanager
def checked_sweeps(command: str) -> Iterator[None]:
    """A context in which Hydra's basic sweeper checks all runs first, and lists failed runs.

    The sweeper's class is patched, since Hydra only instantiates sweepers of its package
    ``hydra_plugins``.
    """
    Plugins.instance()  # imports the class again, so it comes before the patch
    kind: Any = basic_sweeper.BasicSweeper
    run_all = kind.sweep

    def sweep(sweeper: Any, arguments: list[str]) -> None:
        runs = _runs(sweeper, arguments)
        names = _names(runs)
        for overrides, name in zip(runs, names, strict=True):
            _check(sweeper, command, overrides, name)
        returns = [job.return_value for batch in run_all(sweeper, arguments) for job in batch]
        failed = [name for name, value in zip(names, returns, strict=True) if value == Failed()]
        if failed:
            print(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}", file=sys.stderr)
            sys.exit(1)

    kind.sweep = sweep
    try:
        yield
    finally:
        kind.sweep = run_all


def _runs(sweeper: BasicSweeper, arguments: list[str]) -> list[list[str]]:
    """The overrides of each run."""
    assert sweeper.hydra_context is not None
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    given = parser.parse_overrides([*sweeper._parse_config(), *arguments])
    return [run for batch in sweeper.split_arguments(given, None) for run in batch]


def _names(runs: list[list[str]]) -> list[str]:
    """A name of each run: its number, and the options in which it differs from the others."""
    apart = [len(set(values)) > 1 for values in zip(*runs, strict=True)]
    own = [[o for o, differs in zip(run, apart, strict=True) if differs] for run in runs]
    return [f"{n} ({' '.join(options)})" if options else str(n) for n, options in enumerate(own)]


def _check(sweeper: BasicSweeper, command: str, overrides: list[str], name: str) -> None:
    """Refuse a run with invalid options.

    Raises:
        UserError: an option is invalid; the message names the run.
    """
    assert sweeper.hydra_context is not None
    assert sweeper.config is not None
    try:
        config = sweeper.hydra_context.config_loader.load_sweep_config(sweeper.config, overrides)
        with open_dict(config):
            del config["hydra"]
        checked(command, config)
    except (HydraException, OmegaConfBaseException, UserError) as error:
        why = str(error) if isinstance(error, UserError) else explain(error, command)
        raise UserError(f"No run was started. Run {name}: {why}") from error


def is_search() -> bool:
    """Whether this job belongs to a search, whose sweeper (such as optuna) uses the results."""
    if number_in_multirun() is None:
        return False
    return not str(HydraConfig.get().sweeper._target_).endswith("BasicSweeper")
