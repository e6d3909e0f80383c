"""The layers of a deployed network as C: tables of constants, and the expressions that read them.

In an expression o is a neuron, i an input, c a kernel, and k the number of a weight of [I, O, C],
or of those that are not 0.
"""

from __future__ import annotations

import itertools
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.network import MOST_COUNT, Deployed, Layer
from snn_delays.deploy.quantise import largest_membrane, largest_sum

Array = NDArray[Any]

LINE = 96  # characters
INT16, INT32 = 2**15 - 1, 2**31 - 1
CHARGES = {
    "sum": "r + y",  # a lif whose tau is infinite
    "lif": "r - r / {tau} + y",
    "plif": "r - r * {share} + y",
    "adaptive": "{al} * r + ({one} - {al}) * (y - {w})",
    "adaptive_after": "{al} * r + ({one} - {al}) * (y - {w})",
    "leaky": "{al} * r + ({one} - {al}) * y",
    "integer": "(int32_t)(((int64_t)r * {keep}) >> 16) + y",
    "loihi": "(r < 0 ? -1 : 1) * (int32_t)(((r < 0 ? -(int64_t)r : r) * {keep}) >> 16) + y",
}
ADAPTATION = "{be} * {w} + ({a} * {m} + {b} * {s})"
# Reads a number of few bits: of two's complement, and without a sign.
PACKED = """static {type} {name}(uint32_t n)
{{
    const {type} bits = ({name}_bits[n / {per}u] >> (n % {per}u * {bits}u)) & {mask};
    return {value};
}}"""


class Tables:
    """Constants of a layer.

    Attributes:
        number: of the layer, which ends their names.
        texts: their definitions.
        bytes: of all of them.
    """

    def __init__(self, number: int) -> None:
        self.texts: list[str] = []
        self.bytes = 0
        self.number = number

    def add(self, name: str, values: Array, index: str) -> str:
        """Define a table, or one constant where all values are equal; returns what reads it."""
        name, kind = f"{name}{self.number}", _type(values.dtype)
        flat = values.ravel()
        self.bytes += flat.itemsize * (1 if len(set(flat.tolist())) == 1 else flat.size)
        if len(set(flat.tolist())) == 1:
            self.texts.append(f"static const {kind} {name} = {_literals(flat[:1])};")
            return name
        self.texts.append(f"static const {kind} {name}[{flat.size}] = {{\n{_literals(flat)}\n}};")
        return f"{name}[{index}]"

    def add_packed(self, name: str, values: Array, index: str, bits: int) -> str:
        """Define a table of numbers of 2 or 4 bits; returns what reads it."""
        signed = values.min() < 0
        name, per, mask = f"{name}{self.number}", 8 // bits, 2**bits - 1
        flat = values.ravel().astype(np.int64) & mask
        rows = np.pad(flat, (0, -flat.size % per)).reshape(-1, per)
        packed = (rows << (bits * np.arange(per))).sum(1).astype(np.uint8)
        self.bytes += packed.size
        half = 2 ** (bits - 1)
        reader = PACKED.format(
            name=name, type="int32_t" if signed else "uint32_t", per=per, bits=bits, mask=mask,
            value=f"(bits ^ {half}) - {half}" if signed else "bits",
        )  # fmt: skip
        table = f"static const uint8_t {name}_bits[{packed.size}] = {{\n{_literals(packed)}\n}};"
        self.texts += [table, reader]
        return f"{name}({index})"


def c_layers(network: Deployed) -> list[dict[str, Any]]:
    """What the template of snn.c reads of each layer, with its bytes and additions."""
    made: list[dict[str, Any]] = []
    ends = itertools.accumulate(layer.extra_steps for layer in network.layers)
    for layer, end in zip(network.layers, ends, strict=True):
        takes_spikes = bool(made) and made[-1]["gives_spikes"]
        made.append(_c_layer(layer, len(made), network) | {"end": end})
        made[-1]["takes_spikes"] = takes_spikes
    return made


