"""Help: the groups and options of a command, with their values and meanings."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from omegaconf import OmegaConf

from snn_delays.cli.compose import composed
from snn_delays.cli.groups import SCHEMAS, groups
from snn_delays.config.options import WRITTEN, options

HELP_END = """--cfg job shows the configuration, -m runs over comma-separated values, and
--hydra-help lists Hydra's own flags."""


def command_help(name: str, overrides: list[str]) -> str:
    """The answer to ``snn-delays <name> <overrides> --help``."""
    text = f"{help_text(name, overrides)}\n\n{HELP_END}"
    if groups(name):
        text += "\nGroups change the values above: try"
        text += f" `snn-delays {name} experiment=paper/shd --help`."
    return text


def help_text(name: str, overrides: list[str]) -> str:
    """A command's groups and options, with their values after ``overrides``."""
    made = composed(name, overrides)
    command = "data encode" if name == "encode" else name
    lines = [f"usage: snn-delays {command} [option=value ...]", ""]
    if groups(name):
        lines += ["groups (choose one value of each):"]
        lines += [_group_line(group, values) for group, values in groups(name).items()]
        lines += [""]
    lines += ["options (with their values as given here):"]
    required = OmegaConf.missing_keys(made)
    for key, _, field in options(SCHEMAS[name]()):
        value = "" if key in required else OmegaConf.select(made, key)
        lines += _option_lines(WRITTEN.get(key, key), value, field)
    return "\n".join(lines)


def _group_line(group: str, values: list[str]) -> str:
    """The values of a group, on several lines if there are many."""
    text = f"{group}={'| '.join(values)}"
    line = textwrap.fill(
        text, 98, initial_indent="  ", subsequent_indent=6 * " ", break_on_hyphens=False
    )
    return line if "\n" in line else line.replace("| ", "|")


def _option_lines(key: str, value: Any, field: dataclasses.Field[Any]) -> list[str]:
    shown = "null" if value is None else str(value)
    lines = [f"  {key}={shown}", f"      {field.metadata['help']}"]
    choices = field.metadata["choices"]
    if choices:
        lines.append(f"      one of {', '.join(choices)}")
    return lines
