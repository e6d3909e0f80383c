"""A suite: the networks that are compared, and what is common to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from snn_delays.config.options import nearest
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Member:
    """One row of the table.

    Attributes:
        label: its name there.
        options: of ``snn-delays train``, as on the command line.
        published: what the literature says, or "".
    """

    label: str
    options: list[str]
    published: str = ""


@dataclass(frozen=True)
class Suite:
    """What a file in configs/suites says.

    Attributes:
        name: of the file.
        title: of the table.
        members: by a short name, which is the folder of their runs.
        seeds: number of seeds where the command line gives none.
        options: of all members, before their own.
        baseline: the member that every other is compared with, or None.
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
        UserError: there is none, or it does not say what a suite must.
    """
    names = suites(folder)
    if name not in names:
        raise UserError(f"suite={name} is not one of {', '.join(names)}.{nearest(name, names)}")
    path = folder / f"{name}.yaml"
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        members = {str(key): Member(**member) for key, member in values.pop("members").items()}
        suite = Suite(name, members=members, **values)
    except (OSError, ValueError, yaml.YAMLError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} does not describe a suite: {error}.") from error
    if suite.baseline not in (None, *members):
        raise UserError(f"{path}: baseline {suite.baseline} is not one of {', '.join(members)}.")
    return suite


def named(option: str) -> str:
    """The name in ``name=value``, as Hydra's grammar has it."""
    return option.partition("=")[0].lstrip("+~")


def overrides(*layers: list[str]) -> list[str]:
    """Options of several origins as one list: of those with one name the last counts."""
    return list({named(option): option for layer in layers for option in layer}.values())
