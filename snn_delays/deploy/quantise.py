"""From a deployed network of floats to one of integers, whose sums are exact in any order.

Shapes: O outputs, I inputs, C kernel count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.deploy.network import MOST_COUNT, Deployed, Layer, Neurons
from snn_delays.errors import UserError
from snn_delays.nn.rounding import LEVELS, round_delays, round_weights

LEAK_BITS = 16  # of the share of a membrane that a step keeps
MOST_SHIFT = 6  # bits that membranes have behind the point of a weight
MOST_SIZE = 2**24  # of a threshold and of a bias, in steps of a weight
INT32 = 2**31 - 1
# Loihi: bits of the decay, of the threshold and of a bias's mantissa, with its sign.
DECAY_BITS, THRESHOLD_BITS, MANTISSA_BITS = 12, 17, 13

Numbers = NDArray[Any]


def quantise(
    network: Deployed,
    weights: str = "float32",
    delays: int | None = None,
    arithmetic: str = "plain",
) -> Deployed:
    """The network with rounded weights and delays.

    With rounded weights it is an integer network: BatchNorm is folded into the weights, each
    neuron that fires has its own unit, all numbers are integers and states are of int32. It is
    proven that no state overflows, as long as no input channel counts more than 255 in a step.

    Args:
        network: a network of floats.
        weights: "float32": they stay as they are; "16", "8", "4": integers of so many bits;
            "ternary": -1, 0 and 1.
        delays: number of values that a delay may have, from 2 to the number of taps; None: all.
        arithmetic: of an integer network; "plain", or "loihi": that of Intel's Loihi 2, with one
            unit for a layer, even weights, a decay of 12 bits and products rounded toward zero.

    Raises:
        UserError: a part of the network has no integer form, or the options do not fit.
        ValueError: there are no such weights.
    """
    if weights not in LEVELS:
        raise ValueError(f"weights={weights} must be one of {', '.join(LEVELS)}.")
    if delays is not None:
        network = replace(network, layers=tuple(_with_delays(n, delays) for n in network.layers))
    if arithmetic == "loihi" and weights != "8":
        raise UserError(f"arithmetic=loihi has weights of 8 bits: give weights=8, not {weights}.")
    levels = LEVELS[weights]
    if levels is None:
        return network
    if network.is_integer:
        raise UserError("The network is one of integers already: leave weights= away.")
    if network.front.kind != "spikes":
        raise UserError(
            "An integer network takes counts of spikes, and this one takes energies of sound:"
            " keep weights=float32."
        )
    layers = []
    for number, layer in enumerate(network.layers):
        count = MOST_COUNT if number == 0 else 1
        where = "The readout" if layer is network.layers[-1] else f"Layer {number + 1}"
        _check_form(layer, where)
        made = _loihi(layer, where) if arithmetic == "loihi" else _plain(layer, levels)
        layers.append(_scaled(made, count, where))
    return replace(network, layers=(*layers,), arithmetic="int32")


def largest_sum(layer: Layer, count: int) -> NDArray[np.int64]:
    """Bound of a sum's size before the shift, [O], where no input is above ``count``."""
    sizes: NDArray[np.int64] = np.abs(layer.weight.astype(np.int64)).sum((1, 2))
    return count * sizes


def largest_membrane(layer: Layer, count: int) -> NDArray[np.float64]:
    """Bound of a membrane's size before the reset, [O], where no input is above ``count``.

    A step's input y is of at most ``Y = largest_sum 2^shift + |bias|``, and the rounding of the
    leak adds less than 1: ``|u| <= keep |r| + 1 + Y``. No reset makes r larger than u. So a
    membrane that starts at 0 never grows beyond ``(Y + 1) / (1 - keep)``.
    """
    bias = 0 if layer.bias is None else np.abs(layer.bias.astype(np.int64))
    y = (largest_sum(layer, count) << layer.shift) + bias
    lost = 1 - layer.neurons.parameters["keep"] / 2**LEAK_BITS
    with np.errstate(divide="ignore"):
        return (y + 1.0) / lost


def _with_delays(layer: Layer, delays: int) -> Layer:
    if layer.taps < 2:
        raise UserError("The network has one tap, and its delays one value: leave delays= away.")
    if delays < 2:
        raise UserError(f"delays={delays} must be from 2 to {layer.taps}, the number of taps.")
    if delays > layer.taps:
        raise UserError(
            f"delays={delays} must be at most {layer.taps}, the network's number of taps."
        )
    rounded = round_delays(torch.tensor(layer.delay).double(), layer.taps, delays)
    return replace(layer, delay=rounded.numpy().astype(np.int32))


def _check_form(layer: Layer, where: str) -> None:
    """Refuse what integers cannot express."""
    neurons, what = layer.neurons, ""
    if neurons.kind not in ("lif", "plif"):
        what = f"neurons of the kind {neurons.kind}"
    elif np.isinf(neurons.parameters.get("tau", 1.0)).any():
        what = "a sum over all steps, which may grow for ever"
    elif layer.recurrent is not None:
        what = "recurrent connections"
    elif layer.filter_leak is not None:
        what = "a synaptic filter"
    if what:
        raise UserError(f"{where} has {what}: no integer form is known; keep weights=float32.")


def _plain(layer: Layer, levels: int) -> Layer:
    """A unit for each neuron that fires, or for the whole readout."""
    fires = layer.neurons.fires
    alpha, offset = _folded(layer)
    whole, step = _rounded(layer.weight, levels, shared=not fires)
    gain = np.abs(alpha) * step
    unit = np.maximum(gain, (_threshold(layer) + np.abs(offset)) / MOST_SIZE)
    unit = unit if fires else np.full_like(unit, max(unit.max(), 1e-30))
    weight = np.rint(whole * (np.sign(alpha) * gain / unit)[:, None, None])
    of_type = np.int8 if levels <= np.iinfo(np.int8).max else np.int16
    keep = np.rint(_keep(layer.neurons) * 2**LEAK_BITS)
    return _integer(layer, "integer", weight.astype(of_type), keep, unit, offset)


