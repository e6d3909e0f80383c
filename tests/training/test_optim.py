"""Learning rates and the width of the Gaussian, as the method states them."""

from __future__ import annotations

import pytest
from torch import nn

from snn_delays.config import Config, TrainConfig
from snn_delays.nn import build_network
from snn_delays.training.adam import Adam
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import sigma_at


def small() -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = 20, 2
    config.model.hidden, config.model.taps = [4], 5
    return config


def rates(config: Config):
    optimizers = build_optimizers(build_network(config, 3), config.train)
    for _ in range(config.train.epochs):
        group = optimizers.optimizers["weight"].param_groups[0]
        yield {**optimizers.learning_rates(), "beta1": group["betas"][0]}
        optimizers.step()
        optimizers.end_epoch()


def test_learning_rates_over_150_epochs() -> None:
    seen = list(rates(small()))
    weight = [r["weight"] for r in seen]
    assert weight[0] == pytest.approx(2e-4)
    assert max(weight) == pytest.approx(5e-3)
    assert weight.index(max(weight)) == 44
    assert weight[-1] == pytest.approx(2e-8)
    assert [seen[e]["beta1"] for e in (0, 44, 149)] == pytest.approx([0.95, 0.85, 0.95])
    assert seen[0]["delay"] == pytest.approx(0.1)
    assert seen[75]["delay"] == pytest.approx(0.05)
    assert seen[149]["delay"] == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("epochs", [1, 2, 3, 10])
def test_short_runs_have_learning_rates_too(epochs) -> None:
    config = small()
    config.train.epochs = epochs
    assert all(0 < r["weight"] <= 5e-3 for r in rates(config))


def test_constant_schedules() -> None:
    config = small()
    config.train.epochs = 5
    config.train.weight_schedule = config.train.delay_schedule = "constant"
    assert [(r["weight"], r["delay"]) for r in rates(config)] == [(5e-3, 0.1)] * 5


def test_weight_decay_spares_batchnorm_bias_and_delays() -> None:
    config = small()
    config.model.neuron, config.model.bias = "plif", True
    network = build_network(config, 3)
    names = {id(p): n for n, p in network.named_parameters()}
    optimizers = build_optimizers(network, config.train).optimizers
    decay = {
        names[id(p)]: group["weight_decay"]
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert set(decay) == set(names.values())
    decayed = {n for n, value in decay.items() if value}
    assert decayed == {
        "blocks.0.linear.weight", "readout.linear.weight", "blocks.0.neuron.w", "readout.neuron.w",
    }  # fmt: skip
    assert {type(o) for o in optimizers.values()} == {Adam}
    assert isinstance(network.blocks[0].linear.delay, nn.Parameter)


def test_weight_decay_spares_adaptive_neurons() -> None:
    config = small()
    config.model.neuron = "silif"
    network = build_network(config, 3)
    decayed, plain = build_optimizers(network, config.train).optimizers["weight"].param_groups
    assert [p.dim() for p in decayed["params"]] == [3, 3]
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 2 + 5 + 1  # BatchNorm, the neurons', the readout's


def test_fixed_delays_have_no_optimizer() -> None:
    config = small()
    config.model.delays = "fixed"
    assert set(build_optimizers(build_network(config, 3), config.train).optimizers) == {"weight"}


def test_sigma_shrinks_as_the_method_states() -> None:
    """SIG <- SIG (0.23 / SIG_0)^(1/E) after each epoch, E = epochs // 4; s = SIG + 0.27."""
    gauss, triangle = Config(), Config()
    triangle.model.delay_kernel = "triangle"
    sig, E = 12.0, 150 // 4
    for epoch in range(150):
        assert sigma_at(epoch, gauss) == pytest.approx(sig + 0.27, rel=1e-12)
        assert sigma_at(epoch, triangle) == pytest.approx(sig + 1, rel=1e-12)
        if epoch < E and sig > 0.23:
            sig *= (0.23 / 12) ** (1 / E)
    assert (sigma_at(149, gauss), sigma_at(149, triangle)) == (0.5, 1.23)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (TrainConfig(epochs=3), [12.27] * 3),
        (TrainConfig(epochs=3, sigma_schedule="constant"), [0.5] * 3),
        (TrainConfig(epochs=3, sigma_epochs=1), [12.27, 0.5, 0.5]),
        (TrainConfig(epochs=8, sigma_epochs=0), [12.27] * 8),
        (TrainConfig(epochs=3, sigma_start=4.27, sigma_epochs=2),
         [4.27, 4 * (0.23 / 4) ** 0.5 + 0.27, 0.5]),
        (TrainConfig(epochs=4, sigma_end=1.27, sigma_epochs=1), [12.27, 1.27, 1.27, 1.27]),
    ],
)  # fmt: skip
def test_sigma_of_other_settings(train, expected) -> None:
    config = Config(train=train)
    assert [sigma_at(e, config) for e in range(train.epochs)] == pytest.approx(expected)


def test_one_tap_has_nothing_to_shrink() -> None:
    config = Config()
    config.model.taps = 1
    assert sigma_at(0, config) == 0.5
