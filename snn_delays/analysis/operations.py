"""What a deployed network costs: operations, memory and an estimate of energy.

Definitions are NeuroBench's (Yik et al. 2023, arXiv 2304.04640, and its harness), for a network
with delays rounded to whole steps in which every spike is scattered along its synapses:

- Effective operations: one for each input that is not 0 and each synapse that leaves it; a bin that
  holds several spikes is one input. Which kind they are is decided for a layer as a whole: ACs if
  all its inputs are -1, 0 or 1; else MACs, all of them. NeuroBench decides so for each call of the
  layer, that is each batch; here it is decided once, over all samples and steps given. One frame
  with two spikes in a bin thus makes MACs of the first layer's operations.
- Dense operations: every input x output x copy x step, zeros of inputs and weights included.
- A synapse is one of the ``kernel_count`` copies. One of weight 0, by a mask or by pruning, is not
  there in a deployment and costs nothing; it is what connection sparsity counts.

Recurrent connections are synapses of their layer; its neurons' spikes are their inputs.

Choices where NeuroBench has no delays: a spike that would arrive after the last step counts, since
it was scattered; two copies that round to one delay are two synapses. Membranes are updated at
every step, as in a deployment driven by a clock; NeuroBench leaves out updates that change nothing.
Biases and BatchNorm, which a deployment folds into weights and membranes, are no operations, and
neither is the leak of a synaptic filter. Zeros that pad a sample cost membrane updates, no ACs.

Numbers that depend on activity are per sample: the mean over the samples given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyCostConfig
from torch import Tensor, nn

from snn_delays.analysis.activity import Activity
from snn_delays.analysis.trained_run import layer_names
from snn_delays.nn import DelayedLinear, Network
from snn_delays.nn.network import Block
from snn_delays.nn.recurrence import Recurrence

ACCUMULATOR_BYTES = 4  # a float32

COUNTED = ("synapses", "zero_synapses", "connection_sparsity", "weights", "delays")
STORED = ("footprint_bytes", "accumulator_bytes", "history_bytes", "buffer_steps")
PER_SAMPLE = ("spikes", "acs", "macs", "dense", "neuron_updates", "energy_estimate_pj")


@dataclass(frozen=True)
class LayerOperations:
    """Costs of one layer: a delayed linear map and its neurons.

    Attributes:
        name: of the layer.
        synapses: places for one, O x I x C.
        zero_synapses: those of weight 0.
        weights: numbers to store; those that a mask removes are not.
        delays: numbers to store, where delays are learned or fixed: one for each weight, or for
            each input or neuron that shares it; else they need no storing.
        footprint_bytes: of all parameters and buffers that a checkpoint holds, as torch has them.
        accumulator_bytes: of a ring buffer of sums yet to arrive: outputs x taps float32, and, of
            recurrent connections, neurons x longest delay.
        history_bytes: of the alternative, the inputs of the last ``taps`` steps: inputs x taps, a
            bit each where all inputs given are 0 or 1, else a float32 each; and the neurons'
            spikes of as many steps as the longest recurrent delay, a bit each.
        buffer_steps: of a history that keeps each input for the longest delay of its own synapses,
            and each neuron with recurrent connections for its delay: ``Network.buffer_steps``.
        spikes: emitted, per sample; 0 for the readout.
        spike_chances: neurons x steps at which there could be one; 0 for the readout.
        acs: effective accumulates, per sample.
        macs: effective multiply-accumulates, per sample.
        dense: what ``acs + macs`` would be without sparsity.
        neuron_updates: membranes x steps, per sample.
    """

    name: str
    synapses: int
    zero_synapses: int
    weights: int
    delays: int
    footprint_bytes: int
    accumulator_bytes: int
    history_bytes: int
    buffer_steps: int
    spikes: float
    spike_chances: int
    acs: float
    macs: float
    dense: int
    neuron_updates: int

    @property
    def connection_sparsity(self) -> float:
        """Share of synapses whose weight is 0."""
        return self.zero_synapses / self.synapses

    @property
    def activation_sparsity(self) -> float:
        """Share of neuron-steps of hidden layers without a spike; NaN for the readout."""
        return 1 - self.spikes / self.spike_chances if self.spike_chances else float("nan")

    @property
    def energy_estimate_pj(self) -> float:
        """ESTIMATE of the energy of a sample, in pJ: arithmetic alone, no memory traffic.

        SpikingJelly's constants (Horowitz 2014: float32, 45 nm) for ACs and MACs of synapses; an
        update of a membrane, leak and sum, is a MAC.
        """
        cost = SimpleEnergyCostConfig()
        return cost.e_ac_pj * self.acs + cost.e_mac_pj * (self.macs + self.neuron_updates)


@dataclass(frozen=True)
class Operations(LayerOperations):
    """Costs of a whole network: sums over its layers, under the name "all".

    Attributes:
        layers: from input to output, the readout last.
    """

    layers: list[LayerOperations]


@torch.no_grad()
def count_operations(network: Network, activity: Activity) -> Operations:
    """Count what a deployed network does with samples, and what it has to store.

    Args:
        network: with any number of layers; a synaptic filter in it makes MACs of the next layer.
        activity: what ``activity.record`` gave for this network.
    """
    layers = list(_layers(network, activity))
    sums: dict[str, Any] = {
        field.name: sum(getattr(layer, field.name) for layer in layers)
        for field in fields(LayerOperations)
        if field.name != "name"
    }
    return Operations(name="all", layers=layers, **sums)


def table(operations: Operations) -> pd.DataFrame:
    """A row for each layer, its name being the index, and a row "all".

    Returns:
        Columns named as the attributes of ``LayerOperations``, which say what they mean; those
        that are per sample end in ``_per_sample``.
    """
    rows = [*operations.layers, operations]
    names = {name: name for name in (*COUNTED, *STORED, "activation_sparsity")}
    names |= {f"{name}_per_sample": name for name in PER_SAMPLE}
    values = {column: [getattr(row, name) for row in rows] for column, name in names.items()}
    return pd.DataFrame(values, index=pd.Index([row.name for row in rows], name="layer"))


def _layers(network: Network, activity: Activity) -> Iterator[LayerOperations]:
    parts = [*network.blocks, network.readout]
    emitted = [*activity.spikes, torch.zeros_like(activity.readout)]
    inputs = _inputs(network, activity)
    rows = zip(layer_names(network), parts, inputs, emitted, strict=True)
    for name, part, x_TBI, spikes_TBO in rows:
        steps, batch, outputs = spikes_TBO.shape
        yield LayerOperations(
            name=name,
            footprint_bytes=_footprint(part),
            spikes=int(spikes_TBO.count_nonzero()) / batch,
            spike_chances=0 if part is network.readout else steps * outputs,
            neuron_updates=steps * outputs,
            **_with_recurrence(
                _memory(part.linear, x_TBI) | _synaptic(part.linear, x_TBI),
                getattr(part, "recurrence", None),
                spikes_TBO,
            ),
        )


def _inputs(network: Network, activity: Activity) -> list[Tensor]:
    """What comes into each layer, [T, B, I]: the input, then spikes, filtered if they are."""
    inputs = [activity.input]
    for block, spikes in zip(network.blocks, activity.spikes, strict=True):
        assert isinstance(block, Block)
        functional.reset_net(block.filter)
        inputs.append(block.filter(spikes))
    return inputs


def _memory(linear: DelayedLinear, x_TBI: Tensor) -> dict[str, int]:
    outputs, inputs, kernel_count = linear.weight.shape
    pairs = outputs * inputs if linear.mask is None else int(linear.mask.sum())
    weights = pairs * kernel_count
    bits = 1 if _among(x_TBI, 0, 1) else 8 * ACCUMULATOR_BYTES
    return {
        "synapses": linear.weight.numel(),
        "zero_synapses": int((linear.weight == 0).sum()),
        "weights": weights,
        "delays": int(linear.delay_exists.sum()) if linear.delays in ("learned", "fixed") else 0,
        "accumulator_bytes": outputs * linear.taps * ACCUMULATOR_BYTES,
        "history_bytes": -(-inputs * linear.taps * bits // 8),  # rounded up
        "buffer_steps": int(linear.buffer_steps.sum()),
    }


def _synaptic(linear: DelayedLinear, x_TBI: Tensor) -> dict[str, Any]:
    steps, batch, _ = x_TBI.shape
    events_I = x_TBI.count_nonzero((0, 1))
    fan_out_I = linear.weight.count_nonzero((0, 2))
    effective = int((events_I * fan_out_I).sum()) / batch
    spiking = _among(x_TBI, -1, 0, 1)
    return {
        "acs": effective if spiking else 0.0,
        "macs": 0.0 if spiking else effective,
        "dense": steps * linear.weight.numel(),
    }


def _with_recurrence(
    costs: dict[str, Any], recurrence: Recurrence | None, spikes_TBN: Tensor
) -> dict[str, Any]:
    """A layer's costs, those of its recurrent connections included."""
    if recurrence is None:
        return costs
    steps, batch, neurons = spikes_TBN.shape
    weight, steps_N = recurrence.weight, recurrence.buffer_steps
    longest = int(steps_N.max())
    effective = int((spikes_TBN.count_nonzero((0, 1)) * weight.count_nonzero(0)).sum()) / batch
    own = {
        "synapses": weight.numel(),
        "zero_synapses": int((weight == 0).sum()),
        "weights": weight.numel(),
        "delays": 0 if recurrence.delays == "undelayed" else neurons,
        "accumulator_bytes": neurons * longest * ACCUMULATOR_BYTES,
        "history_bytes": -(-neurons * longest // 8),
        "buffer_steps": int(steps_N.sum()),
        "acs": effective,
        "dense": steps * weight.numel(),
    }
    return {name: value + own.get(name, 0) for name, value in costs.items()}


def _among(x: Tensor, *values: int) -> bool:
    return bool(torch.isin(x, torch.tensor(values, dtype=x.dtype, device=x.device)).all())


def _footprint(module: nn.Module) -> int:
    """Bytes of parameters and buffers; the width of delays in training is no part of it."""
    state = module.state_dict()
    return sum(
        t.numel() * t.element_size()
        for name, t in state.items()
        if not name.endswith("_extra_state")
    )
