"""The tasks that the package makes: where a sound comes from, and a chaotic series."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from snn_delays.cli.compose import compose
from snn_delays.config import Config
from snn_delays.data.dataset import load_data
from snn_delays.data.datasets.localisation import time_differences
from snn_delays.data.datasets.mackey_glass import CENTRE, SCALE, TRANSIENT, place_code, series
from snn_delays.errors import UserError
from snn_delays.evaluate import evaluate
from snn_delays.nn import draw_network
from snn_delays.nn.loss import cross_entropy
from snn_delays.training.loop import build_loader
from snn_delays.training.optim import build_optimizers
from snn_delays.training.step import take_step

FEW = {"train_samples": 60, "valid_samples": 6, "test_samples": 6}


def options(tmp_path, name: str, *words: str, **settings) -> Config:
    per_step = ["model.readout=last", "train.loss=mse"] if name == "mackey_glass" else []
    given = [f"data.{name}.{key}={value}" for key, value in {**FEW, **settings}.items()]
    always = [f"data={name}", f"data.cache={tmp_path}", "device=cpu", "model.extra_steps=0"]
    config: Config = compose("train", [*always, *per_step, *given, *words])
    return config


# ---- the series --------------------------------------------------------------------------------


def test_the_first_stretch_of_the_series_is_that_of_the_linear_equation() -> None:
    """Up to t = tau the delayed value is the constant history x0."""
    x0, t = np.linspace(0.5, 1.3, 5), np.arange(18.0)[:, None]
    limit = 0.2 * x0 / (1 + x0**10) / 0.1
    exact = limit + (x0 - limit) * np.exp(-0.1 * t)
    np.testing.assert_allclose(series(x0, 18, 17.0), exact, rtol=0, atol=1e-9)


def test_the_integration_is_of_fourth_order() -> None:
    x0 = np.linspace(0.5, 1.3, 3)
    fine = series(x0, 60, 17.0, 32)
    coarse = [np.abs(series(x0, 60, 17.0, n) - fine).max() for n in (2, 4)]
    assert 12 < coarse[0] / coarse[1] < 20  # 16 of fourth order


def test_inputs_and_targets_are_of_one_series(tmp_path) -> None:
    config = options(tmp_path, "mackey_glass", steps=40, washout=5, horizon=3)
    samples = load_data(config).train
    rng = np.random.default_rng([0, 0])
    x_TN = series(rng.uniform(0.5, 1.3, 60), TRANSIENT + 43, 17.0)[TRANSIENT:]
    for number in (0, 59):
        x, frames = x_TN[:, number], samples.frames(number)
        assert frames.shape == (40, 32)
        assert (frames.sum(1) == 1).all()
        assert np.array_equal(frames.argmax(1), place_code(x[:40], 32))
        (later,) = samples.targets(number).T
        assert np.isnan(later[:5]).all()
        np.testing.assert_allclose(later[5:] * SCALE + CENTRE, x[8:43], atol=1e-6)
    step = dataclasses.replace(config.data, step_ms=4.0)
    other = load_data(dataclasses.replace(config, data=step)).train
    assert np.array_equal(other.frames(7), samples.frames(7))  # a step is a step


def test_a_place_code_covers_its_range() -> None:
    assert place_code(np.array([-1.0, 0.2, 0.86, 1.5, 9.0]), 4).tolist() == [0, 0, 2, 3, 3]


def test_a_recording_needs_a_target(tmp_path) -> None:
    with pytest.raises(UserError, match=r"washout=40 must be below data.mackey_glass.steps=40"):
        options(tmp_path, "mackey_glass", steps=40, washout=40)


# ---- two ears ----------------------------------------------------------------------------------


def test_counts_tell_nothing_but_times_tell_the_class(tmp_path) -> None:
    config = options(tmp_path, "localisation", classes=5, train_samples=1000)
    samples, lags = load_data(config).train, np.arange(-10, 11)
    best, counts = [], []
    for number in range(len(samples)):
        left, right = np.split(samples.frames(number).astype(float), 2, axis=1)
        match = [
            (left[max(0, -d) : len(left) - max(0, d)] * right[max(0, d) : len(left) + min(0, d)])
            .sum()
            for d in lags
        ]  # fmt: skip
        best.append(lags[np.argmax(match)])
        counts.append([left.sum(), right.sum()])
    steps = time_differences(config.data.localisation) / config.data.step_ms
    truth = steps[samples.labels]
    assert (np.abs(np.array(best) - truth) <= 1).mean() > 0.9
    counts = np.array(counts)
    means = np.array([counts[samples.labels == k].mean(0) for k in range(5)])
    error = counts.std() / np.sqrt(200)
    assert np.ptp(means) < 6 * error
    assert samples.stores[0].classes[0] == "-0.800 ms"


def test_both_ears_have_as_many_units(tmp_path) -> None:
    config = options(tmp_path, "localisation")
    config.data.units = 15
    with pytest.raises(UserError, match=r"data\.units=15 must be even"):
        load_data(config)


@pytest.mark.parametrize("name", ["localisation", "mackey_glass"])
def test_a_seed_makes_the_same_files(name, tmp_path) -> None:
    runs, few = (("a", 0), ("b", 0), ("a", 1)), {"steps": 60} if name == "mackey_glass" else {}
    data = [load_data(options(tmp_path / place, name, seed=s, **few)).train for place, s in runs]
    frames = [samples.frames(3) for samples in data]
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def trained_accuracy(config: Config, updates: int) -> float:
    """Test accuracy after some updates on one batch, all training sounds."""
    data = load_data(config)
    network = draw_network(config, len(data.classes))
    network.set_sigma(0.5)
    optimizers = build_optimizers(network, config.train)
    loader = build_loader(config, data.train, None, torch.device("cpu"), training=True)
    (batch,) = loader.epoch()
    network.train()
    for _ in range(updates):
        take_step(network, optimizers, batch, "float32", cross_entropy)
    test = build_loader(config, data.test, None, torch.device("cpu"))
    return evaluate(network, test).score().accuracy


def test_a_tiny_network_localises_with_delays_alone(tmp_path) -> None:
    """Neurons detect coincidences, since their membranes forget within a step."""
    easy = {"classes": 2, "itd_ms": 0.4, "jitter_ms": 0.01, "length_ms": 8, "clicks_per_ms": 0.3}
    sizes = {"train_samples": 200, "valid_samples": 2, "test_samples": 200}
    shared = ["model.hidden=[8]", "model.taps=9", "model.tau_ms=0.12", "model.dropout=0"]
    shared += ["train.lr_weight=0.05", "train.lr_delay=0.3", "train.batch_size=200"]
    found = {}
    for delays in ("learned", "none"):
        words = [*shared, f"model.delays={delays}"]
        found[delays] = trained_accuracy(
            options(tmp_path, "localisation", *words, **sizes, **easy), 40
        )
    assert found["learned"] > 0.7
    assert found["none"] < 0.6
