"""Options: bounds, rules, derived values, hash."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from snn_delays.config import Config, EvaluateConfig, config_hash, validate
from snn_delays.config.options import from_dict, nearest, options
from snn_delays.errors import UserError


def changed(**values) -> Config:
    config = Config()
    for name, value in values.items():
        group, _, key = name.rpartition("__")
        setattr(getattr(config, group) if group else config, key, value)
    return config


def test_defaults_are_valid_and_described() -> None:
    for config in (Config(), EvaluateConfig()):
        validate(config)
        assert all(field.metadata["help"] for _, _, field in options(config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"model__delays": "lerned"},
            "model.delays=lerned is not one of learned, fixed, none, dense. Did",
        ),
        ({"model__taps": 24}, "model.taps=24 must be odd; use 25"),
        ({"model__taps": 0}, "model.taps=0 must be at least 1"),
        ({"model__tau_ms": 10.0}, "model.tau_ms=10 must be longer than one time step"),
        ({"model__tau_ms": float("nan")}, "model.tau_ms=nan must be above 0"),
        ({"model__hidden": []}, "model.hidden"),
        ({"model__hidden": [4, 0]}, "model.hidden"),
        ({"model__dropout": 1.0}, "model.dropout=1 must be below 1"),
        ({"model__delays": "dense", "model__kernel_count": 2}, "model.kernel_count=2 has no use"),
        ({"train__protocol": "paper", "train__test": False}, "train.test=false has no use"),
        ({"model__density": 0.0}, "model.density=0 must be above 0"),
        ({"model__density": 1.5}, "model.density=1.5 must be at most 1"),
        ({"model__filter_tau_ms": 5.0}, "model.filter_tau_ms=5 must be longer"),
        ({"train__epochs": 0}, "train.epochs=0 must be at least 1"),
        ({"train__lr_delay": -1.0}, "train.lr_delay=-1 must be above 0"),
        ({"train__sigma_start": 0.4}, "train.sigma_start=0.4 must not be below"),
        ({"train__protocol": "tset"}, "Did you mean"),
        ({"data__name": "spikes"}, "data=spikes needs data.train_file"),
        ({"data__test_file": "x.h5"}, "brings its own files"),
        ({"device": "gpu"}, "device=gpu is not one of auto, cpu, cuda"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"seed": True}, "seed=true must be a whole number"),
        ({"model__dropout": "lots"}, "model.dropout=lots must be a number"),
        ({"model__bias": 1}, "model.bias=1 must be true or false"),
        ({"model__hidden": [18.0]}, "must be a list of whole numbers"),
        ({"data__test_file": 3}, "data.test_file=3 must be text, or null"),
        ({"model__filter_learnable": True}, "needs model.filter_tau_ms"),
        ({"model__tau_scope": "neuron"}, "model.neuron=lif, which learns no time constant"),
        (
            {"model__neuron": "adlif", "model__surrogate_alpha": 2.0},
            "no use with the surrogate box",
        ),
        ({"data__name": "ssc", "data__valid_speakers": ["1"]}, "data.valid_speakers has no use"),
    ],
)
def test_wrong_values_are_named(change, words) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        validate(changed(**change))


def test_derived_values_follow_overrides() -> None:
    config = changed(data__step_ms=5.0, model__tau_ms=15.0, model__taps=31, data__units=701)
    assert config.tau == 3.0
    assert config.model.layer_extra_steps == 15
    assert config.data.channels == 141
    assert config.frame_arithmetic == "float64"
    config.train.protocol = "paper"
    assert config.frame_arithmetic == "float16"
    assert config.selection == "test-selected"
    config.model.delays = "none"
    assert (config.model.layer_taps, config.model.layer_extra_steps) == (1, 0)


def test_hash_covers_what_shapes_the_result_alone() -> None:
    base = config_hash(Config())
    for same in ({"out": "x"}, {"name": "x"}, {"device": "cpu"}, {"backend": "dense"},
                 {"data__root": "x"}, {"data__cache": "x"}):  # fmt: skip
        assert config_hash(changed(**same)) == base
    for other in ({"seed": 1}, {"model__taps": 27}, {"train__epochs": 1}, {"data__step_ms": 5.0}):
        assert config_hash(changed(**other)) != base


def test_plain_values_make_the_same_configuration() -> None:
    config = changed(seed=3, model__hidden=[7], data__valid_speakers=[1])
    config.data.synthetic.classes = 4
    assert from_dict(Config, asdict(config)) == config
    with pytest.raises(UserError, match=r"no option model.tapz. Did you mean 'taps'"):
        from_dict(Config, {"model": {"tapz": 3}})


def test_nearest_name() -> None:
    assert nearest("hiden", ["hidden", "taps"]) == " Did you mean 'hidden'?"
    assert nearest("zzz", ["hidden"]) == ""
