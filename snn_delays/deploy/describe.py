"""From a run, or a network in torch, to its ``Deployed`` description."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from snn_delays.config import Config
from snn_delays.config.schema import ARITHMETICS
from snn_delays.deploy.network import PARAMETERS, Deployed, FrontEnd, Layer, Neurons, Recurrent
from snn_delays.deploy.quantise import quantise
from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, Network
from snn_delays.nn.block import Block
from snn_delays.nn.neurons import ScannedNode
from snn_delays.nn.readout import SCORES, Readout
from snn_delays.nn.stock import is_stock
from snn_delays.nn.sync import BatchNorm1d, Dropout
from snn_delays.ops.taps import whole_delay
from snn_delays.runtime.device import pick_dtype
from snn_delays.training.checkpoint import LoadedRun, load_run

# The kind of each cell of ``ops.neurons``. Those that never fire charge as those that do.
KINDS = {"li": "lif", "pli": "plif"}
FLOATS = ("float32", "float64")


def from_run(
    run: str | Path,
    *,
    checkpoint: str = "best",
    arithmetic: str | None = None,
    steps: int | None = None,
    weights: str | None = None,
    delays: int | None = None,
) -> Deployed:
    """The network that ``snn-delays evaluate run=<run>`` runs.

    Args:
        run: the run's folder.
        checkpoint: "best", the epoch that the protocol chose, or "last".
        arithmetic: "float32" or "float64": of floats, whatever the run was trained for. A run's
            numbers in float32 become float64 before anything is computed from them, as torch's
            ``network.double()`` does. "plain" or "loihi": of integers, see ``quantise``. None: the
            run's own.
        steps: length that recordings are padded to; None: the run's own.
        weights: what weights are rounded to, see ``quantise``; None: what the run was trained for.
        delays: number of values of delays, from 2 to the number of taps; None: what the run was
            trained for.

    Raises:
        UserError: there is no such run, it is damaged, or an option of it has no deployed form.
        ValueError: there is no such arithmetic.
    """
    loaded = load_run(run, checkpoint)
    network = from_loaded(loaded, arithmetic=arithmetic, weights=weights, delays=delays)
    return network if steps is None else dataclasses.replace(network, steps=steps)


def from_loaded(
    run: LoadedRun,
    *,
    arithmetic: str | None = None,
    weights: str | None = None,
    delays: int | None = None,
) -> Deployed:
    """``from_run`` of a run that is loaded."""
    if arithmetic not in (None, *FLOATS, *ARITHMETICS):
        names = ", ".join((*FLOATS, *ARITHMETICS))
        raise ValueError(f"arithmetic={arithmetic} must be one of {names}.")
    network, meta, own = run.network, run.meta, run.config.model.quantise.weights
    if arithmetic in FLOATS:
        network, own = copy.deepcopy(network).to(pick_dtype(arithmetic)), "float32"
    floats = from_network(network, run.config, meta.classes, meta.steps)
    kind = arithmetic if arithmetic in ARITHMETICS else "plain"
    return quantise(floats, weights or own, delays, kind)


@torch.no_grad()
def from_network(
    network: Network, config: Config, classes: list[str], steps: int | None
) -> Deployed:
    """The deployed network of a network in torch, which stays as it is.

    Args:
        network: as ``build_network`` builds it.
        config: its options, of which those of the data count.
        classes: names, in order of the scores.
        steps: length that recordings are padded to, or None.

    Raises:
        UserError: a part of the network has no deployed form.
    """
    refuse_targets(config)
    network = copy.deepcopy(network).cpu().eval()
    arithmetic = str(next(network.parameters()).dtype).removeprefix("torch.")
    layers = [_hidden(block, n) for n, block in enumerate(network.blocks, 1)]
    layers.append(_readout(network.readout))
    kind, front = network.readout.kind, _front(config)
    return Deployed((*layers,), kind, steps, front, (*classes,), arithmetic)


def refuse_targets(config: Config) -> None:
    """Refuse a network that answers at every step: a deployed network decides on a class."""
    if config.data.target == "per_step":
        raise UserError(
            "The run has data.target=per_step: prediction, export, rounding and limits of hardware"
            " are of networks that decide on a class."
        )


def _front(config: Config) -> FrontEnd:
    data = config.data
    if data.audio:
        return FrontEnd(
            "log_mel", data.step_ms, data.channels, seconds=data.seconds, channel=data.channel
        )
    return FrontEnd(
        "spikes",
        data.step_ms,
        data.channels,
        units=data.units,
        units_per_channel=data.units_per_channel,
        time_unit="s" if data.time_unit == "auto" else data.time_unit,
        arithmetic=config.frame_arithmetic,
    )


def _hidden(block: Any, number: int) -> Layer:
    where = f"Layer {number}"
    if not is_stock(block, Block):
        raise UserError(f"{where} is of a class of its own, which has no deployed form.")
    return Layer(
        **_linear(block.linear, where),
        **_norm(block.norm, block.dropout, where),
        neurons=_neurons(block.neuron, block.linear.weight, where),
        filter_leak=_filter_leak(block.filter, block.linear.weight, where),
        recurrent=_recurrent(block.recurrence),
    )


def _readout(readout: Any) -> Layer:
    if not is_stock(readout, Readout) or readout.kind not in SCORES:
        kind = getattr(readout, "kind", type(readout).__name__)
        raise UserError(
            f"model.readout={kind} is a user's own, which has no deployed form: choose one of"
            f" {', '.join(SCORES)}."
        )
    neurons = _neurons(readout.neuron, readout.linear.weight, "The readout")
    return Layer(**_linear(readout.linear, "The readout"), neurons=neurons)


def _linear(linear: Any, where: str) -> dict[str, Any]:
    if not is_stock(linear, DelayedLinear):
        raise UserError(f"{where} has no DelayedLinear of this package: it has no deployed form.")
    synapses = linear.synapses()
    return {
        "weight": _array(synapses.weight),
        "delay": whole_delay(synapses.delay, linear.taps).numpy().astype(np.int32),
        "taps": linear.taps,
        "extra_steps": linear.extra_steps,
        "bias": None if linear.bias is None else _array(linear.bias),
    }


def _norm(norm: Any, dropout: Any, where: str) -> dict[str, Any]:
    """BatchNorm's factor and summand."""
    if type(norm) is nn.Sequential:  # model.dropout_place=before
        norm, dropout = norm
    if not is_stock(dropout, nn.Identity, Dropout):
        raise UserError(f"{where} has a dropout of its own, which has no deployed form.")
    if is_stock(norm, nn.Identity):
        return {}
    if not (is_stock(norm, BatchNorm1d) and norm.affine and norm.track_running_stats):
        raise UserError(f"{where} has a norm of its own, which has no deployed form.")
    alpha, beta = norm.affine_map()
    return {"alpha": _array(alpha), "beta": _array(beta)}


