"""The decisions' latency in an evaluation, against the numpy engine that is asked at every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.data.loaders import Loader, Samples
from snn_delays.deploy import Deployed, from_network, plain
from snn_delays.deploy.module import StreamModule
from snn_delays.deploy.quantise import quantise
from snn_delays.evaluate import Latency, evaluate
from snn_delays.nn.readout import SCORES
from tests.conftest import open_spikes, random_spikes
from tests.deploy.networks import make

STEPS = 33  # more than the longest recording has


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("spikes")
    config, _ = make()
    config.data.cache, config.data.units = str(folder), 700
    config.data.units_per_channel = 60  # 12 channels
    return Samples.of(open_spikes(random_spikes(folder / "x.h5", 24, 0, classes=4), config))


def right_after(network: Deployed, samples: Samples, after: int) -> int:
    """Recordings whose decision is right when the network is asked so many steps later."""
    right, last = 0, len(network.layers) - 1
    for number, label in enumerate(samples.labels):
        frames = samples.frames(number)
        outputs: list[Any] = []

        def watch(layer: int, step: int, state: plain.LayerState, to: list[Any] = outputs) -> None:
            if layer == last:
                to.append(state.output)

        plain.run(network, frames, watch)
        asked = plain.scores(network, np.stack(outputs[: len(frames) + after]))
        right += int(asked.argmax() == label)
    return right


@pytest.mark.parametrize("batch_size", [24, 5])
@pytest.mark.parametrize("readout", [*SCORES])
def test_equals_the_engine_asked_at_every_step(readout, batch_size, samples) -> None:
    config, network = make({"readout": readout, "readout_threshold": 1.0}, dtype=torch.float64)
    network.readout.linear.weight.data.normal_()  # so that answers change over the steps
    deployed = from_network(network, config, ["a", "b", "c", "d"], STEPS)
    loader = Loader(samples, batch_size, STEPS, torch.float64, torch.device("cpu"))
    found = evaluate(network, loader, latency=True)
    latency = found.latency
    assert latency is not None
    longest = deployed.ends(STEPS)[-1] - int(samples.steps.min())
    assert len(latency.correct) == longest + 1
    want = [right_after(deployed, samples, n) for n in (0, 1, 5, longest // 2, longest)]
    assert latency.correct[[0, 1, 5, longest // 2, longest]].tolist() == want
    assert len({*latency.correct.tolist()}) > 1
    assert latency.correct[-1] == found.score().correct
    usual = evaluate(network, loader)
    assert usual.latency is None
    assert np.array_equal(usual.predictions, found.predictions)
    assert usual.loss == found.loss


def test_batches_of_other_lengths_stay_at_their_end(samples) -> None:
    """As with ``train.protocol=paper``, whose batches end with their longest recording."""
    _, network = make(dtype=torch.float64)
    network.readout.linear.weight.data.normal_()
    each = []
    for number in range(len(samples)):
        one = samples.where(np.arange(len(samples)) == number)
        loader = Loader(one, 1, None, torch.float64, torch.device("cpu"))
        each.append(evaluate(network, loader, latency=True).latency)
    loader = Loader(samples, 1, None, torch.float64, torch.device("cpu"))
    latency = evaluate(network, loader, latency=True).latency
    for after in range(len(latency.correct)):
        assert latency.correct[after] == sum(one.after(after).correct for one in each)


@pytest.mark.parametrize(
    ("correct", "steps"),
    [
        ([50, 60, 70, 70], 2),
        ([50, 69, 70, 70], 1),  # a point below is within a point
        ([70, 70, 68, 70], 3),  # what does not stay does not count
        ([80, 75, 70], 0),  # more than the final accuracy is no delay
        ([70], 0),
    ],
)
def test_time_to_within_a_point(correct, steps) -> None:
    latency = Latency(np.array(correct), 100)
    assert latency.steps == steps
    assert latency.after(0).correct == correct[0]
    assert latency.after(99).correct == correct[-1]


def test_a_result_holds_it(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text("utf-8"))
    latency = result["latency"]
    assert latency["ms"] % 10 == 0
    asked = latency["at_last_input"]
    assert asked.keys() == {"accuracy", "interval", "n", "selection"}
    assert asked["n"] == result["n"] == 12
    assert latency["after_ms"][:3] == [0, 10, 20]
    assert len(latency["accuracy"]) == len(latency["after_ms"]) <= 25
    assert latency["accuracy"][0] == asked["accuracy"]
    assert latency["accuracy"][-1] == result["accuracy"]
    settled = [a for a, ms in zip(latency["accuracy"], latency["after_ms"], strict=True)
               if ms >= latency["ms"]]  # fmt: skip
    assert min(settled) >= result["accuracy"] - 0.01


@pytest.mark.parametrize("length", [1, 2, 3, 24, 25, 26, 400])
def test_a_thinned_curve_has_both_ends(length) -> None:
    steps = Latency(np.zeros(length, int), 1).thinned()
    assert steps == sorted({*steps})
    assert (steps[0], steps[-1]) == (0, length - 1)
    assert len(steps) <= 25
    gaps = np.diff(steps)
    assert (np.diff(gaps) >= -1).all()  # closer at the start, but for the rounding


@pytest.mark.parametrize("readout", ["sum", "mean", "max", "last", "spike_count"])
def test_an_integer_network_is_asked_at_every_step(readout, samples) -> None:
    config, network = make({"readout": readout, "readout_threshold": 1.0})
    network.readout.linear.weight.data.normal_()
    deployed = quantise(from_network(network, config, ["a", "b", "c", "d"], STEPS), "8")
    loader = Loader(samples, 5, STEPS, torch.float32, torch.device("cpu"))
    found = evaluate(StreamModule(deployed), loader, latency=True)
    assert found.latency is not None
    longest = len(found.latency.correct) - 1
    want = [right_after(deployed, samples, n) for n in (0, 1, 5, longest)]
    assert found.latency.correct[[0, 1, 5, longest]].tolist() == want
    assert np.array_equal(found.predictions, evaluate(StreamModule(deployed), loader).predictions)
