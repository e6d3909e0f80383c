"""The whole network against the same network assembled from dcls, SpikingJelly and torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scripts.reference.network import ReferenceNetwork, reference_optimizers
from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import sigma_at

RTOL = 1e-8


def configure(taps=9, count=1, dropout=0.4, epochs=20) -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = 70, 5
    config.model.hidden, config.model.taps, config.model.kernel_count = [24, 20], taps, count
    config.model.dropout, config.model.tau_ms = dropout, 15.0
    config.train.epochs = epochs
    return config


def pair(config: Config) -> tuple[Network, ReferenceNetwork]:
    torch.manual_seed(3)
    ours = build_network(config, 6).double()
    ours.set_sigma(2.0)
    theirs = ReferenceNetwork(
        [14, *config.model.hidden, 6],
        config.model.taps,
        config.model.kernel_count,
        config.tau,
        config.model.dropout,
        (config.model.taps - 1) // 2,
    ).double()
    theirs.copy_from(ours)
    return ours, theirs


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.poisson(torch.full((30, 8, 14), 0.3), generator=g).double()
    return x, torch.randint(6, (8,), generator=g)


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Relative to the largest entry."""
    assert (ours - theirs).abs().max() <= RTOL * theirs.abs().max()


@pytest.mark.parametrize(("taps", "count"), [(9, 1), (25, 1), (31, 2)])
def test_logits_and_gradients(taps, count) -> None:
    ours, theirs = pair(configure(taps, count))
    x, y = batch(0)
    scores = []
    for network in (ours, theirs):
        torch.manual_seed(1)  # the same dropout masks
        scores.append(network(x))
        F.cross_entropy(scores[-1], y).backward()
    assert_near(*scores)
    for mine, other in zip(ours.delayed_layers(), theirs.maps, strict=True):
        assert_near(mine.weight.grad, other.weight.grad)
        assert_near(mine.delay.grad, -other.P.grad[0])
    for block, norm in zip(ours.blocks, theirs.norms, strict=True):
        assert_near(block.norm.weight.grad, norm.weight.grad)
        assert_near(block.norm.bias.grad, norm.bias.grad)
        assert_near(block.norm.running_mean, norm.running_mean)
        assert_near(block.norm.running_var, norm.running_var)


def test_twenty_steps_of_training() -> None:
    config = configure(taps=15)
    ours, theirs = pair(config)
    optimizers = build_optimizers(ours, config.train)
    reference, schedules = reference_optimizers(theirs, config)
    sig = 15 // 2  # DCLS's SIG, shrunk after every epoch as the method states it
    for epoch in range(20):  # an epoch of one step
        x, y = batch(epoch)
        ours.set_sigma(sigma_at(epoch, config))
        for m in theirs.maps:
            torch.nn.init.constant_(m.SIG, sig)
        losses = []
        for network, optimisers in ((ours, optimizers.optimizers.values()), (theirs, reference)):
            torch.manual_seed(100 + epoch)
            for optimizer in optimisers:
                optimizer.zero_grad()
            losses.append(F.cross_entropy(network(x), y))
            losses[-1].backward()
            for optimizer in optimisers:
                optimizer.step()
        ours.constrain()
        theirs.clamp()
        assert_near(*losses)
        optimizers.end_epoch()
        for schedule in schedules:
            schedule.step()
        if epoch < 20 // 4 and sig > 0.23:
            sig *= (0.23 / (15 // 2)) ** (1 / (20 // 4))
    for mine, other in zip(ours.delayed_layers(), theirs.maps, strict=True):
        assert_near(mine.weight, other.weight)
        assert_near(mine.delay, 15 // 2 - other.P[0])
    for block, norm in zip(ours.blocks, theirs.norms, strict=True):
        assert_near(block.norm.weight, norm.weight)
        assert_near(block.norm.bias, norm.bias)
