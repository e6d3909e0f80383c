"""Commands whose output nobody reads, whose disk is full, or whose names a terminal would obey."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from snn_delays import cli
from tests.conftest import random_spikes
from tests.test_output import Broken, narrow

NAMES = ["zero", "one", "größe"]


@pytest.fixture
def small(tmp_path, monkeypatch) -> list[str]:
    """Overrides of a training of a second, on files with odd names of classes and of their own."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, samples) in enumerate({"train": 24, "test": 12}.items()):
        random_spikes(Path(f"{name}-größe.h5"), samples, seed)
        with h5py.File(f"{name}-größe.h5", "r+") as file:
            del file["extra/keys"]
            file["extra/keys"] = np.array([n.encode() for n in NAMES])
    return [
        "data=spikes", "data.train_file='train-größe.h5'", "data.test_file='test-größe.h5'",
        "data.units_per_channel=50", "data.cache=cache", "model.hidden=[4]", "model.taps=5",
        "train.epochs=2", "train.batch_size=16", "device=cpu", "backend=dense", "out=run",
        "name='run\x1b[2J'",
    ]  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys):
    """Exit code and standard error of a command whose standard output is ``stream``."""

    def run(stream: io.TextIOBase, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["snn-delays", *arguments])
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            code: int = 0
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code
        return code, capsys.readouterr().err

    return run


def printed(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "No space left on device"), (errno.EPIPE, "Broken pipe")]
)
def test_a_training_does_without_output(number, reason, small, run) -> None:
    code, error = run(Broken(number, after=1), "train", *small)
    assert code == 0
    assert error == f"Standard output cannot be written ({reason}); the work continues.\n"
    assert json.loads(Path("run/result.json").read_text("utf-8"))["epoch"]


def test_what_is_only_printed_must_be_written(small, run) -> None:
    assert run(narrow("utf-8"), "train", *small)[0] == 0
    for command in (["data", "info", *small[:-2]], ["evaluate", "run=run"]):
        assert run(Broken(errno.EPIPE), *command) == (1, "")
        code, error = run(Broken(errno.ENOSPC), *command)
        assert (code, error.count("\n")) == (2, 1)
        assert "Standard output cannot be written: No space left on device" in error
        code, error = run(None, *command)
        assert (code, error.count("\n")) == (2, 1)
        assert "Standard output is closed" in error


def test_names_in_a_narrow_encoding_obey_no_terminal(small, run) -> None:
    for command in (["train", *small], ["data", "info", *small[:-2]], ["evaluate", "run=run"]):
        stream = narrow("ascii")
        code, error = run(stream, *command)
        assert (code, error) == (0, "")
        shown = printed(stream)
        assert "\x1b" not in shown
        assert (r"run\x1b[2J: " if command[0] == "train" else r"gr\xf6\xdfe") in shown


def test_a_mistake_is_one_line(run) -> None:
    code, error = run(narrow("ascii"), "evaluate", "run='a\x1b[2J\nfake: line'")
    assert code == 2
    assert error.count("\n") == 1
    assert "\x1b" not in error
