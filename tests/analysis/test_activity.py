"""What is recorded is what a plain recurrence does, and recording leaves no trace."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from snn_delays.analysis import activity
from snn_delays.nn import Network, build_network
from tests.analysis import handmade
from tests.analysis.handmade import CLASSES, FRAMES
from tests.nn.test_network import small, spikes


def nodes(network: Network) -> list[Any]:
    return [*(block.neuron for block in network.blocks), network.readout.neuron]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kernel_count", [1, 2])
@pytest.mark.parametrize("hidden", [1, 2])
def test_spikes_and_membranes_are_those_of_the_loops(hidden, kernel_count, masked) -> None:
    shape = {"hidden": hidden, "kernel_count": kernel_count, "masked": masked}
    x = handmade.as_input()
    recorded = activity.record(handmade.subject(**shape).network, x)
    assert recorded.input is x
    assert len(recorded.spikes) == len(recorded.membranes) == hidden
    fired = 0
    for b, frames in enumerate(FRAMES):
        *layers, readout = handmade.play_network(handmade.synapses(**shape), frames, hidden)
        for played, spiked, membranes in zip(
            layers, recorded.spikes, recorded.membranes, strict=True
        ):
            assert spiked[:, b].tolist() == played.spikes
            for mine, theirs in zip(membranes[:, b].tolist(), played.membranes, strict=True):
                assert mine == pytest.approx(theirs, abs=1e-12)
            fired += sum(map(sum, played.spikes))
        for mine, theirs in zip(recorded.readout[:, b].tolist(), readout.membranes, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-12)
        scores = [0.0, 0.0]
        for v in readout.membranes:
            total = sum(map(math.exp, v))
            scores = [s + math.exp(u) / total for s, u in zip(scores, v, strict=True)]
        assert recorded.scores[b].tolist() == pytest.approx(scores)
        assert recorded.predictions[b] == scores.index(max(scores))
    assert fired > 3


@pytest.mark.parametrize("readout", ["sum", "spike_count"])
@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_membranes_follow_the_recurrence_behind_batch_norm(neuron, readout) -> None:
    config = small(neuron=neuron, readout=readout, readout_threshold=0.3, tau_ms=20.0)
    network = build_network(config, 4).double()
    x, currents = spikes(T=30).double(), []
    network(x)  # running statistics that are not the ones it starts from
    hook = network.blocks[1].norm.register_forward_hook(lambda *call: currents.append(call[2]))
    recorded = activity.record(network, x)
    hook.remove()
    v = torch.zeros_like(currents[0][0])
    for t, current in enumerate(currents[0]):
        v = v + current - v / 2
        fired = v >= 1
        assert torch.equal(recorded.spikes[1][t] == 1, fired)
        v = torch.where(fired, 0, v)
        torch.testing.assert_close(recorded.membranes[1][t], v)
    assert recorded.spikes[1].sum() > 0
    network.eval()
    with torch.no_grad():
        assert torch.equal(recorded.scores, network(x))
    assert not recorded.scores.requires_grad


def noted(network: Network) -> dict[str, Any]:
    """All of a network that a recording could leave changed."""
    return {
        "training": [module.training for module in network.modules()],
        "stored": [node.store_v_seq for node in nodes(network)],
        "hooks": [len(module._forward_hooks) for module in network.modules()],
        "state": copy.deepcopy(network.state_dict()),
        "grads": [p.grad for p in network.parameters()],
        "random": torch.get_rng_state(),
    }


def check_unchanged(network: Network, before: dict[str, Any]) -> None:
    after = noted(network)
    assert torch.equal(after.pop("random"), before["random"])
    state = after.pop("state")
    assert all(torch.equal(value, before["state"][name]) for name, value in state.items())
    assert after == {name: before[name] for name in after}


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_it_was(training) -> None:
    network = build_network(small(), 4).train(training)
    network.blocks[1].neuron.store_v_seq = True
    network.blocks[0].neuron.register_forward_hook(lambda *call: None)
    before = noted(network)
    activity.record(network, spikes())
    check_unchanged(network, before)
    assert before["stored"] == [False, True, True]
    assert network.blocks[0].neuron.v_seq is None  # not kept for as long as the network lives


def test_a_failure_leaves_no_trace() -> None:
    network = build_network(small(), 4).train()
    before = noted(network)
    with pytest.raises(ValueError, match="must be"):
        activity.record(network, spikes()[..., :7])
    check_unchanged(network, before)


def test_training_goes_on_as_if_nothing_had_been_recorded() -> None:
    gradients = []
    for recording in (False, True):
        torch.manual_seed(0)
        network = build_network(small(dropout=0.0), 4).train()
        if recording:
            activity.record(network, spikes(seed=3))
        network(spikes()).logsumexp(1).sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_rates_are_spikes_per_step() -> None:
    recorded = activity.record(handmade.subject(kernel_count=2).network, handmade.as_input())
    found = handmade.synapses(kernel_count=2)
    played = [handmade.play_network(found, frames)[0].spikes for frames in FRAMES]
    steps = len(FRAMES) * len(played[0])
    expected = [sum(row[n] for one in played for row in one) / steps for n in range(len(CLASSES))]
    assert activity.rates(recorded.spikes[0]).tolist() == pytest.approx(expected)
    assert expected[0] != expected[1]