def _c_layer(layer: Layer, number: int, network: Deployed) -> dict[str, Any]:
    tables, (outputs, inputs, count) = Tables(number), layer.weight.shape
    layer, factor = _divided(layer) if network.is_integer else (layer, 1)
    sizes = {
        "number": number,
        "inputs": inputs,
        "outputs": outputs,
        "count": count,
        "taps": layer.taps,
        "depth": 0 if layer.recurrent is None else 2 + int(layer.recurrent.delay.max()),
        "factor": factor,
        "fires": layer.neurons.fires,
        "soft": layer.neurons.reset == "soft",
        "gives_spikes": layer.neurons.fires and layer.filter_leak is None,
        "fits_16_bits_up_to": INT16 // int(max(1, largest_sum(layer, 1).max())),
    }
    reads = {
        **_synapses(layer, tables, network),
        **_recurrent(layer, tables, network),
        **_neurons(layer, tables, network),
    }
    types = _types(sizes, network)
    state = _state({**sizes, **reads, **types}, network)
    return {
        **sizes,
        **reads,
        **types,
        "tables": tables.texts,
        "state": [*state],
        "flash": tables.bytes,
        "ram": sum(state.values()),
        "additions": (reads["synapses"] or layer.weight.size)
        + (outputs**2 if layer.recurrent else 0),
    }


