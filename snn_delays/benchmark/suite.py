"""Suites: the networks to compare, and their common options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_delays.config.options import nearest, not_one_of
from snn_delays.documents import read_yaml
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Member:
    """One row of the table.

    Attributes:
        label: name of the row.
        options: options of ``snn-delays train``, as on the command line.
        published: published accuracy, or "".
        search: values of options that are searched for this row alone, as in ``Search.space``.
    """

    label: str
    options: list[str]
    published: str = ""
    search: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """A search of options before the runs of the table, with equal budgets for all members.

    Attributes:
        trials: number of trials of each member.
        space: values of each searched option: a list, or ``range(...)``, ``interval(...)`` and
            ``tag(log, interval(...))`` as in a multirun. Options that a member or the command line
            sets are not searched.
    """

    trials: int
    space: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """The content of a file in configs/suites, or of a user's own file.

    Attributes:
        name: name of the file.
        title: title of the table.
        members: the rows, by a short name that is also the folder of their runs.
        seeds: number of seeds, unless the command line gives one.
        options: options of all members; a member's own options come after them.
        baseline: the member that every other one is compared with, or None.
        search: the search of options, or None.
    """

    name: str
    title: str
    members: dict[str, Member]
    seeds: int
    options: list[str] = field(default_factory=list)
    baseline: str | None = None
    search: Search | None = None


def suites(folder: Path) -> list[str]:
    """Names of the suites in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_suite(folder: Path, name: str, own: Iterable[Path] = ()) -> Suite:
    """Read a suite.

    Args:
        folder: the folder of the suites of this package.
        name: path of a .yaml file, or name of one in a folder.
        own: folders of the user's suites.

    Raises:
        UserError: the file does not exist, or does not describe a suite.
    """
    path = _suite_file(name, [folder, *own])
    try:
        values: dict[str, Any] = read_yaml(path)
        members = {str(key): Member(**member) for key, member in values.pop("members").items()}
        search = Search(**values.pop("search")) if "search" in values else None
        suite = Suite(path.stem, members=members, search=search, **values)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} does not describe a suite: {error}.") from error
    if suite.baseline not in (None, *members):
        raise UserError(f"{path}: baseline {suite.baseline} is not one of {', '.join(members)}.")
    if search is None and any(member.search for member in members.values()):
        raise UserError(f"{path}: a member has a search, but the suite gives no search.trials.")
    return suite


def _suite_file(name: str, folders: Iterable[Path]) -> Path:
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"suite={name}: there is no such file.")
        return Path(name)
    paths = {stem: folder / f"{stem}.yaml" for folder in folders for stem in suites(folder)}
    if name not in paths:
        refusal = not_one_of(f"suite={name}", sorted(paths), nearest(name, list(paths)))
        raise UserError(f"{refusal} A suite of your own is suite=<path>.yaml.")
    return paths[name]


def named(option: str) -> str:
    """The name in an override ``name=value``, without Hydra's prefixes + and ~."""
    return option.partition("=")[0].lstrip("+~")


def overrides(*layers: Sequence[str]) -> list[str]:
    """Merge lists of options; of options with the same name the last one counts."""
    return list({named(option): option for layer in layers for option in layer}.values())