def _neurons(node: Any, like: Tensor, where: str) -> Neurons:
    if not (isinstance(node, ScannedNode) and node.is_built()):
        raise UserError(
            f"{where} has neurons of its own (model.neuron={type(node).__name__}), which have no"
            " deployed form."
        )
    cell = node.cell()
    kind = KINDS.get(cell.neuron.name, cell.neuron.name)
    numbers = [
        _array(torch.as_tensor(number, dtype=like.dtype)) for number in (*node.own(), *cell.numbers)
    ]
    return Neurons(
        kind,
        dict(zip(PARAMETERS[kind], numbers, strict=True)),
        _array(like.new_tensor(cell.v_threshold)) if cell.v_threshold < math.inf else None,
        "soft" if node.v_reset is None else "hard",
    )


def _filter_leak(filter: Any, like: Tensor, where: str) -> NDArray[Any] | None:
    if is_stock(filter, nn.Identity):
        return None
    if not is_stock(filter, layer.SynapseFilter):
        raise UserError(f"{where} has a synaptic filter of its own, which has no deployed form.")
    leak = filter.w.sigmoid() if filter.learnable else 1 / filter.tau
    return _array(torch.as_tensor(leak, dtype=like.dtype))


def _recurrent(recurrence: Any) -> Recurrent | None:
    if recurrence is None:
        return None
    delay = recurrence.lines().delay.round().numpy().astype(np.int32)
    return Recurrent(_array(recurrence.weight), delay)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy().copy()
