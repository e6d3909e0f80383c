"""Running scores, and the loss on them, against the scores of what came so far."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.config import Config, TrainConfig
from snn_delays.data.loaders import Batch
from snn_delays.nn import Network, build_network
from snn_delays.nn.readout import RUNNING_SCORES, SCORES
from snn_delays.training.step import compute_gradients

CLASSES = 3


def peak_above_mean(v_TBK):
    """A readout of a user's own."""
    return v_TBK.amax(0) - v_TBK.mean(0)


def network_of(readout: str) -> Network:
    config = Config()
    config.data.units_per_channel, config.model.hidden, config.model.taps = 50, [8], 5
    config.model.v_threshold, config.model.readout_threshold = 0.2, 0.3
    config.model.readout, config.model.dropout = readout, 0.0
    torch.manual_seed(0)
    return build_network(config, CLASSES).double()


def batch_of(samples: int = 4, steps: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(steps, samples, 14, generator=generator) < 0.4).double()
    y = torch.arange(samples) % CLASSES
    return Batch(x, y, y, np.arange(samples))


@pytest.mark.parametrize("readout", [*SCORES, f"{__name__}:peak_above_mean"])
def test_running_scores_are_the_scores_of_what_came_so_far(readout) -> None:
    network, x = network_of(readout).eval(), batch_of().x
    v_TBK: list[torch.Tensor] = []
    network.readout.neuron.register_forward_hook(lambda module, _, out: v_TBK.append(out))
    running = network(x, running=True)
    outputs = v_TBK[0] if readout == "spike_count" else network.readout.neuron.v_seq
    assert running.shape == (len(outputs), 4, CLASSES)
    assert torch.equal(running[-1], network(x))
    for end in range(1, len(outputs) + 1):
        asked = network.readout.scores(outputs[:end])
        torch.testing.assert_close(running[end - 1], asked, rtol=1e-13, atol=1e-13)
    assert not torch.equal(running[0], running[-1])


def test_every_readout_has_running_scores() -> None:
    assert RUNNING_SCORES.keys() == SCORES.keys()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("readout", [*SCORES])
def test_running_loss_and_its_gradients_are_those_of_every_prefix(readout, soft) -> None:
    share, batch = 0.7, batch_of()
    if soft:
        target = torch.rand(4, CLASSES, generator=torch.Generator().manual_seed(2)).double()
        batch = Batch(batch.x, batch.y, target.softmax(1), batch.indices)
    network, oracle = network_of(readout), network_of(readout)
    result = compute_gradients(
        network, batch, "float64", train=TrainConfig(running_loss=share)
    ).values
    outputs: list[torch.Tensor] = []
    oracle.readout.neuron.register_forward_hook(
        lambda module, _, out: outputs.append(out if readout == "spike_count" else module.v_seq)
    )
    scores = oracle(batch.x)
    losses = [
        torch.nn.functional.cross_entropy(SCORES[readout](outputs[0][:end]), batch.target)
        for end in range(1, len(outputs[0]) + 1)
    ]
    loss = share * sum(losses) / len(losses) + (1 - share) * losses[-1]
    loss.backward()
    torch.testing.assert_close(result[0], loss.detach(), rtol=1e-12, atol=0)
    assert result[1] == (scores.argmax(1) == batch.y).sum()
    for (name, mine), theirs in zip(network.named_parameters(), oracle.parameters(), strict=True):
        assert theirs.grad.abs().sum() > 0, name
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-13)


def test_no_share_is_the_usual_loss() -> None:
    usual, batch = network_of("sum"), batch_of()
    result = compute_gradients(usual, batch, "float64").values
    expected = torch.nn.functional.cross_entropy(usual(batch.x), batch.y)
    torch.testing.assert_close(result[0], expected.detach(), rtol=1e-14, atol=0)