def _loihi(layer: Layer, where: str) -> Layer:
    """One unit for the layer: Lava's ``LIF`` with ``du=4095`` behind its ``DelayDense``.

    Its weights of 8 bits with both signs are even; a neuron fires above ``vth << 6``; ``dv`` is
    ``4096 - (keep >> 4)``; the bias is ``bias_mant << bias_exp``.
    """
    if layer.neurons.reset != "hard" or any(p.size > 1 for p in layer.neurons.parameters.values()):
        raise UserError(
            f"{where} has a time constant of its own for each neuron, or a soft reset, which"
            " arithmetic=loihi does not have: give arithmetic=plain."
        )
    alpha, offset = _folded(layer)
    folded = layer.weight.astype(np.float64) * alpha[:, None, None]
    whole, step = _rounded(folded, LEVELS["8"] or 0, shared=True)
    gain, theta = step[0] / 2, _threshold(layer)
    unit = max(gain, theta / (2**THRESHOLD_BITS - 1), np.abs(offset).max() / MOST_SIZE, 1e-30)
    weight = np.rint(whole * (gain / unit)) * 2
    decay = np.rint((1 - _keep(layer.neurons)) * 2**DECAY_BITS)
    keep = (2**DECAY_BITS - decay) * 2 ** (LEAK_BITS - DECAY_BITS)
    units = np.full(layer.outputs, unit)
    return _integer(layer, "loihi", weight.astype(np.int16), keep, units, offset)


def _integer(
    layer: Layer, kind: str, weight: Numbers, keep: Numbers, unit: Numbers, offset: Numbers
) -> Layer:
    """The integer layer before ``_scaled``: threshold and bias are still multiples of a unit."""
    theta = _threshold(layer) / unit if layer.neurons.fires else None
    neurons = Neurons(kind, {"keep": keep.astype(np.int32)}, theta, layer.neurons.reset)
    return replace(
        layer, weight=weight, neurons=neurons, bias=offset / unit, alpha=None, beta=None, unit=unit
    )


def _scaled(layer: Layer, count: int, where: str) -> Layer:
    """The layer with the finest membranes of which no number overflows.

    Raises:
        UserError: there are none.
    """
    fixed = layer.neurons.kind == "loihi"
    for shift in [MOST_SHIFT] if fixed else range(MOST_SHIFT, -1, -1):
        made = _with_shift(layer, shift)
        theta = 0 if made.neurons.threshold is None else made.neurons.threshold
        if max(np.max(largest_membrane(made, count)), np.max(theta)) <= INT32:
            return made
    keeps = np.max(layer.neurons.parameters["keep"]) / 2**LEAK_BITS
    raise UserError(
        f"{where} may overflow 32 bits: it adds up {layer.inputs} inputs of up to {count}, and its"
        f" membranes keep {keeps:.4g} of their value in a step; give fewer bits of weights."
    )


def _with_shift(layer: Layer, shift: int) -> Layer:
    """Membranes of 2^shift to a unit."""
    bias, neurons = np.rint(_given(layer.bias) * 2**shift), layer.neurons
    theta = neurons.threshold
    if neurons.kind == "loihi":
        bias = _with_mantissa(bias)
        theta = theta if theta is None else np.rint(theta) * 2**shift + 1  # it fires above vth
    elif theta is not None:
        theta = np.ceil(theta * 2**shift)
    return replace(
        layer,
        shift=shift,
        bias=bias.astype(np.int32),
        neurons=replace(neurons, threshold=None if theta is None else theta.astype(np.int32)),
        unit=_given(layer.unit) / 2**shift,
    )


def _with_mantissa(bias: Numbers) -> Numbers:
    """Biases with one exponent, by which mantissas of 13 bits are shifted to the left."""
    most = 2 ** (MANTISSA_BITS - 1) - 1
    exponent = max(0, np.ceil(np.log2(max(np.abs(bias).max(), 1) / most)))
    return np.asarray(np.rint(bias / 2**exponent) * 2**exponent)


def _rounded(weight: Numbers, levels: int, *, shared: bool) -> tuple[Numbers, Numbers]:
    """Whole numbers [O, I, C] and steps [O], rounded as in training: in the weights' precision."""
    whole, step = round_weights(torch.tensor(weight), levels, shared=shared)
    return (
        whole.double().numpy(),
        np.broadcast_to(step.double().numpy().ravel(), len(weight)),
    )


def _folded(layer: Layer) -> tuple[Numbers, Numbers]:
    """BatchNorm's factor, and what is added to the product with the sum, [O] each."""
    zero = np.zeros(layer.outputs)
    alpha = zero + 1 if layer.alpha is None else layer.alpha.astype(np.float64)
    bias = zero if layer.bias is None else layer.bias.astype(np.float64)
    return alpha, alpha * bias + (0 if layer.beta is None else layer.beta.astype(np.float64))


def _threshold(layer: Layer) -> float:
    theta = layer.neurons.threshold
    return 0.0 if theta is None else float(theta)


def _keep(neurons: Neurons) -> Numbers:
    """Share of a membrane that a step keeps, a scalar or [O]."""
    lost = neurons.parameters.get("share")
    kept = 1 - (1 / neurons.parameters["tau"].astype(np.float64) if lost is None else lost)
    return np.asarray(kept, np.float64)


def _given(numbers: Numbers | None) -> Numbers:
    assert numbers is not None
    return numbers
