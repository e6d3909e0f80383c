"""Help: the groups and options of a command, with their values and meanings."""

from __future__ import annotations

import dataclasses
from typing import Any

from snn_delays.cli.compose import values_of
from snn_delays.cli.groups import SCHEMAS, groups
from snn_delays.cli.wrapping import wrapped
from snn_delays.config.options import WRITTEN, options

HELP_END = (
    "--config-dir FOLDER adds your own experiments, in FOLDER/experiment, and other groups. --cfg"
    " job shows the configuration, -m runs over comma-separated values, and --hydra-help lists"
    " Hydra's own flags."
)


def command_help(name: str, overrides: list[str]) -> str:
    """The answer to ``snn-delays <name> <overrides> --help``."""
    text = f"{help_text(name, overrides)}\n\n{HELP_END}"
    if groups(name):
        text += " Groups change the values above: try"
        text += f" `snn-delays {name} experiment=paper/shd --help`."
    return text


def help_text(name: str, overrides: list[str]) -> str:
    """A command's groups and options, with their values after ``overrides``; lines may be long."""
    values = values_of(name, overrides)
    command = "data encode" if name == "encode" else name
    lines = [f"usage: snn-delays {command} [option=value ...]", ""]
    if groups(name):
        lines += ["groups (choose one value of each):"]
        lines += [_group_line(group, values) for group, values in groups(name).items()]
        lines += [""]
    lines += ["options (with their values as given here):"]
    for key, _, field in options(SCHEMAS[name]()):
        lines += _option_lines(WRITTEN.get(key, key), values[key], field)
    return "\n".join(lines)


def _group_line(group: str, values: list[str]) -> str:
    """The values of a group, on several lines if there are many."""
    line = wrapped(f"  {group}={'| '.join(values)}", indent=4)
    return line if "\n" in line else line.replace("| ", "|")


def _option_lines(key: str, value: Any, field: dataclasses.Field[Any]) -> list[str]:
    shown = "null" if value is None else str(value)
    lines = [f"  {key}={shown}", f"      {field.metadata['help']}"]
    choices = field.metadata["choices"]
    if choices:
        lines.append(f"      one of {', '.join(choices)}")
    return lines
