"""The choices of an option that names an implementation are the implementations that there are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import yaml

from snn_delays.cli.groups import config_folder
from snn_delays.config import (
    SIGMA_OFFSETS,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    TrackingConfig,
    TrainConfig,
)
from snn_delays.config.datasets import DATASETS
from snn_delays.config.neurons import NEURONS
from snn_delays.data import datasets, frames
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.loss import LOSSES
from snn_delays.nn.neurons import build_neuron
from snn_delays.nn.readout import SCORES
from snn_delays.ops.maps import BACKENDS
from snn_delays.ops.resets import RESETS
from snn_delays.ops.surrogates import SURROGATES
from snn_delays.ops.taps import SHAPES
from snn_delays.training.optim import SCHEDULES
from snn_delays.training.schedules import sigma_at
from snn_delays.training.tracking import TRACKERS


def choices(group: type, name: str) -> set[str]:
    (option,) = (f for f in dataclasses.fields(group) if f.name == name)
    return set(option.metadata["choices"])


def test_data_sets() -> None:
    files = sorted((config_folder() / "data").glob("*.yaml"))
    presets = {path.stem: yaml.safe_load(path.read_text("utf-8"))["name"] for path in files}
    assert choices(DataConfig, "name") == set(datasets.names()) == set(presets.values())
    assert all(presets[name] == name for name in datasets.names())


def test_what_the_options_know_of_data_sets_are_options() -> None:
    names = {f.name for f in dataclasses.fields(DataConfig)}
    for kind in DATASETS.values():
        assert {*kind.takes, *kind.needs} <= names
        assert set(kind.needs) <= set(kind.takes)


@pytest.mark.parametrize("group", [Config, EvaluateConfig])
def test_backends(group) -> None:
    assert choices(group, "backend") == {"auto", *BACKENDS}


def test_shapes_of_the_taps() -> None:
    assert choices(ModelConfig, "delay_kernel") == SHAPES.keys() == SIGMA_OFFSETS.keys()


def test_readouts() -> None:
    assert choices(ModelConfig, "readout") == SCORES.keys()


def test_schedules_of_learning_rates() -> None:
    named = choices(TrainConfig, "weight_schedule") | choices(TrainConfig, "delay_schedule")
    assert named == SCHEDULES.keys()


def test_losses() -> None:
    assert choices(TrainConfig, "loss") == LOSSES.keys()


def test_trackers() -> None:
    assert choices(TrackingConfig, "name") == {"none", *TRACKERS}


def test_units_of_time() -> None:
    assert choices(DataConfig, "time_unit") == {"auto", *frames.SECOND}


def test_each_neuron_is_a_class_of_its_own() -> None:
    settings = {"tau": 2.0, "v_threshold": 1.0, "surrogate_alpha": 5.0, "store_membrane": False}
    settings["size"] = 3
    kinds = choices(ModelConfig, "neuron")
    assert len({type(build_neuron(kind, **settings)) for kind in kinds}) == len(kinds)


def test_neurons_resets_and_surrogates() -> None:
    assert choices(ModelConfig, "neuron") == NEURONS.keys()
    assert choices(ModelConfig, "surrogate") == {"auto", *SURROGATES}
    assert choices(ModelConfig, "reset") == {"auto", *(name for name, _ in RESETS)}
    scopes = {kind.tau_scope for kind in NEURONS.values()} - {None}
    assert choices(ModelConfig, "tau_scope") == {"auto", *scopes}


def test_each_kind_of_delays_and_each_draw_is_another() -> None:
    def drawn(**settings: str) -> tuple[object, ...]:
        torch.manual_seed(0)
        layer = DelayedLinear(2, 3, taps=5, kernel_count=2, **settings)
        return type(layer.delay), *layer.delay.flatten().tolist()

    for name in ("delays", "delay_init"):
        kinds = choices(ModelConfig, name)
        assert len({drawn(**{name: kind}) for kind in kinds}) == len(kinds)


def test_each_schedule_of_sigma_is_another() -> None:
    kinds = choices(TrainConfig, "sigma_schedule")
    widths = {sigma_at(1, Config(train=TrainConfig(sigma_schedule=kind))) for kind in kinds}
    assert len(widths) == len(kinds)
