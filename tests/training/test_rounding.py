"""The last epochs with rounded, frozen delays; delays whose gradient is straight-through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snn_delays.config import Config, validate
from snn_delays.data.dataset import load_data
from snn_delays.errors import UserError
from snn_delays.evaluate import Score, Unrounded
from snn_delays.nn.delays import HasDelays
from snn_delays.training import run as run_module
from snn_delays.training.checkpoint import load_run, read_checkpoint
from snn_delays.training.loop import Training, build_loader
from snn_delays.training.rounding_cost import describe_cost
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


# ---- what rounding after training costs --------------------------------------------------------


def test_the_accuracy_before_rounding_is_that_of_wide_taps(small_config) -> None:
    config = small_config(epochs=2, sigma_end=2.0, sigma_schedule="constant")
    config.model.recurrent, config.model.recurrent_dropout = "learned", 0.5
    result = train(config)
    run = load_run(config.out)
    data = load_data(config)
    loader = build_loader(config, data.valid, run.meta.steps, torch.device("cpu"))
    batch = next(iter(loader.epoch()))
    network = run.network.eval()
    rounded = network(batch.x)
    for module in network.modules():
        if isinstance(module, HasDelays):
            module.train()
            module.dropout = torch.nn.Identity()
    scores = network(batch.x)
    assert not torch.allclose(scores, rounded)
    wide = Unrounded(load_run(config.out).network).eval()
    assert torch.equal(wide(batch.x), scores)
    right = int((scores.argmax(1) == batch.y).sum())
    assert len(batch.y) == result["valid"]["n"]
    assert Score.from_dict(result["valid_before_rounding"]) == Score(right, len(batch.y))


@pytest.mark.parametrize(
    "options",
    [{"protocol": "last"}, {"protocol": "refit"}, {"round_epochs": 1.0}, {"delays": "fixed"}],
)
def test_nothing_is_said_where_nothing_is_rounded_or_held_out(options, small_config) -> None:
    config = small_config(epochs=1)
    for name, value in options.items():
        setattr(config.model if name == "delays" else config.train, name, value)
    assert "valid_before_rounding" not in train(config)


def test_rounding_that_costs_much_is_reported(small_config, monkeypatch, capsys) -> None:
    assert describe_cost(Score(50, 100), Score(49, 100)) == ""
    before = Score(12, 12)
    monkeypatch.setattr(run_module, "accuracy_before_rounding", lambda *_: before)
    result = train(small_config(epochs=1))
    after = Score.from_dict(result["valid"])
    line = describe_cost(before, after)
    assert (
        f"points of validation accuracy (100.0% before, {after.accuracy:.1%} after, n = 12)" in line
    )
    assert line in capsys.readouterr().out