def _divided(layer: Layer) -> tuple[Layer, int]:
    """The layer with weights divided by a number that divides all; the factor of their sums."""
    divisor = max(1, int(np.gcd.reduce(layer.weight, axis=None)))
    return replace(layer, weight=layer.weight // divisor), divisor << layer.shift


def _synapses(layer: Layer, tables: Tables, network: Deployed) -> dict[str, Any]:
    """What reads weights and delays: of all synapses, or of those that are not 0, if that is
    smaller.
    """
    weight_IOC = layer.weight.transpose(1, 0, 2)
    present_IOC, is_own = weight_IOC != 0, layer.delay.shape == layer.weight.shape
    ways = [np.ones_like(present_IOC)]
    if present_IOC.any() and (is_own or layer.weight.shape[2] == 1):
        ways.append(present_IOC)
    made = []
    for of_IOC in ways:
        own = Tables(tables.number)
        made.append((own, _read(layer, own, network, of_IOC)))
    smallest, reads = min(made, key=lambda way: way[0].bytes)
    tables.texts += smallest.texts
    tables.bytes += smallest.bytes
    return reads


def _read(layer: Layer, tables: Tables, network: Deployed, of_IOC: Array) -> dict[str, Any]:
    """What reads the synapses of a mask; those of input i begin at ``first``."""
    weight = layer.weight.transpose(1, 0, 2)[of_IOC]
    if network.is_integer:
        read = _whole_weights(weight, tables)
    else:
        read = tables.add("weight", weight.astype(network.dtype), "k")
    reads = {"weight": read, "delay": _delays(layer, tables, network, of_IOC), "synapses": None}
    if of_IOC.all():
        return reads
    outputs = np.nonzero(of_IOC)[1].astype(np.uint8 if layer.outputs <= 256 else np.uint16)
    first = np.cumsum([0, *of_IOC.sum((1, 2))])
    kind = np.uint16 if first[-1] < 2**16 else np.uint32
    tables.add("first", first.astype(kind), "i")
    return {**reads, "target": tables.add("target", outputs, "k"), "synapses": len(weight)}


def _whole_weights(weight: Array, tables: Tables) -> str:
    low, high = int(weight.min()), int(weight.max())
    for bits in (2, 4):
        if low < high and -(2 ** (bits - 1)) <= low < 0 and high < 2 ** (bits - 1):
            return tables.add_packed("weight", weight, "k", bits)
    kind = next(t for t in (np.int8, np.int16, np.int32) if _fits(low, high, t))
    return tables.add("weight", weight.astype(kind), "k")


def _fits(low: int, high: int, kind: Any) -> bool:
    return bool(np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def _delays(layer: Layer, tables: Tables, network: Deployed, of_IOC: Array) -> str | None:
    if layer.taps == 1:
        return None
    outputs, inputs, count = layer.delay.shape
    delay = layer.delay.transpose(1, 0, 2)
    if (outputs, inputs) == layer.weight.shape[:2]:
        index, delay = "k", delay[of_IOC]
    else:  # axonal, or dendritic
        index = ("o" if outputs > 1 else "i") + (f" * {count}u + c" if count > 1 else "")
    step = max(1, int(np.gcd.reduce(delay, axis=None)))
    largest = delay.max() // step
    if network.is_integer and delay.min() < delay.max() and largest < 16:
        read = tables.add_packed("delay", delay // step, index, 2 if largest < 4 else 4)
        return read if step == 1 else f"{step}u * {read}"
    return tables.add("delay", delay.astype(np.uint8 if layer.taps <= 256 else np.uint16), index)


def _recurrent(layer: Layer, tables: Tables, network: Deployed) -> dict[str, Any]:
    if layer.recurrent is None:
        return {}
    weight = layer.recurrent.weight.T.astype(network.dtype)
    lag = layer.recurrent.delay.astype(np.uint32)
    return {
        "back": tables.add("back", weight, f"i * {layer.outputs}u + o"),
        "lag": tables.add("lag", lag, "o"),
    }


def _neurons(layer: Layer, tables: Tables, network: Deployed) -> dict[str, Any]:
    """The neurons' numbers, and the expressions of what they do in a step."""
    neurons, parameters, kind = layer.neurons, layer.neurons.parameters, layer.neurons.kind
    if kind == "lif" and np.isinf(parameters["tau"]).all():
        parameters, kind = {}, "sum"
    given = {
        "bias": layer.bias,
        "alpha": layer.alpha,
        "beta": layer.beta,
        "leak": layer.filter_leak,
        "threshold": neurons.threshold,
        **parameters,
    }
    read = {
        name: None if values is None else tables.add(name, values.astype(network.dtype), "o")
        for name, values in given.items()
    }
    words = {
        **read,
        "one": {"float32": "1.0f", "float64": "1.0", "int32": "1"}[network.arithmetic],
        "w": f"adaptation{tables.number}[o]",
        "s": "s" if neurons.fires else "u",
        "m": f"rest{tables.number}[o]" if kind == "adaptive_after" else "u",
    }
    return {
        **read,
        "charge": CHARGES[kind].format(**words),
        "adapt": ADAPTATION.format(**words) if "b" in parameters else None,
    }


def _types(sizes: dict[str, Any], network: Deployed) -> dict[str, str]:
    """Types of the sums to come, for values of 1, and of the outputs."""
    is_short = network.is_integer and sizes["number"] > 0 and sizes["fits_16_bits_up_to"] > 0
    return {
        "sum_type": "int16_t" if is_short else "snn_number",
        "output_type": "uint8_t" if sizes["gives_spikes"] else "snn_number",
    }


def _state(layer: dict[str, Any], network: Deployed) -> dict[str, int]:
    """Bytes of each of its states."""
    number, outputs = layer["number"], layer["outputs"]
    bytes = {"uint8_t": 1, "int16_t": 2, "snn_number": network.dtype.itemsize}
    item = bytes["snn_number"]
    state = {
        "coming": layer["taps"] * outputs * bytes[layer["sum_type"]],
        "rest": outputs * item,
        "output": outputs * bytes[layer["output_type"]],
    }
    if layer["adapt"]:
        state["adaptation"] = outputs * item
    if layer["depth"]:
        state |= {"returning": layer["depth"] * outputs, "current": outputs * item}
    return {f"{name}{number}": size for name, size in state.items()}


# ---- bounds of integer networks ------------------------------------------------------------------


def overflow(network: Deployed) -> str | None:
    """Why sums of an integer network might not fit into 32 bits; None: they always fit."""
    for number, layer in enumerate(network.layers):
        more = (layer.alpha, layer.filter_leak, layer.recurrent)
        if any(part is not None for part in more) or "keep" not in layer.neurons.parameters:
            return f"layer {number + 1} computes with more than weights, a bias and a threshold."
        if largest_membrane(layer, 1 if number else MOST_COUNT).max() > INT32:
            return f"the sums of layer {number + 1} might not fit into 32 bits."
    return None


# ---- numbers as text -----------------------------------------------------------------------------


def _literals(values: Array) -> str:
    """Numbers as C, exact, in lines."""
    kind, numbers = values.dtype, values.tolist()
    if kind.kind == "f":
        suffix = "f" if kind == np.float32 else ""
        words = [float(number).hex() + suffix for number in numbers]
    else:
        words = [str(number) for number in numbers]
    return textwrap.fill(", ".join(words), LINE)


def _type(kind: np.dtype[Any]) -> str:
    return {"float32": "float", "float64": "double"}.get(kind.name, f"{kind.name}_t")
