"""Operations are those of a deployment written as loops, which counts what it does."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode,
    SimpleEnergyCostConfig,
    SynOpCounter,
)
from torch import Tensor, nn

from snn_delays.analysis import activity, operations
from snn_delays.nn import DelayedLinear, Network, build_network
from snn_delays.nn.network import Block
from snn_delays.nn.neurons import build_neuron
from snn_delays.nn.readout import Readout
from tests.nn.test_network import small

TAU, TAPS, EXTRA = 2.0, 3, 1
# [O, I, C]: one weight is 0. The first copies alone make the network with kernel_count 1.
HIDDEN = [[[1.2, 0.4], [0.0, 0.9]], [[0.6, -0.3], [1.1, 0.5]]]
HIDDEN_DELAY = [[[0.0, 1.0], [1.4, 2.0]], [[2.0, 0.5], [0.6, 1.5]]]
READOUT = [[[0.7, -0.2], [-1.0, 0.1]], [[0.3, 0.8], [0.5, 0.0]]]
READOUT_DELAY = [[[2.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [2.0, 1.0]]]
# [B, T, I]
SPIKES = [[[1, 0], [0, 1], [0, 0], [1, 1]], [[0, 0], [1, 0], [1, 0], [0, 0]]]
SIGNED = [[[1, 0], [0, -1], [0, 0], [1, 1]], [[0, 0], [1, 0], [-1, 0], [0, 0]]]
COUNTS = [[[1, 0], [0, 2], [0, 0], [1, 1]], [[0, 0], [1, 0], [1, 0], [0, 0]]]
REAL = [[[0.5, 0], [0, 2], [0.1, 0], [1, 1]], [[-0.3, 0], [1, 0], [1, 0], [0, 0]]]
INPUTS: dict[str, tuple[Any, int]] = {  # and the bits that one of their values needs
    "spikes": (SPIKES, 1),
    "signed": (SIGNED, 32),
    "counts": (COUNTS, 32),
    "real": (REAL, 32),
}


def linear(weight: Any, delay: Any, kernel_count: int) -> DelayedLinear:
    made = DelayedLinear(2, 2, taps=TAPS, kernel_count=kernel_count, extra_steps=EXTRA)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight)[..., :kernel_count])
        made.delay.copy_(torch.tensor(delay)[..., :kernel_count])
    return made


def node(v_threshold: float) -> nn.Module:
    return build_neuron(
        "lif",
        tau=TAU,
        v_threshold=v_threshold,
        surrogate_alpha=5.0,
        store_membrane=math.isinf(v_threshold),
    )


def handmade(kernel_count: int, filter: nn.Module | None = None) -> Network:
    rest = (nn.Identity(), node(1.0), nn.Identity(), filter or nn.Identity())
    block = Block(linear(HIDDEN, HIDDEN_DELAY, kernel_count), *rest)
    readout = Readout(linear(READOUT, READOUT_DELAY, kernel_count), node(math.inf), "sum")
    return Network([block], readout).double()


def as_input(samples: Any) -> Tensor:
    return torch.tensor(samples, dtype=torch.float64).transpose(0, 1)


def count(network: Network, samples: Any) -> operations.Operations:
    return operations.count_operations(network, activity.record(network, as_input(samples)))


def deploy(
    frames: Any, weight: Any, delay: Any, kernel_count: int, v_threshold: float
) -> tuple[list[list[int]], Counter[str]]:
    """One layer and one sample, event by event: spikes [T][O], and what was done."""
    done: Counter[str] = Counter()
    steps = len(frames) + EXTRA
    current = [[0.0, 0.0] for _ in range(steps)]
    for t, frame in enumerate(frames):
        for i, value in enumerate(frame):
            for o in range(2):
                for c in range(kernel_count):
                    done["dense"] += 1
                    if value == 0 or weight[o][i][c] == 0:
                        continue
                    done["effective"] += 1
                    arrival = t + round(delay[o][i][c])
                    if arrival < steps:
                        current[arrival][o] += weight[o][i][c] * value
                    else:
                        done["late"] += 1
    v, spikes = [0.0, 0.0], []
    for t in range(steps):
        for o in range(2):
            done["updates"] += 1
            v[o] += current[t][o] - v[o] / TAU
        spikes.append([int(v[o] >= v_threshold) for o in range(2)])
        v = [0.0 if fired else old for fired, old in zip(spikes[-1], v, strict=True)]
        done["spikes"] += sum(spikes[-1])
    return spikes, done


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("kernel_count", [1, 2])
def test_every_count_is_that_of_the_loops(kernel_count: int, kind: str) -> None:
    samples, bits = INPUTS[kind]
    network = handmade(kernel_count)
    recorded = activity.record(network, as_input(samples))
    hidden: Counter[str] = Counter()
    readout: Counter[str] = Counter()
    for b, frames in enumerate(samples):
        spikes, done = deploy(frames, HIDDEN, HIDDEN_DELAY, kernel_count, 1.0)
        assert recorded.spikes[0][:, b].tolist() == spikes
        hidden += done
        readout += deploy(spikes, READOUT, READOUT_DELAY, kernel_count, math.inf)[1]
    assert hidden["late"]
    assert readout["effective"]

    counted = operations.count_operations(network, recorded)
    first, last = counted.layers
    assert [first.name, last.name, counted.name] == ["hidden layer 1", "readout", "all"]
    is_spiking = kind in ("spikes", "signed")
    for row, done, acs in ((first, hidden, is_spiking), (last, readout, True)):
        assert (row.acs if acs else row.macs) == done["effective"] / len(samples)
        assert (row.macs if acs else row.acs) == 0
        assert row.dense == done["dense"] / len(samples)
        assert row.neuron_updates == done["updates"] / len(samples)
        assert row.spikes == done["spikes"] / len(samples)
    assert first.activation_sparsity == 1 - hidden["spikes"] / hidden["updates"]
    assert counted.activation_sparsity == first.activation_sparsity
    assert math.isnan(last.activation_sparsity)
    assert first.history_bytes == {1: 1, 32: 2 * TAPS * 4}[bits]  # 6 bits; 6 float32
    assert last.history_bytes == 1
    for name in ("acs", "macs", "dense", "neuron_updates", "spikes", "history_bytes"):
        assert getattr(counted, name) == getattr(first, name) + getattr(last, name)


@pytest.mark.parametrize("kernel_count", [1, 2])
def test_memory_and_sparsity_of_connections(kernel_count: int) -> None:
    counted = count(handmade(kernel_count), SPIKES)
    weights = [
        row[i][c] for row in (*HIDDEN, *READOUT) for i in range(2) for c in range(kernel_count)
    ]
    assert counted.synapses == counted.weights == counted.delays == len(weights)
    assert counted.zero_synapses == weights.count(0.0) == kernel_count
    assert counted.connection_sparsity == weights.count(0.0) / len(weights)
    assert counted.footprint_bytes == 2 * len(weights) * 8  # weights and delays in float64
    assert [row.accumulator_bytes for row in counted.layers] == [2 * TAPS * 4] * 2
    delays = [[[row[i][:kernel_count] for row in d] for i in range(2)]
              for d in (HIDDEN_DELAY, READOUT_DELAY)]  # fmt: skip
    longest = [sum(1 + round(max(max(row) for row in of)) for of in layer) for layer in delays]
    assert [row.buffer_steps for row in counted.layers] == longest


def test_footprint_holds_every_parameter_and_buffer() -> None:
    network = build_network(small(), 4)
    state = network.state_dict()
    parts = [part for name, part in state.items() if not name.endswith("_extra_state")]
    counted = operations.count_operations(network, activity.record(network, torch.ones(5, 2, 10)))
    assert counted.footprint_bytes == sum(part.numel() * part.element_size() for part in parts)
    assert len(counted.layers) == 3


@pytest.mark.parametrize("delays", ["learned", "fixed", "none"])
def test_what_a_mask_removes_costs_nothing(delays: str) -> None:
    torch.manual_seed(0)
    network = handmade(2)
    masked = DelayedLinear(2, 2, taps=3, kernel_count=2, delays=delays, density=0.5, extra_steps=1)
    assert masked.mask is not None
    masked.mask.copy_(torch.tensor([[[True], [False]], [[True], [False]]]))
    nn.init.ones_(masked.weight)
    masked.constrain()
    network.blocks[0].linear = masked.double()  # nothing leaves the second input
    (first, _) = count(network, SPIKES).layers
    events = sum(frame[0] for frames in SPIKES for frame in frames)
    assert first.acs == events * 2 * 2 / len(SPIKES)
    assert (first.synapses, first.zero_synapses, first.weights) == (8, 4, 4)
    assert first.delays == (0 if delays == "none" else 4)


def test_a_synaptic_filter_makes_macs() -> None:
    network = handmade(1, layer.SynapseFilter(tau=4.0, step_mode="m"))
    recorded = activity.record(network, as_input(SPIKES))
    (first, last) = operations.count_operations(network, recorded).layers
    fan_out = [sum(READOUT[o][i][0] != 0 for o in range(2)) for i in range(2)]
    expected = 0
    for train in recorded.spikes[0].permute(1, 2, 0).reshape(4, -1).tolist():  # [B N, T]
        if 1 in train:  # the filter's output is above 0 from the first spike on
            expected += (len(train) - train.index(1)) * fan_out[0]
    assert fan_out[0] == fan_out[1]
    assert expected
    assert (last.acs, last.macs) == (0, expected / 2)
    assert last.history_bytes == 2 * TAPS * 4
    assert first.macs == 0


def test_energy_is_that_of_spikingjellys_constants() -> None:
    counted = count(handmade(1), COUNTS)
    (first, last) = counted.layers
    cost = SimpleEnergyCostConfig.fp32()
    assert first.energy_estimate_pj == pytest.approx(
        (first.macs + first.neuron_updates) * cost.e_mac_pj
    )
    assert last.energy_estimate_pj == pytest.approx(
        last.acs * cost.e_ac_pj + last.neuron_updates * cost.e_mac_pj
    )
    assert counted.energy_estimate_pj == pytest.approx(
        first.energy_estimate_pj + last.energy_estimate_pj
    )


def test_operations_are_those_that_spikingjelly_counts() -> None:
    """Without delays and zeros a layer is a plain linear map, which its counter knows."""
    torch.manual_seed(0)
    network = handmade(1)
    network.blocks[0].linear = DelayedLinear(2, 2, taps=1, delays="none", extra_steps=1).double()
    (first, _) = count(network, SPIKES).layers
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        nn.Linear(2, 2, bias=False).double()(as_input(SPIKES).flatten(0, 1))
    assert first.acs == counter.get_total() / len(SPIKES)


def test_the_table_has_a_row_per_layer_and_one_for_all() -> None:
    counted = count(handmade(2), COUNTS)
    frame = operations.table(counted)
    assert list(frame.index) == ["hidden layer 1", "readout", "all"]
    whole = ["synapses", "zero_synapses", "connection_sparsity", "weights", "delays"]
    whole += ["footprint_bytes", "accumulator_bytes", "history_bytes", "buffer_steps"]
    whole += ["activation_sparsity"]
    per_sample = ["spikes", "acs", "macs", "dense", "neuron_updates", "energy_estimate_pj"]
    names = {name: name for name in whole} | {f"{name}_per_sample": name for name in per_sample}
    assert list(frame.columns) == list(names)
    for column, attribute in names.items():
        assert frame.loc["all", column] == getattr(counted, attribute)
        assert frame.loc["hidden layer 1", column] == getattr(counted.layers[0], attribute)
    assert frame.loc["readout", "macs_per_sample"] == 0
