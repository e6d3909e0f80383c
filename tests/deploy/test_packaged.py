"""Networks that come with the package, their cards, and the script that puts them there."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import snn_delays
from scripts import package_network
from snn_delays.deploy.network import PACKAGED
from snn_delays.documents import read_json

NAMES = [path.stem for path in PACKAGED.glob("*.h5")]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_that_of_the_network(name) -> None:
    network, card = snn_delays.load(name), (PACKAGED / f"{name}.md").read_text("utf-8")
    assert f"| digest of the network | {network.digest} |" in card
    assert (PACKAGED / f"{name}.h5").stat().st_size <= 300_000
    assert "Creative Commons" in card
    assert re.search(r"\| commit \| [0-9a-f]{40} \|", card)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_answers(name) -> None:
    network = snn_delays.load(name)
    stream = snn_delays.deploy.Stream(network)
    for _ in range(5):
        stream.step(np.ones(network.front.channels))
    assert stream.finish().name in network.classes


def test_there_is_one() -> None:
    assert NAMES == ["fsdd-best"]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(package_network, "PACKAGED", tmp_path / "networks")
    return tmp_path / "networks"


def test_a_run_goes_into_the_package(trained, folder, tmp_path, monkeypatch, capsys) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    name = re.search(r"^name: (.*)$", (run / "config.yaml").read_text("utf-8"), re.M)
    monkeypatch.setattr(package_network, "RUN", name[1])
    assert package_network.main([str(run)]) == 0
    assert "with its card beside it" in capsys.readouterr().out
    card, result = (folder / "fsdd-best.md").read_text("utf-8"), read_json(run / "result.json")
    assert f"| test accuracy, all recordings | {result['accuracy']:.1%} [" in card
    assert f"| parameters | {result['parameters']:,} |" in card
    assert snn_delays.load(folder / "fsdd-best.h5").digest in card


def test_what_does_not_go_into_the_package(trained, folder, tmp_path, monkeypatch, capsys) -> None:
    assert package_network.main([str(trained)]) == 2
    assert "a run of fsdd_best goes into the package" in capsys.readouterr().err
    name = re.search(r"^name: (.*)$", (trained / "config.yaml").read_text("utf-8"), re.M)
    monkeypatch.setattr(package_network, "RUN", name[1])
    monkeypatch.setattr(package_network, "LARGEST", 10)
    assert package_network.main([str(trained)]) == 2
    assert "at most 10 may" in capsys.readouterr().err
    assert package_network.main([]) == 2
    assert not folder.exists()
