"""Reading text, JSON and YAML from untrusted files: sizes are limited, errors are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from snn_delays.errors import message_of

MOST_BYTES = 2**28  # of a text or JSON file
MOST_YAML_BYTES = 2**20  # less, since YAML is parsed a hundred times more slowly


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file.

    Args:
        path: the file.
        most: largest allowed size in bytes.

    Raises:
        OSError: the file does not exist, or cannot be read.
        ValueError: the file is not regular, too long, or not UTF-8.
    """
    if path.exists() and not path.is_file():  # reading a pipe could hang, a device may never end
        raise ValueError("it is not a regular file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most:,} bytes")
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """The value in a file of JSON.

    Raises:
        OSError, ValueError: see ``read_text``; or the text is not JSON.
    """
    return _parsed(json.loads, read_text(path))


def read_json_lines(path: Path) -> list[Any]:
    """The values in a file of JSON, one on each line.

    Raises:
        OSError, ValueError: see ``read_text``; or a line is not JSON.
    """
    return [_parsed(json.loads, line) for line in read_text(path).splitlines()]


def read_yaml(path: Path) -> Any:
    """The plain values in a file of YAML; aliases and Python tags are refused.

    Raises:
        OSError, ValueError: see ``read_text``; or the text is not such YAML.
    """
    return _parsed(_load_yaml, read_text(path, MOST_YAML_BYTES))


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class _Loader(yaml.SafeLoader):
    """A loader that refuses aliases, with which a few lines can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} is not allowed", event.start_mark
            )
        return super().compose_node(parent, index)


def _load_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a subclass of the SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(_yaml_problem(error)) from error


def _yaml_problem(error: yaml.YAMLError) -> str:
    """The error in one line, with its line number."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or message_of(error)
    return what if mark is None else f"line {mark.line + 1}: {what}"
