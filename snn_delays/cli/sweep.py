"""Multiruns: all jobs are checked before the first one starts, and a failure stops no other.

Each job prints in which options it differs from the others; the end is a table.
"""

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
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from snn_delays.benchmark.suite import named
from snn_delays.cli.compose import checked, number_in_multirun
from snn_delays.cli.explain import explain
from snn_delays.cli.groups import Schema
from snn_delays.cli.overrides import unquoted
from snn_delays.cli.sweep_summary import runs_table
from snn_delays.config import Config
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Failed:
    """The return value of a run that failed and has printed why."""


@contextlib.contextmanager
def checked_sweeps(command: str) -> Iterator[None]:
    """A context in which Hydra's basic sweeper checks all runs first, and lists their results.

    The sweeper's class is patched, since Hydra only instantiates sweepers of its package
    ``hydra_plugins``.
    """
    Plugins.instance()  # imports the class again, so it comes before the patch
    kind: Any = basic_sweeper.BasicSweeper
    run_all = kind.sweep

    def sweep(sweeper: Any, arguments: list[str]) -> None:
        runs = _runs(sweeper, arguments)
        own = _own_options(runs)
        names = [f"{n} ({' '.join(o)})" if o else str(n) for n, o in enumerate(own)]
        for overrides, name in zip(runs, names, strict=True):
            check_run(sweeper, command, overrides, f"Run {name}")
        returns = [job.return_value for batch in run_all(sweeper, arguments) for job in batch]
        _print_table(own, returns)
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
    batches = sweeper.split_arguments(all_overrides(sweeper, arguments), None)
    return [run for batch in batches for run in batch]


def all_overrides(sweeper: Any, arguments: list[str]) -> list[Override]:
    """Overrides of ``hydra.sweeper.params``, then the command line's; the last of a name counts."""
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    params = [f"{name}={value}" for name, value in sweeper.params.items()]
    return parser.parse_overrides([*params, *arguments])


def _own_options(runs: list[list[str]]) -> list[list[str]]:
    """Of each run, the options in which it differs from another, as a person writes them."""
    apart = [len(set(values)) > 1 for values in zip(*runs, strict=True)]
    return [[unquoted(o) for o, differs in zip(run, apart, strict=True) if differs] for run in runs]


def _print_table(own: list[list[str]], returns: list[Any]) -> None:
    """Print the results of a multirun of trainings, of which two or more ended."""
    ended = [n for n, result in enumerate(returns) if isinstance(result, dict)]
    if len(ended) > 1:
        text = runs_table([own[n] for n in ended], [returns[n] for n in ended])
        print(f"\n{text}" if text else "", end="", flush=True)


def check_run(sweeper: Any, command: str, overrides: list[str], run: str) -> Schema:
    """The validated options of a run, before any run has started.

    Raises:
        UserError: an option is invalid; the message begins with ``run``.
    """
    try:
        config = sweeper.hydra_context.config_loader.load_sweep_config(sweeper.config, overrides)
        with open_dict(config):
            del config["hydra"]
        return checked(command, config)
    except (HydraException, OmegaConfBaseException, UserError) as error:
        why = str(error) if isinstance(error, UserError) else explain(error, command)
        raise UserError(f"No run was started. {run}: {why}") from error


def announce(config: Any, given: list[str]) -> None:
    """Print the number, the seed and the own options of this job of a multirun.

    Args:
        config: the job's configuration.
        given: overrides of the command line, in Hydra's grammar.
    """
    parsed = OverridesParser.create().parse_overrides(given)
    common = {override.key_or_group for override in parsed if not override.is_sweep_override()}
    own = [unquoted(o) for o in HydraConfig.get().overrides.task if named(o) not in common]
    seed = f", seed {config.seed}" if isinstance(config, Config) else ""
    rest = " ".join(option for option in own if named(option) != "seed" or not seed)
    print(f"\nrun {number_in_multirun()}{seed}{f': {rest}' if rest else ''}", flush=True)
