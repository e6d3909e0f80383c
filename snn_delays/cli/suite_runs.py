"""The options of a suite's runs: the suite's, a member's and the command line's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from snn_delays.benchmark.suite import Member, Suite, named, overrides
from snn_delays.benchmark.trials import Trial, points
from snn_delays.cli.compose import compose, values_of
from snn_delays.cli.overrides import as_hydra
from snn_delays.cli.search import option_at
from snn_delays.config import Config, shapes_result
from snn_delays.errors import UserError

INSTEAD = "leave it out, or write a suite of your own (suite=<path>.yaml)"


def member_configs(
    suite: Suite, theirs: Sequence[str], places: Sequence[str] = ()
) -> dict[str, Config]:
    """The options of each member, before a search and without seed and folder.

    Args:
        suite: the suite.
        theirs: options of the command line.
        places: overrides that name the user's own folders of configurations.

    Raises:
        UserError: an option is invalid, or would make a row's label wrong.
    """
    _check_options(suite, theirs)
    members = {
        key: _composed(suite, member, theirs, places) for key, member in suite.members.items()
    }
    if not all(config.train.test for config in members.values()):
        raise UserError("A suite tabulates test accuracies: leave train.test=false out.")
    if any(shapes_result(named(option)) for option in theirs):
        _check_differences(suite, theirs, places)
    return members


def trial_configs(
    suite: Suite, count: int | None, theirs: Sequence[str], places: Sequence[str] = ()
) -> dict[str, list[Trial]]:
    """The trials of each member that has options to search.

    Args:
        suite: the suite.
        count: number of trials; None: the suite's.
        theirs: options of the command line, which are not searched.
        places: as in ``member_configs``.

    Raises:
        UserError: the suite has no search, or an option is invalid at one of its trials.
    """
    if suite.search is None:
        if count:
            raise UserError(f"suite={suite.name} searches no options; leave trials={count} out.")
        return {}
    count = suite.search.trials if count is None else count
    found: dict[str, list[Trial]] = {}
    for key, member in suite.members.items():
        space = {**suite.search.space, **member.search}
        for option in (*member.options, *theirs):
            space.pop(named(option), None)
        if not space or not count:
            continue
        found[key] = []
        for point in points(count, len(space)):
            drawn = [option_at(*each, at) for each, at in zip(space.items(), point, strict=True)]
            config = _composed(suite, member, [*theirs, *drawn], places)
            found[key].append(Trial(drawn, config))
    return found


def seed_configs(members: dict[str, Config], seeds: int, out: Path) -> list[tuple[str, Config]]:
    """The options of every run, ordered by seed, so that all networks have early results."""
    found = []
    for seed in range(seeds):
        for key, config in members.items():
            folder = str((out / key / f"s{seed}").absolute())
            init = config.train.init and config.train.init.replace("{seed}", str(seed))
            train = dataclasses.replace(config.train, init=init)
            found.append((key, dataclasses.replace(config, seed=seed, out=folder, train=train)))
    return found


def _overrides(
    suite: Suite, member: Member, theirs: Sequence[str], places: Sequence[str]
) -> list[str]:
    return [*overrides(suite.options, member.options, theirs), "resume=auto", "out=x", *places]


def _composed(suite: Suite, member: Member, theirs: Sequence[str], places: Sequence[str]) -> Config:
    made: Config = compose("train", _overrides(suite, member, theirs, places))
    return made


def _check_options(suite: Suite, theirs: Sequence[str]) -> None:
    """Refuse options that a row sets itself."""
    for key, member in suite.members.items():
        for option in theirs:
            if named(option) in map(named, member.options):
                raise UserError(f"{option} would replace an option of the row {key}; {INSTEAD}.")


def _check_differences(suite: Suite, theirs: Sequence[str], places: Sequence[str]) -> None:
    """Refuse options that would change a row's network so that its label becomes wrong."""
    before, after = (
        {
            key: values_of("train", as_hydra("train", _overrides(suite, member, given, places)))
            for key, member in suite.members.items()
        }
        for given in ([], theirs)
    )
    for name in next(iter(before.values())):
        apart = len({str(values[name]) for values in before.values()}) > 1
        for key in suite.members if apart else ():
            now = after[key][name]
            if now != before[key][name]:
                raise UserError(
                    f"{name}={now} would replace {before[key][name]} in the row {key}: the rows of"
                    f" suite={suite.name} differ in this option; {INSTEAD}."
                )
