"""Text, JSON and YAML from files that anybody may have written: bounded, and refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from snn_delays.errors import message_of

MOST_BYTES = 2**28  # of a document
MOST_YAML_BYTES = 2**20  # which is read a hundred times as slowly


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no regular file, too long, or not UTF-8.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
        raise ValueError("it is not a regular file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most:,} bytes")
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """The value in a file of JSON.

    Raises:
        OSError, ValueError: as ``read_text`` does, or it is not JSON.
    """
    return _parsed(json.loads, read_text(path))


def read_json_lines(path: Path) -> list[Any]:
    """The values in a file of JSON, one on each line.

    Raises:
        OSError, ValueError: as ``read_text`` does, or a line is not JSON.
    """
    return [_parsed(json.loads, line) for line in read_text(path).splitlines()]


def read_yaml(path: Path) -> Any:
    """The plain values in a file of YAML: no tag of Python's, no alias.

    Raises:
        OSError, ValueError: as ``read_text`` does, or it is not such YAML.
    """
    return _parsed(_load_yaml, read_text(path, MOST_YAML_BYTES))


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class _Loader(yaml.SafeLoader):
    """Refuses aliases, with which a few lines stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} is not taken", event.start_mark
            )
        return super().compose_node(parent, index)


def _load_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a safe one
    except yaml.YAMLError as error:
        raise ValueError(_yaml_problem(error)) from error


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or message_of(error)
    return what if mark is None else f"line {mark.line + 1}: {what}"
