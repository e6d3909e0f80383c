"""The options of a suite's runs: the suite's, a member's and the command line's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.benchmark.suite import Suite, named, overrides
from snn_delays.cli.compose import compose
from snn_delays.config import Config, shapes_result
from snn_delays.config.options import options
from snn_delays.errors import UserError

INSTEAD = "leave it out, or write a suite of your own (suite=<path>.yaml)"


def run_configs(
    suite: Suite, seeds: int, out: Path, theirs: list[str], places: Sequence[str] = ()
) -> list[tuple[str, Config]]:
    """The options of every run, ordered by seed, so that all networks have early results."""
    members = _composed(suite, theirs, places)
    _check_rows(suite, members, theirs, places)
    found = []
    for seed in range(seeds):
        for key, config in members.items():
            folder = str((out / key / f"s{seed}").absolute())
            init = config.train.init and config.train.init.replace("{seed}", str(seed))
            train = dataclasses.replace(config.train, init=init)
            found.append((key, dataclasses.replace(config, seed=seed, out=folder, train=train)))
    return found


def _composed(suite: Suite, theirs: list[str], places: Sequence[str]) -> dict[str, Config]:
    ends = ["resume=auto", "out=x", *places]
    return {
        key: compose("train", [*overrides(suite.options, member.options, theirs), *ends])
        for key, member in suite.members.items()
    }


def _check_rows(
    suite: Suite, members: dict[str, Config], theirs: list[str], places: Sequence[str]
) -> None:
    """Refuse options that would change a row's network so that its label becomes wrong."""
    for key, member in suite.members.items():
        for option in theirs:
            if named(option) in map(named, member.options):
                raise UserError(f"{option} would replace an option of the row {key}; {INSTEAD}.")
        if not members[key].train.test:
            raise UserError("A suite tabulates test accuracies: leave train.test=false out.")
    beside = [option for option in theirs if not shapes_result(named(option))]
    plain = members if beside == theirs else _composed(suite, beside, places)
    rows = {key: _values(config) for key, config in plain.items()}
    for name in next(iter(rows.values())):
        apart = len({str(row[name]) for row in rows.values()}) > 1
        for key in rows if apart else ():
            now = _values(members[key])[name]
            if now != rows[key][name]:
                raise UserError(
                    f"{name}={now} would replace {rows[key][name]} in the row {key}: the rows of"
                    f" suite={suite.name} differ in this option; {INSTEAD}."
                )


def _values(config: Config) -> dict[str, Any]:
    return {name: value for name, value, _ in options(config)}
