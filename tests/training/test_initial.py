"""Fine-tuning: a run that starts from the network of another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from snn_delays.analysis.trained_run import open_run
from snn_delays.config import validate
from snn_delays.data.dataset import load_data
from snn_delays.errors import UserError
from snn_delays.nn import draw_network
from snn_delays.training.batched import train_batched
from snn_delays.training.checkpoint import (
    checkpoint_path,
    load_run,
    parameters_digest,
    read_checkpoint,
)
from snn_delays.training.initial import read_initial
from snn_delays.training.run import train
from tests.conftest import random_spikes
from tests.training.test_resume import assert_same_run, train_for

STILL = {"lr_weight": 1e-30, "lr_delay": 1e-30, "weight_decay": 0.0, "epochs": 1}


@pytest.fixture
def source(small_config, tmp_path) -> str:
    """The folder of a finished run."""
    config = small_config(epochs=1)
    config.out = str(tmp_path / "source")
    train(config)
    return config.out


@pytest.fixture
def tuned(small_config, source, tmp_path):
    """Options of a run that starts from ``source``, with another seed."""

    def make(name="tuned", init=source, **options):
        config = small_config(init=init, **options)
        config.seed, config.out = 7, str(tmp_path / name)
        return config

    return make


def of(network) -> dict[str, torch.Tensor]:
    """Weights and delays, which a training with a learning rate of nothing leaves as they are."""
    return {k: v for k, v in network.state_dict().items() if k.endswith(("weight", "delay"))}


def assert_equal(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        # a delay of 0 may move by a learning rate of nothing
        assert torch.allclose(left[name], right[name], rtol=0, atol=1e-29), name


def test_training_starts_from_the_other_network(source, tuned, capsys) -> None:
    before = load_run(source).network
    config = tuned(**STILL)
    result = train(config)
    assert "Training starts from epoch 1 of " in capsys.readouterr().out
    assert_equal(of(load_run(config.out).network), of(before))
    assert_equal(dict(open_run(config.out).drawn.state_dict()), dict(before.state_dict()))
    saved = read_checkpoint(Path(source), "best")
    assert result["init"] == {
        "path": source, "epoch": 1, "sha256": parameters_digest(saved["model"]),
        "readout": "kept", "remarks": [f"Training starts from epoch 1 of {source}."],
    }  # fmt: skip
    options = yaml.safe_load(Path(config.out, "config.yaml").read_text("utf-8"))
    assert options["train"]["init"] == source
    other = tuned("other", init=None, **STILL)
    assert train(other)["config_hash"] != result["config_hash"]
    assert "init" not in json.loads(Path(other.out, "result.json").read_text("utf-8"))


def test_statistics_start_from_the_others_too(source, tuned) -> None:
    initial = read_initial(tuned(), load_data(tuned()), Path("none"))
    means = [name for name in initial.model if name.endswith("running_mean")]
    there = load_run(source).network.state_dict()
    assert means
    for name in means:
        assert initial.model[name].abs().sum() > 0
        assert torch.equal(initial.model[name], there[name])


@pytest.mark.parametrize("protocol", ["validation", "refit"])
def test_a_stopped_run_needs_the_other_run_no_more(protocol, source, tuned, monkeypatch) -> None:
    whole = tuned("whole", epochs=2, protocol=protocol)
    train(whole)
    config = tuned("stopped", epochs=2, protocol=protocol)
    config.resume = "auto"
    train_for(3, config, monkeypatch)
    shutil.rmtree(source)
    train(config)
    assert_same_run(whole.out, config.out)


def test_batched_seeds_start_from_the_same_network(source, tuned) -> None:
    configs = [tuned(name, **STILL) for name in ("a", "b")]
    configs[1].seed = 8
    assert all(isinstance(result, dict) for result in train_batched(configs))
    for config in configs:
        assert_equal(of(load_run(config.out).network), of(load_run(source).network))


def test_a_checkpoint_alone_and_another_precision(source, tuned, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint_path(Path(source), "last"), "alone.pt")
    config = tuned(init="alone.pt")
    config.precision = "float64"
    initial = read_initial(config, load_data(config), Path("none"))
    assert initial.model["readout.linear.weight"].dtype == torch.float64
    there = load_run(source, "last").network.state_dict()
    assert torch.equal(
        initial.model["blocks.0.linear.delay"].float(), there["blocks.0.linear.delay"]
    )


def test_other_classes_draw_the_readout_anew(source, tuned, tmp_path) -> None:
    config = tuned()
    config.data.train_file = str(random_spikes(tmp_path / "two.h5", 24, 5, classes=2))
    config.data.test_file = None
    initial = read_initial(config, load_data(config), Path("none"))
    assert initial.origin["readout"] == "drawn"
    assert "The readout is drawn anew, for 2 classes instead of 3." in initial.remarks
    there = load_run(source).network.state_dict()
    assert initial.model["readout.linear.weight"].shape == (2, 12, 1)
    assert torch.equal(initial.model["blocks.0.linear.weight"], there["blocks.0.linear.weight"])


def test_recordings_that_the_other_run_was_trained_on_are_counted(small_config, tuned) -> None:
    other = small_config(epochs=1, protocol="last")
    train(other)
    config = tuned(init=other.out)
    initial = read_initial(config, load_data(config), Path("none"))
    assert any(
        remark.startswith("12 of 12 validation recordings were training recordings of train.init")
        for remark in initial.remarks
    )
    assert not any("test recordings" in remark for remark in initial.remarks)
    config.data.test_file = config.data.train_file
    initial = read_initial(config, load_data(config), Path("none"))
    assert any(remark.startswith("48 of 48 test recordings") for remark in initial.remarks)


SHAPES = {
    "model.hidden": ([13], "with model.hidden=[12], and this run has model.hidden=[13]; give"),
    "model.taps": (7, "with model.taps=5, and this run has model.taps=7; give model.taps=5."),
    "model.delays": ("fixed", "with model.delays=learned, and this run has model.delays=fixed"),
    "model.delay_type": ("axonal", "model.delay_type=axonal; give model.delay_type=synaptic."),
    "model.bias": (True, "this run has model.bias=true; give model.bias=false."),
    "data.step_ms": (5.0, "with data.step_ms=10.0, and this run has data.step_ms=5.0"),
    "data.units_per_channel": (70, "a network of 14 input channels, and this run's data have 10."),
    "model.filter_tau_ms": (20.0, "does not fit this run's network: "),
}


def test_another_network_is_refused_before_anything_is_written(source, tuned) -> None:
    for name, (value, words) in SHAPES.items():
        config = tuned(epochs=1)
        config.model.filter_learnable = name == "model.filter_tau_ms"
        group, key = name.split(".")
        setattr(getattr(config, group), key, value)
        with pytest.raises(UserError) as error:
            train(config)
        assert words in str(error.value)
        assert not Path(config.out).exists()


def test_what_holds_no_network_is_refused(source, tuned, tmp_path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("no", encoding="utf-8")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(source, unfinished)
    (unfinished / "result.json").unlink()
    for init, words in (
        ("nowhere", "There is no checkpoint nowhere; train.init takes"),
        (str(text), "is damaged or not a checkpoint; it cannot be read."),
        (str(unfinished), "is not the folder of a finished run; finish the run, or name a file in"),
        (str(tmp_path), "is not the folder of a finished run"),
    ):
        with pytest.raises(UserError) as error:
            train(tuned(init=init))
        assert words in str(error.value)


def test_a_lost_start_is_named(tuned) -> None:
    config = tuned(**STILL)
    train(config)
    checkpoint_path(Path(config.out), "init").unlink()
    with pytest.raises(
        UserError, match="does not hold the values that the run started from: it is"
    ):
        open_run(config.out)


# ---- delays alone ------------------------------------------------------------------------------


def parts_of(model: dict, end: str) -> list[torch.Tensor]:
    return [value for name, value in model.items() if name.endswith(end)]


def test_delays_alone_come_from_the_other_run(source, tuned) -> None:
    config = tuned(init_parts="delays")
    config.seed = 0  # that of the source
    initial = read_initial(config, load_data(config), Path("none"))
    there = read_checkpoint(Path(source), "best")["model"]
    for mine, theirs in zip(
        parts_of(initial.model, "delay"), parts_of(there, "delay"), strict=True
    ):
        assert torch.equal(mine, theirs)
    first = parts_of(draw_network(config, 3).state_dict(), "linear.weight")
    for mine, theirs in zip(parts_of(initial.model, "linear.weight"), first, strict=True):
        assert not torch.isclose(mine, theirs).any()
    assert not any(mean.any() for mean in parts_of(initial.model, "running_mean"))
    assert initial.origin["parts"] == "delays"
    assert initial.remarks[0] == f"Training starts from the delays of epoch 1 of {source}."


@pytest.mark.parametrize("delay_type", ["synaptic", "axonal"])
def test_permuted_delays_stay_within_their_neuron(delay_type, small_config, tuned) -> None:
    other = small_config(epochs=1)
    other.model.delay_type, other.model.recurrent, other.model.kernel_count = (
        delay_type,
        "learned",
        2,
    )
    train(other)
    config = tuned(init=other.out, init_parts="permuted_delays")
    config.model = other.model
    there = parts_of(load_run(other.out).network.state_dict(), "delay")
    first, again = (read_initial(config, load_data(config), Path("none")).model for _ in range(2))
    for mine, same, theirs in zip(
        parts_of(first, "delay"), parts_of(again, "delay"), there, strict=True
    ):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, theirs)
        inputs = min(1, theirs.dim() - 1)
        assert torch.equal(mine.sort(inputs).values, theirs.sort(inputs).values)


def test_rounded_delays_of_another_run_stay_as_they_are(source, tuned) -> None:
    config = tuned(init_parts="delays", round_epochs=1.0, epochs=2)
    train(config)
    there, here = (load_run(folder).network.state_dict() for folder in (source, config.out))
    for mine, theirs in zip(parts_of(here, "delay"), parts_of(there, "delay"), strict=True):
        assert torch.equal(mine, theirs.round())
    remarks = json.loads(Path(config.out, "result.json").read_text("utf-8"))["init"]["remarks"]
    assert not any("blurs" in remark for remark in remarks)


def test_delays_alone_need_a_run_whose_delays_they_are(tuned) -> None:
    for change, words in (
        ({"train.init": None}, "train.init_parts=permuted_delays needs train.init=<folder of a"),
        ({"model.density": 0.5}, "needs a network of all synapses, without model.density"),
        ({"model.delay_type": "dendritic"}, "has no use with model.delay_type=dendritic, where"),
        ({"model.delays": "fixed"}, "has no use with model.delays=fixed"),
    ):
        config = tuned(init_parts="permuted_delays")
        for name, value in change.items():
            group, key = name.split(".")
            setattr(getattr(config, group), key, value)
        with pytest.raises(UserError) as error:
            validate(config)
        assert words in str(error.value)
