"""A user's own classes and functions by import path: found, recorded, and refused when changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from snn_delays.analysis.activity import record
from snn_delays.analysis.report import _provenance
from snn_delays.analysis.trained_run import open_run
from snn_delays.config import Config, own_parts, validate
from snn_delays.config.own_parts import OwnPart, pinned
from snn_delays.errors import UserError
from snn_delays.nn import build_network
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.training import loop
from snn_delays.training.batched import train_batched
from snn_delays.training.checkpoint import load_run
from snn_delays.training.optim import build_optimizers
from snn_delays.training.run import train
from snn_delays.training.step import build_step
from tests import own
from tests.cli.test_cli import run
from tests.conftest import random_spikes

MINE = (Path(__file__).parent / "own.py").read_text("utf-8")
PARTS = {
    "data.name": "mine:letters",
    "model.neuron": "mine:Adaptive",
    "model.delay_kernel": "mine:laplace",
    "model.readout": "mine:Attention",
    "train.loss": "mine:short_delays",
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with mine.py, which no earlier test has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_parts, "_imported", {})
    Path("mine.py").write_text(MINE, "utf-8")
    sys.modules.pop("mine", None)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def words(here, spike_files) -> list[str]:
    """Options of a run of a second."""
    Path("letters").mkdir()
    for split, path in spike_files.items():
        path.rename(f"letters/{split}.h5")
    return [
        "data.root=letters", "data.units_per_channel=50", "data.cache=cache", "model.hidden=[6]",
        "model.taps=5", "train.epochs=1", "train.batch_size=16", "device=cpu",
    ]  # fmt: skip


def mine() -> OwnPart:
    return OwnPart("model.neuron", "mine:Adaptive")


@pytest.mark.parametrize(
    "value",
    ["mine:", ":Adaptive", "mine:A.b", "mine:A@12", "mine.py:A", "./mine:A", "a:b:c", "m :A"],
)
def test_only_module_and_name_are_a_part(value) -> None:
    config = Config()
    config.model.neuron = value
    with pytest.raises(UserError, match="write module:name, such as mine:Adaptive"):
        validate(config)


def test_a_word_that_is_no_choice_says_how_an_own_part_is_written() -> None:
    config = Config()
    config.model.neuron = "mine.Adaptive"
    with pytest.raises(UserError, match=r"not one of lif, .*. Write your own as module:name.$"):
        validate(config)
    config.model.neuron, config.backend = "lif", "mine:backend"
    with pytest.raises(UserError, match="backend=mine:backend is not one of"):
        validate(config)


def test_a_module_is_found_in_folders_of_the_path_before_the_current_one(here, monkeypatch) -> None:
    assert mine().file() == here / "mine.py"
    assert mine().load().__name__ == "Adaptive"
    (here / "first").mkdir()
    (here / "first/mine.py").write_text("class Adaptive: pass", "utf-8")
    monkeypatch.syspath_prepend(here / "first")
    assert mine().file() == here / "first/mine.py"
    with pytest.raises(UserError, match="this process has imported another mine"):
        mine().load()


def test_a_module_of_this_name_that_others_imported_is_refused(here, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", own)
    with pytest.raises(UserError, match="this process has imported another mine"):
        mine().load()


def test_a_module_of_a_package_is_found_without_running_any_code(here) -> None:
    (here / "pack").mkdir()
    (here / "pack/__init__.py").write_text("raise SystemExit", "utf-8")
    (here / "pack/mine.py").write_text("raise SystemExit", "utf-8")
    part = OwnPart("model.neuron", "pack.mine:Adaptive")
    assert part.file() == here / "pack/mine.py"
    assert pinned_value(part.value) == f"{part.value}@{digits('pack/mine.py')}"
    for name in ("pack.other", "mine.mine", "nothing.mine", "sys"):
        with pytest.raises(UserError, match=f"there is no module {name} here"):
            OwnPart("model.neuron", f"{name}:X").file()


def digits(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def pinned_value(value: str) -> str:
    config = Config()
    config.model.neuron = value
    return pinned(config).model.neuron


def test_a_pinned_part_is_refused_before_changed_code_runs(here) -> None:
    value = pinned_value("mine:Adaptive")
    assert pinned_value(value) == value
    Path("mine.py").write_text("raise SystemExit", "utf-8")
    with pytest.raises(UserError, match=r"mine.py has changed: its SHA-256 begins with"):
        pinned_value(value)
    with pytest.raises(UserError, match=r"mine.py has changed: its SHA-256 begins with"):
        OwnPart("model.neuron", value).load()


def test_code_that_changed_after_its_import_is_refused(here) -> None:
    mine().load()
    Path("mine.py").write_text(MINE + "\n", "utf-8")
    with pytest.raises(UserError, match="this process has imported another mine than"):
        mine().load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "mine.py cannot be imported: line 1: '\\(' was never closed"),
        ("\nimport numpyy", "line 2: ModuleNotFoundError: No module named 'numpyy'"),
        ("1 / 0", "line 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_names_the_line(text, words, here) -> None:
    Path("mine.py").write_text(text, "utf-8")
    with pytest.raises(UserError, match=words):
        mine().load()
    Path("mine.py").write_text(MINE, "utf-8")
    assert mine().load()


# ---- as commands -------------------------------------------------------------------------------


def test_own_parts_train_and_are_recorded(words, capsys, monkeypatch) -> None:
    given = [f"{option}={value}" for option, value in PARTS.items() if option != "data.name"]
    given.append("data=mine:letters")
    code, printed, error = run(capsys, monkeypatch, "train", *words, *given, "out=here")
    assert (code, error) == (0, "")
    assert "module by module: its neuron is foreign" in printed
    config = yaml.safe_load(Path("here/config.yaml").read_text("utf-8"))
    result = json.loads(Path("here/result.json").read_text("utf-8"))
    sha = hashlib.sha256(MINE.encode()).hexdigest()
    for option, value in PARTS.items():
        group, key = option.split(".")
        assert config[group][key] == f"{value}@{sha[:12]}"
        assert result["own_parts"][option] == {
            "part": f"{value}@{sha[:12]}",
            "file": str(Path("mine.py").absolute()),
            "sha256": sha,
        }
    assert Path("here/modules/mine.py").read_text("utf-8") == MINE
    code, printed, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert (code, error) == (0, "")
    assert f"loss {result['loss']:.4f}" in printed
    table = _provenance(open_run("here"))[0].data["value"]
    assert table["model.neuron"] == f"mine:Adaptive@{sha[:12]}"


def test_a_changed_or_missing_module_is_refused(words, capsys, monkeypatch, tmp_path) -> None:
    Path("suite.yaml").write_text(
        "{title: x, seeds: 1, members: {a: {label: a, options: ['model.neuron=mine:Adaptive']}}}",
        "utf-8",
    )
    given = ["data=mine:letters", "model.neuron=mine:Adaptive"]
    commands = [
        ["train", *words, *given, "out=here", "resume=auto"],
        ["benchmark", "suite=suite.yaml", "out=many", "jobs=1", *words, "data=mine:letters"],
        ["evaluate", "run=here"],
        ["analyse", "run=here"],
    ]
    for command in commands[:2]:
        code, _, error = run(capsys, monkeypatch, *command)
        assert code == 0, error
    Path("mine.py").write_text(MINE + "# a comment\n", "utf-8")
    for command in commands:
        code, printed, error = run(capsys, monkeypatch, *command)
        assert (code, printed, error.count("\n")) == (2, "", 1), error
        assert "has changed" in error
        assert "folder holds a copy in modules" in error
    Path("mine.py").unlink()
    for command in commands:
        code, printed, error = run(capsys, monkeypatch, *command)
        assert (code, printed, error.count("\n")) == (2, "", 1), error
        assert "there is no module mine here" in error
    monkeypatch.syspath_prepend(tmp_path / "here/modules")
    monkeypatch.setattr(own_parts, "_imported", {})
    del sys.modules["mine"]
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert (code, error) == (0, "")


def test_a_run_goes_on_with_its_own_parts(small_config, here, monkeypatch) -> None:
    def configure(name: str) -> Config:
        config = small_config(loss="mine:short_delays", epochs=2)
        config.out, config.resume = name, "auto"
        config.model.neuron, config.model.readout = "mine:Adaptive", "mine:Attention"
        return config

    train(configure("whole"))
    stopped = configure("parts")
    monkeypatch.setattr("snn_delays.training.run.Run.finish", lambda run: {"out": "parts"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snn_delays.training.loop.Training.done", property(stops_after_one))
        train(stopped)
    train(configure("parts"))
    whole, parts = (load_run(name, "last").network.state_dict() for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all((whole[key] == parts[key]).all() for key in whole if "_extra" not in key)


def stops_after_one(training) -> bool:
    return training.position.epoch >= 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.neuron", "its neuron is foreign"),
        ("model.readout", "its readout is foreign"),
        ("train.loss", "train.loss=mine:short_delays is not cross_entropy"),
    ],
)
def test_batched_seeds_refuse_own_parts(option, words, small_config, here) -> None:
    config = small_config()
    group, key = option.split(".")
    setattr(getattr(config, group), key, PARTS[option])
    with pytest.raises(UserError, match=f"Seeds of run cannot be batched: {words}"):
        train_batched([config, dataclasses.replace(config, seed=1, out="other")])


def test_activity_of_own_neurons_has_spikes_and_no_membrane() -> None:
    config = Config()
    config.model.neuron, config.model.hidden = "tests.own:Adaptive", [6]
    found = record(build_network(config, 4), torch.ones(9, 2, config.data.channels))
    assert found.spikes[0].shape == found.membranes[0].shape
    assert found.membranes[0].isnan().all()
    assert found.readout.isfinite().all()


def test_steps_with_own_parts_are_not_captured(small_config, here, monkeypatch) -> None:
    seen, real = [], loop.build_step

    def spy(*arguments, **more):
        seen.append(more["capture"])
        return real(*arguments, **more)

    monkeypatch.setattr(loop, "build_step", spy)
    for name, loss in (("plain", "cross_entropy"), ("mine", "mine:smooth")):
        config = small_config(loss=loss, epochs=1)
        train(dataclasses.replace(config, out=name))
    assert seen == [True, False]
    network = build_network(config, 3)
    step = build_step(
        network, build_optimizers(network, config.train), "float32", torch.device("cuda"),
        capture=False,
    )  # fmt: skip
    assert not isinstance(step, CapturedStep)


def test_batched_seeds_take_an_own_kernel(small_config, here) -> None:
    config = small_config(epochs=1)
    config.precision, config.model.delay_kernel = "float64", "mine:laplace"
    alone = train(dataclasses.replace(config, out="alone"))
    ends = train_batched([config, dataclasses.replace(config, seed=1, out="other")])
    assert ends[0]["loss"] == pytest.approx(alone["loss"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_files", "it returns list"),
        ("no_training", "it returns dict"),
        ("numbers", "train is int"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(name, words, small_config, here) -> None:
    config = small_config()
    config.data.train_file = config.data.test_file = None
    config.data.name = f"mine:{name}"
    with pytest.raises(UserError, match=f"{words}.*it must be a function of \\(config\\)"):
        train(config)
    assert not Path(config.out).exists()


def test_an_own_data_set_may_leave_the_test_to_the_options(small_config, here, spike_files) -> None:
    random_spikes(here / "all.h5", 60, 0)
    Path("mine.py").write_text("def all(config, fresh): return {'train': 'all.h5'}\n", "utf-8")
    config = small_config(epochs=1)
    config.data.train_file = config.data.test_file = None
    config.data.name, config.data.test_speakers = "mine:all", ["0"]
    assert train(config)["n"] == 15
