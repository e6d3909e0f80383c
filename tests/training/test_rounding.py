"""The last epochs with rounded, frozen delays; delays whose gradient is straight-through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snn_delays.config import Config, validate
from snn_delays.errors import UserError
from snn_delays.training.checkpoint import read_checkpoint
from snn_delays.training.loop import Training
from snn_delays.training.run import train
from snn_delays.training.schedules import is_rounded
from tests.training.test_resume import assert_same_run, metrics, reference, train_for  # noqa: F401


@pytest.mark.parametrize(
    ("epochs", "share", "first"),
    [(4, 0.0, 4), (4, 0.25, 3), (10, 0.25, 8), (3, 0.5, 1), (5, 1.0, 0), (150, 0.1, 135)],
)
def test_the_share_of_the_last_epochs(epochs, share, first) -> None:
    config = Config()
    config.train.epochs, config.train.round_epochs = epochs, share
    assert [n for n in range(epochs) if is_rounded(n, config)] == list(range(first, epochs))


@pytest.mark.parametrize("kind", ["synaptic", "axonal", "dendritic"])
def test_delays_stay_rounded_while_weights_train_on(kind, small_config, monkeypatch) -> None:
    config = small_config(epochs=4, round_epochs=0.5, protocol="last", weight_schedule="constant")
    config.model.delay_type = kind
    seen = []
    real = Training.end_epoch

    def end_epoch(training):
        linear = training.network.blocks[0].linear
        norm = training.network.blocks[0].norm
        seen.append([t.detach().clone() for t in (linear.delay, linear.weight, norm.weight)])
        real(training)

    monkeypatch.setattr(Training, "end_epoch", end_epoch)
    lines = metrics(train(config)["out"])
    assert [line["delays_rounded"] for line in lines] == [False, False, True, True]
    delays, weights, scales = zip(*seen, strict=True)
    assert not torch.equal(delays[1], delays[1].round())
    assert torch.equal(delays[2], delays[1].round())
    assert torch.equal(delays[3], delays[2])
    assert not torch.equal(weights[3], weights[2])
    assert not torch.equal(scales[3], scales[2])
    model = read_checkpoint(Path(config.out), "last")["model"]
    assert torch.equal(model["blocks.0.linear.delay"], delays[3])


def test_without_it_the_metrics_say_nothing_of_it(small_config) -> None:
    assert all("delays_rounded" not in line for line in metrics(train(small_config())["out"]))


@pytest.mark.parametrize("kind", ["synaptic", "axonal"])
def test_it_goes_on_from_any_batch(kind, reference, monkeypatch) -> None:  # noqa: F811
    whole, config = reference(), reference(name="stopped")
    for each in (whole, config):
        each.train.round_epochs, each.model.delay_type = 0.5, kind
        each.train.delay_gradient = "straight_through"
    train(whole)
    config.resume = "auto"
    for batches in (3, 7, 1, 2):  # 5 batches an epoch: the last two stop among rounded delays
        train_for(batches, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)


@pytest.mark.parametrize("delays", ["fixed", "none", "dense"])
@pytest.mark.parametrize(
    ("key", "value"), [("round_epochs", 0.25), ("delay_gradient", "straight_through")]
)
def test_it_needs_learned_delays(delays, key, value) -> None:
    config = Config()
    config.model.delays = delays
    setattr(config.train, key, value)
    words = f"train.{key}={value} has no use with model.delays={delays} and model.recurrent=none"
    with pytest.raises(UserError, match=words):
        validate(config)
