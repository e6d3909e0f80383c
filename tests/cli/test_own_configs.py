"""Experiments, data sets and suites in a folder of the user's own, or in a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from snn_delays.benchmark.suite import load_suite
from snn_delays.cli import groups
from snn_delays.cli.compose import compose
from snn_delays.cli.overrides import split_words
from snn_delays.errors import UserError
from tests.cli.test_cli import run

SIZES = [
    "data.units_per_channel=50", "data.cache=cache", "train.epochs=1", "train.batch_size=16",
    "device=cpu",
]  # fmt: skip


@pytest.fixture
def folder(spike_files, tmp_path, monkeypatch) -> Path:
    """A working folder that holds a folder of configurations; its name has a space."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(groups, "_own_folders", [])
    made = tmp_path / "my configs"
    texts = {
        "experiment/small.yaml": "# @package _global_\n"
        "defaults: [override /data: own]\nmodel: {hidden: [6], taps: 5}\n",
        "data/own.yaml": f"name: spikes\ntrain_file: {spike_files['train']}\n"
        f"test_file: {spike_files['test']}\n",
        "suites/one.yaml": "title: One network\nseeds: 1\noptions: [experiment=small]\n"
        "members: {plain: {label: plain, options: []}}\n",
    }
    for name, text in texts.items():
        (made / name).parent.mkdir(parents=True)
        (made / name).write_text(text, "utf-8")
    return made


WAYS = [
    ["--config-dir", "my configs"],
    ["-cd", "my configs"],
    ["--config-dir=my configs"],
    ["hydra.searchpath=[file://my configs]"],
    ["hydra.searchpath=['my configs']"],
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_folder_of_ones_own_is_read_by_every_command(way, folder, capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, "train", *way, "experiment=small", "--cfg", "job")
    assert code == 0
    config = yaml.safe_load(printed)
    assert (config["model"]["hidden"], config["data"]["name"]) == ([6], "spikes")
    code, printed, _ = run(capsys, monkeypatch, "data", "info", *way, "data=own", *SIZES)
    assert code == 0
    assert "samples   48" in printed
    code, printed, _ = run(capsys, monkeypatch, "train", *way, "--help")
    assert re.search(r"\| ?own\n", printed)
    code, printed, _ = run(capsys, monkeypatch, "benchmark", *way, "--help")
    assert "  one            One network\n" in printed


def test_a_suite_of_ones_own_is_run_by_name_and_by_path(folder, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for suite in ("one", "my configs/suites/one.yaml"):
        command = ["benchmark", "--config-dir", "my configs", f"suite={suite}", "jobs=1", *SIZES]
        code, printed, error = run(capsys, monkeypatch, *command)
        assert (code, error.count("\n")) == (0, 0), error
        assert "1 networks x 1 seeds, in runs/benchmark/one/" in printed
    assert "1 runs, 1 done" in printed  # the second is the first
    config = yaml.safe_load(Path("runs/benchmark/one/plain/s0/config.yaml").read_text("utf-8"))
    assert config["model"]["hidden"] == [6]


def test_a_multirun_reads_a_folder_of_ones_own(folder, capsys, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("snn_delays.cli.train._train", seen.append)
    words = ["train", "-m", *WAYS[0], "experiment=small", "model.taps=5,7", "out=many"]
    code, _, error = run(capsys, monkeypatch, *words)
    assert (code, error) == (0, "")
    found = [(config.model.hidden, config.model.taps, config.out) for config in seen]
    assert found == [([6], 5, "many/0"), ([6], 7, "many/1")]


@pytest.mark.parametrize("text", ["defaults: [override /data: own]", "model: {taps: 5}"])
def test_an_experiment_without_its_first_line_says_so(text, folder, capsys, monkeypatch) -> None:
    (folder / "experiment/bare.yaml").write_text(f"{text}\n", "utf-8")
    code, _, error = run(capsys, monkeypatch, "train", *WAYS[0], "experiment=bare")
    assert code == 2
    assert "file must begin with the line `# @package _global_`." in error


WRONG = {
    "no folder": (["--config-dir", "none"], "There is no folder"),
    "no path": (["hydra.searchpath=[file://none]"], "There is no folder"),
    "misspelt": (["--config-dir", "my configs", "experiment=smal"], "Did you mean 'small'?"),
    "no value": (["--config-dir"], "--config-dir needs a value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_word_is_one_sentence(name, folder, capsys, monkeypatch) -> None:
    words, said = WRONG[name]
    for command in (["train"], ["data", "info"], ["benchmark", "suite=demo"]):
        code, printed, error = run(capsys, monkeypatch, *command, *words)
        assert (code, printed, error.count("\n")) == (2, "", 1), error
        assert said in error


def test_a_file_that_hydra_would_hide_is_refused(folder, capsys, monkeypatch) -> None:
    (folder / "data/shd.yaml").write_text("name: shd\n", "utf-8")
    code, _, error = run(capsys, monkeypatch, "train", *WAYS[0], "data=shd")
    assert code == 2
    assert "data/shd.yaml would not be read, since a configuration of this name is part of" in error


def test_the_next_command_knows_nothing_of_the_folder(folder, capsys, monkeypatch) -> None:
    run(capsys, monkeypatch, "train", *WAYS[0], "--help")
    assert "own" in groups.groups("train")["data"]
    code, _, error = run(capsys, monkeypatch, "train", "data=own")
    assert code == 2
    assert "data=own is not one of" in error
    assert "own" not in groups.groups("train")["data"]


def test_a_path_of_hydras_own_is_kept(folder) -> None:
    _, words = split_words("train", ["hydra.searchpath=[pkg://mine, my configs]"])
    assert words == [f"hydra.searchpath=['pkg://mine','file://{folder}']"]
    config = compose("train", [f"hydra.searchpath=['file://{folder}']", "experiment=small"])
    assert config.model.hidden == [6]


def test_a_suite_by_path_is_a_file(folder) -> None:
    assert load_suite(folder, f"{folder}/suites/one.yaml").name == "one"
    with pytest.raises(UserError, match=r"suite=none.yaml: there is no such file"):
        load_suite(folder, "none.yaml")


def test_data_by_import_path_takes_the_group_of_spike_files() -> None:
    config = compose("train", ["data=tests.own:letters", "data.units=9"])
    assert config.data.name.startswith("tests.own:letters@")
    assert (config.data.units, config.data.units_per_channel) == (9, 5)


@pytest.mark.parametrize("command", ["train", "data"])
def test_a_long_group_is_not_listed_in_a_message(command, capsys, monkeypatch) -> None:
    words = ["train"] if command == "train" else ["data", "info"]
    for value, said in (
        ("paper/sdh", "There is no experiment=paper/sdh. Did you mean 'paper/shd'? --help lists"),
        ("zzz", "experiment=zzz is not one of axonal/gsc, axonal/ssc,"),
        ("[0]", "experiment=[0] names no file; leave it out, or choose one of axonal/gsc,"),
    ):
        code, _, error = run(capsys, monkeypatch, *words, f"experiment={value}")
        assert code == 2
        assert said in error
        assert len(error) < 300
