"""What README and docs show: commands run, options and linked files exist.

A block of code below a line ``<!-- needs <what> -->`` is not run; its options are checked. A block
whose first line is a comment with a file's name is written to that file.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

from snn_delays import cli
from snn_delays.cli.groups import SCHEMAS, groups, option_names
from snn_delays.config import ModelConfig

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if not {"_build", "reference"} & {*p.parts}),
]
BLOCK = re.compile(
    r"(?:<!-- needs (?P<needs>.*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
FEW = [f"data.synthetic.{split}_samples=64" for split in ("train", "valid", "test")]
SMALL = {  # behind the options of a page
    "train": ["train.epochs=1", "model.hidden=[6]", "device=cpu", *FEW],
    "benchmark": ["train.epochs=1", "device=cpu", "jobs=1", *FEW],
    "analyse": ["repeats=1"],
}
PASSES = re.compile(r"(epochs = |range\()\d+")  # numbers that a test sets to 1 in Python code


FILE = re.compile(r"(?:# @package _global_\n)?# (\S+\.(?:py|yaml))\n")  # a file on a page


class Block(NamedTuple):
    """Code on a page."""

    needs: str | None
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(**found.groupdict()) for found in BLOCK.finditer(page.read_text("utf-8"))]


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command line, comments and shell variables left out."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_run(page, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snn_delays.analysis.curves.write_learning_curve", lambda folder: None)
    names: dict[str, object] = {}
    for block in blocks(page):
        if file := FILE.match(block.code):
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(block.code, "utf-8")
        elif block.needs is None and block.language == "python":
            exec(PASSES.sub(r"\g<1>1", block.code), names)
        if block.needs is None and block.language == "bash":
            for words in commands(block.code):
                run(words, monkeypatch)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
        return
    assert words[0] == "snn-delays", f"{words} is not run: mark its block"
    if "--help" not in words:
        words = [*words, *SMALL.get(words[1], [])]
    monkeypatch.setattr(sys, "argv", words)
    assert exit_code() == 0, words


def exit_code() -> int:
    """Of the command that stands in ``sys.argv``."""
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_exist(page) -> None:
    shown = [
        word for b in blocks(page) if b.language == "bash" for c in commands(b.code) for word in c
    ]
    known = {n for command in SCHEMAS for n in option_names(command)}
    known |= {*groups("train"), "in"}
    for word in shown:
        option, equals, _ = word.partition("=")
        assert not equals or option in known or option.startswith(("hydra", "--")), word
    text = page.read_text("utf-8")
    dotted = re.findall(r"`((?:data|model|train)\.[a-z_.]+)[`=]", text)
    assert {option for option in dotted if not option.endswith("_")} <= known | {
        "data.remarks",
        "data.augment",
        "model.quantise",
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_linked_files_exist(page) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            path = (page.parent / target).resolve()
            assert path.exists() or path.parent.name == "reference", target


def test_the_page_of_models_lists_every_option_of_a_network() -> None:
    page = (ROOT / "docs/explanation/models.md").read_text("utf-8")
    table = page.partition("## Every option and its paper")[2]
    listed = re.findall(r"`(model\.\w+)`", table)
    assert sorted(listed) == sorted(f"model.{field.name}" for field in fields(ModelConfig))
