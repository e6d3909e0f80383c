"""Every code name and option in docs/glossary.md exists."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from snn_delays.cli.groups import SCHEMAS
from snn_delays.config.options import options

GLOSSARY = Path(__file__).parents[1] / "docs" / "glossary.md"
HEAD = ["term", "meaning", "code", "option"]


def rows() -> list[list[str]]:
    """The cells of every term's row."""
    lines = GLOSSARY.read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return [row for row in cells if row != HEAD and row[0] != "---"]


def quoted(column: int) -> list[str]:
    return [name for row in rows() for name in re.findall("`(.+?)`", row[column])]


def find(name: str) -> Any:
    """The object of this dotted name; a dataclass's field counts as its attribute.

    Raises:
        AttributeError: it does not exist.
    """
    path, *words = name.split(".")
    found: Any = importlib.import_module(path)
    for word in words:
        path = f"{path}.{word}"
        fields = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        if any(field.name == word for field in fields):
            return word
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError:
            found = getattr(found, word)
    return found


def test_a_row_has_a_term_a_meaning_a_code_name_and_an_option() -> None:
    assert len(rows()) > 40
    assert all(len(row) == len(HEAD) and all(row) for row in rows())
    terms = [term for row in rows() for term in row[0].split(", ")]
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("name", sorted(set(quoted(2))))
def test_a_code_name_exists(name) -> None:
    assert name.startswith("snn_delays.")
    assert find(name) is not None


@pytest.mark.parametrize("text", sorted(set(quoted(3))))
def test_an_option_exists(text) -> None:
    name, _, value = text.rpartition(" ")[2].partition("=")
    command = text.rpartition(" ")[0] or "train"
    fields = {key: field for key, _, field in options(SCHEMAS[command]())}
    assert name in fields
    assert not value or value in fields[name].metadata["choices"]


@pytest.mark.parametrize(
    "name", ["snn_delays.nn.Nothing", "snn_delays.nothing", "snn_delays.data.loaders.Batch.nothing"]
)
def test_a_name_that_does_not_exist_is_found_out(name) -> None:
    with pytest.raises(AttributeError):
        find(name)
