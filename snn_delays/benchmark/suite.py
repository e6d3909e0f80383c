"""Suites: the networks to compare, and their common options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_delays.config.options import nearest
from snn_delays.documents import read_yaml
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Member:
    """One row of the table.

    Attributes:
        label: name of the row.
        options: options of ``snn-delays train``, as on the command line.
        published: published accuracy, or "".
    """

    label: str
    options: list[str]
    published: str = ""


@dataclass(frozen=True)
class Suite:
    """The content of a file in configs/suites.

    Attributes:
        name: name of the file.
        title: title of the table.
        members: the rows, by a short name that is also the folder of their runs.
        seeds: number of seeds, unless the command line gives one.
        options: options of all members; a member's own options come after them.
        baseline: the member that every other one is compared with, or None.
    """

    name: str
    title: str
    members: dict[str, Member]
    seeds: int
    options: list[str] = field(default_factory=list)
    baseline: str | None = None


def suites(folder: Path) -> list[str]:
    """Names of the suites in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_suite(folder: Path, name: str) -> Suite:
    """Read ``<folder>/<name>.yaml``.

    Raises:
        UserError: the file does not exist, or does not describe a suite.
    """
    names = suites(folder)
    if name not in names:
        raise UserError(f"suite={name} is not one of {', '.join(names)}.{nearest(name, names)}")
    path = folder / f"{name}.yaml"
    try:
        values: dict[str, Any] = read_yaml(path)
        members = {str(key): Member(**member) for key, member in values.pop("members").items()}
        suite = Suite(name, members=members, **values)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} does not describe a suite: {error}.") from error
    if suite.baseline not in (None, *members):
        raise UserError(f"{path}: baseline {suite.baseline} is not one of {', '.join(members)}.")
    return suite


def named(option: str) -> str:
    """The name in an override ``name=value``, without Hydra's prefixes + and ~."""
    return option.partition("=")[0].lstrip("+~")


def overrides(*layers: list[str]) -> list[str]:
    """Merge lists of options; of options with the same name the last one counts."""
    return list({named(option): option for layer in layers for option in layer}.values())
