"""`snn-delays analyse` as a person meets it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from snn_delays import cli
from tests.cli.test_cli import options_of, run
from tests.conftest import write_spike_files


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with two runs, a and b."""
    folder = tmp_path_factory.mktemp("trained")
    options = options_of(write_spike_files(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("a", "b"):
            patch.setattr(sys, "argv", ["snn-delays", "train", *options, f"out={name}"])
            cli.main()
    return folder


@pytest.fixture
def folders(trained, tmp_path, monkeypatch) -> list[str]:
    """The runs, in a working folder of their own."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return ["a", "b"]


def test_one_run_and_several(folders, capsys, monkeypatch) -> None:
    for folder in folders:
        assert Path(folder, "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("snn_delays.data.progress.INTERVAL", 0)
    code, printed, errors = run(capsys, monkeypatch, "analyse", "run=a", "repeats=1", "sample=3")
    assert code == 0
    assert "analysing: 9 of " in errors  # where there is no terminal, too
    assert "written to a/analysis/report.html" in printed
    assert "Test recording 3" in Path("a/analysis/report.html").read_text("utf-8")
    code, _, _ = run(capsys, monkeypatch, "analyse", "runs=[a,b]", "out=both")
    assert code == 0
    page = Path("both/report.html").read_text("utf-8")
    assert "2 runs compared" in page
    assert "Networks in pairs" in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Give run=<folder>, or runs=[<folder>,<folder>]"),
        (["run=a", "runs=[a,b]"], "Give run=<folder>, or runs=[<folder>,<folder>]"),
        (["runs=[a]"], "needs two runs or more"),
        (["runs=a"], "runs is a list; write 'runs=[a,b]'."),
        (["runs=[a,./a]"], "runs=[...] names a twice."),
        (
            ["run=a", "out=a/config.yaml/x"],
            "out=a/config.yaml/x cannot be written: Not a directory",
        ),
        (["run=nowhere"], "nowhere"),
        (["run=a", "sample=1000"], "sample=1000 must be from 0 to 29"),
        (["run=a", "repeats=0"], "repeats=0 must be at least 1"),
        (["run=a", "rnu=b"], "There is no option rnu"),
    ],
)
def test_nonsense_is_one_sentence(options, words, folders, capsys, monkeypatch) -> None:
    code, _, errors = run(capsys, monkeypatch, "analyse", *options)
    assert code == 2
    assert words in errors
    assert errors.count("\n") == 1
    assert not Path("a/analysis").exists()
