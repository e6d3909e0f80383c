"""A run, trained once, and the command."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import snn_delays
from snn_delays import cli
from tests.conftest import random_spikes


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on files of SHD's format, which lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    config = snn_delays.Config(out=str(folder / "run"), device="cpu", backend="dense")
    config.data.name, config.data.cache = "spikes", str(folder / "cache")
    config.data.train_file = str(random_spikes(folder / "train.h5", 24, 0))
    config.data.test_file = str(random_spikes(folder / "test.h5", 12, 1))
    config.data.units_per_channel = 50
    config.model.hidden, config.model.taps = [12], 5
    config.train.epochs, config.train.batch_size, config.train.protocol = 2, 12, "last"
    snn_delays.train(config)
    return folder / "run"


@pytest.fixture
def run_command(capsys, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Runs `snn-delays` on the bytes of a pipe; exit code, standard output and standard error."""

    def run(*arguments: object, pipe: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["snn-delays", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pipe), encoding="utf-8"))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
