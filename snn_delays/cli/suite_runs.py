"""The options of a suite's runs: the suite's, a member's and the command line's."""

from __future__ import annotations

from collections.abc import Sequence

from snn_delays.benchmark.rows import Row, Trial, points
from snn_delays.benchmark.suite import Member, Suite, named, overrides
from snn_delays.cli.compose import compose, values_of
from snn_delays.cli.overrides import as_hydra
from snn_delays.cli.search import option_at
from snn_delays.config import Config, shapes_result
from snn_delays.errors import UserError

INSTEAD = "leave it out, or write a suite of your own (suite=<path>.yaml)"


def suite_rows(
    suite: Suite, trials: int | None, theirs: Sequence[str], places: Sequence[str] = ()
) -> dict[str, Row]:
    """The options of each member and of its trials.

    Args:
        suite: the suite.
        trials: number of trials of each member; None: the suite's.
        theirs: options of the command line, which are not searched.
        places: overrides that name the user's own folders of configurations.

    Raises:
        UserError: an option is invalid, or would make a row's label wrong; or the suite has no
            search, and there shall be trials.
    """
    if suite.search is None and trials:
        raise UserError(f"suite={suite.name} searches no options; leave trials={trials} out.")
    configs = {key: _composed(suite, m, theirs, places) for key, m in suite.members.items()}
    _check_options(suite, theirs)
    if not all(config.train.test for config in configs.values()):
        raise UserError("A suite tabulates test accuracies: leave train.test=false out.")
    per_step = any(config.data.target == "per_step" for config in configs.values())
    if per_step and (suite.search or suite.verdicts):
        raise UserError(
            f"suite={suite.name} searches or judges by accuracy, which data.target=per_step does"
            " not have."
        )
    if any(shapes_result(named(option)) for option in theirs):
        _check_differences(suite, theirs, places)
    return {
        key: Row(configs[key], _trials(suite, member, trials, theirs, places))
        for key, member in suite.members.items()
    }


def _trials(
    suite: Suite, member: Member, count: int | None, theirs: Sequence[str], places: Sequence[str]
) -> list[Trial]:
    """The trials of a member; none if it has no option to search."""
    if suite.search is None:
        return []
    space = {**suite.search.space, **member.search}
    for option in (*member.options, *theirs):
        space.pop(named(option), None)
    trials = []
    for point in points(suite.search.trials if count is None else count, len(space)):
        drawn = [option_at(*each, at) for each, at in zip(space.items(), point, strict=True)]
        try:
            trials.append(Trial(drawn, _composed(suite, member, [*theirs, *drawn], places)))
        except UserError as error:
            raise UserError(
                f"The search of {member.label} would try {' '.join(drawn)}: {error} An option that"
                " you give is not searched."
            ) from error
    return trials


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
