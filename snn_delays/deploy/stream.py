"""A deployed network that runs on a stream of frames, one step at a time.

Shapes: T time, I inputs, O outputs of a layer, A outputs of all layers, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy import stream_numba
from snn_delays.deploy.network import MOST_COUNT, PARAMETERS, Deployed, Layer
from snn_delays.deploy.stream_numba import (
    ALPHA,
    BETA,
    BIAS,
    LEAK,
    STEP,
    TABLE,
    THRESHOLD,
)
from snn_delays.errors import UserError
from snn_delays.runtime import numba_jit

# By the loop's number of each way to score: a number of spikes is a sum, as the mean is; the
# membranes of linear_sum hold their sum.
READOUTS = {"sum": 0, "mean": 1, "spike_count": 1, "max": 2, "last": 3, "linear_sum": 3}
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Decision:
    """What a network says of an input so far.

    Attributes:
        number: of the class with the greatest score, the first of equals.
        name: of this class.
        scores: [K] float64.
        step: number of steps that have been computed.
        since: number of steps after which this class took the lead that it has kept.
    """

    number: int
    name: str
    scores: NDArray[np.float64]
    step: int
    since: int


class Stream:
    """A deployed network and its state, of a size that never grows.

    A step adds up the same numbers in the same order as ``snn-delays evaluate backend=event``, so
    spikes are equal to the bit; scores are added up in float64.

    Args:
        network: the deployed network.

    Raises:
        UserError: loops cannot be compiled.

    Attributes:
        network: the same.
    """

    def __init__(self, network: Deployed) -> None:
        if reason := numba_jit.why_not():
            raise UserError(f"A stream runs in a compiled loop: {reason}.")
        self.network = network
        self._advance = stream_numba.advance(network.arithmetic)
        self._packed = _pack(network)
        self._channels = network.layers[0].inputs
        self.reset()

    def reset(self) -> None:
        """Forget all input."""
        table, dtype = self._packed.table, self.network.dtype
        A = int(table["outputs"].sum())
        sizes = 2 * table["taps"] * table["outputs"], table["depth"] * table["outputs"]
        window, returning = (np.zeros(int(size.sum()), dtype) for size in sizes)
        rows = np.zeros(len(table), np.int64)
        self._state = window, np.zeros((3, A), dtype), returning, rows
        widest = int(table["outputs"].max())
        events = np.empty(int(table["inputs"].max()) + 1, np.uint32)
        self._scratch = events, np.empty(widest, dtype), np.empty(widest, dtype)
        self._count = np.array([0, -1, 0], np.int64)
        self._score = np.zeros(len(self.network.classes))
        self._ends = np.full(len(table), NEVER)
        self._out = np.zeros((1, A), dtype)
        self._finished = False

    def copy(self) -> Self:
        """A stream of the same network that goes on from here by itself."""
        twin = copy.copy(self)
        for name in ("_state", "_scratch", "_count", "_score", "_ends", "_out"):
            setattr(twin, name, copy.deepcopy(getattr(self, name)))
        return twin

    def step(self, frame: NDArray[Any]) -> NDArray[np.float64]:
        """Advance by a frame [I]; returns the scores so far, [K].

        Raises:
            ValueError: the frame is of another shape, or the input was finished.
        """
        frames = self._checked(np.asarray(frame)[None])
        if self._finished:
            raise ValueError("The input was finished: reset the stream before the next one.")
        self._run(frames, self._out)
        return self.scores

    def peek(self) -> Decision:
        """The decision so far.

        Raises:
            ValueError: there was no input yet.
        """
        step, leader, since = self._count.tolist()
        if not step:
            raise ValueError("There was no input yet: step first.")
        return Decision(leader, self.network.classes[leader], self.scores, step, since)

    def finish(self, most: int | None = None) -> Decision:
        """The decision on the whole input, as ``snn-delays evaluate`` makes it of a batch of one.

        Frames of zeros follow up to the network's stored length, and every layer falls silent
        after its own number of steps.

        Args:
            most: number of steps to compute now, to see the decisions on the way to the last one;
                call again until ``is_done``. None: all that are left.

        Raises:
            UserError: the network has no stored length.
        """
        step = int(self._count[STEP])
        if not self._finished:
            self._ends[:] = self.network.ends(step)
            self._finished = True
        left = int(self._ends[-1]) - step
        steps = left if most is None else min(most, left)
        self._out = np.empty((steps, self._out.shape[1]), self.network.dtype)
        self._run(np.zeros((steps, self._channels), self.network.dtype), self._out)
        return self.peek()

    @property
    def is_done(self) -> bool:
        """Whether the input was finished, and all steps have been computed."""
        return bool(self._count[STEP] == self._ends[-1])

    def run(self, frames: NDArray[Any]) -> Decision:
        """The decision on a whole recording, [T, I], by itself; the stream is reset first."""
        return self.record(frames)[0]

    def record(self, frames: NDArray[Any]) -> tuple[Decision, list[NDArray[Any]]]:
        """As ``run``; also what every layer gave in all steps, [S, O] each."""
        self.reset()
        whole = self._checked(frames)
        first = np.empty((len(whole), self._out.shape[1]), self.network.dtype)
        self._run(whole, first)
        decision = self.finish()
        self._out = np.concatenate([first, self._out])
        return decision, self.outputs

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores so far, [K]."""
        steps = self._count[STEP] if self.network.readout == "mean" else 1
        return self._score / steps

    @property
    def outputs(self) -> list[NDArray[Any]]:
        """What every layer gave in the last step, or in all steps of ``finish``, [N, O] each."""
        return np.split(self._out, self._packed.table["output"][1:], axis=1)

    def _checked(self, frames: NDArray[Any]) -> NDArray[Any]:
        if frames.ndim != 2 or frames.shape[1] != self._channels:
            shape = list(frames.shape[1:])
            raise ValueError(f"A frame {shape} must be [{self._channels}], a number a channel.")
        if self.network.is_integer and frames.size and frames.max() > MOST_COUNT:
            raise UserError(
                f"A channel counts {frames.max()} spikes in a step; an integer network takes at"
                f" most {MOST_COUNT}, or its sums might not fit into 32 bits."
            )
        return np.ascontiguousarray(frames, self.network.dtype)

    def _run(self, frames_NI: NDArray[Any], out_NA: NDArray[Any]) -> None:
        packed = self._packed
        self._advance(
            1, frames_NI, self._ends, packed.table, packed.network, self._state, self._scratch,
            packed.readout, packed.unit, self._count, self._score, out_NA,
        )  # fmt: skip


@dataclass(frozen=True)
class _Packed:
    """A network as the loop reads it; see ``stream_numba.advance``."""

    table: NDArray[Any]
    network: tuple[NDArray[Any], ...]
    readout: int
    unit: NDArray[np.float64]


def _pack(network: Deployed) -> _Packed:
    layers, dtype = network.layers, network.dtype
    table = np.array([_row(layer) for layer in layers], TABLE)
    outputs, depth = table["outputs"], table["depth"]
    for name, sizes in (
        ("weights", outputs * table["inputs"] * table["count"]),
        ("output", outputs),
        ("window", 2 * table["taps"] * outputs),
        ("returning", depth * outputs),
        ("recurrent", outputs**2 * (depth > 0)),
    ):
        table[name] = np.cumsum(sizes) - sizes
    recurrent = [layer.recurrent.weight.T.ravel() for layer in layers if layer.recurrent]
    arrays = (
        np.concatenate([_by_input(_weights(layer, dtype)) for layer in layers]),
        np.concatenate([_by_input(_offsets(layer)) for layer in layers]),
        np.concatenate([_numbers(layer, dtype) for layer in layers], 1),
        np.concatenate([np.zeros(0, dtype), *recurrent], dtype=dtype),
        np.concatenate([_lags(layer) for layer in layers]),
    )
    unit = np.broadcast_to(layers[-1].output_unit, layers[-1].outputs)
    return _Packed(table, arrays, READOUTS[network.readout], unit.astype(np.float64))


def _row(layer: Layer) -> tuple[int, ...]:
    """A row of the table, without the places."""
    outputs, inputs, count = layer.weight.shape
    values = {
        "outputs": outputs,
        "inputs": inputs,
        "count": count,
        "taps": layer.taps,
        "depth": 0 if layer.recurrent is None else 2 + int(layer.recurrent.delay.max()),
        "bias": layer.bias is not None,
        "norm": layer.alpha is not None,
        "filter": layer.filter_leak is not None,
        "kind": [*PARAMETERS].index(layer.neurons.kind),
        "fires": layer.neurons.fires,
        "soft": layer.neurons.reset == "soft",
    }
    return tuple(int(values.get(name, 0)) for name in TABLE.names or ())


def _weights(layer: Layer, dtype: np.dtype[Any]) -> NDArray[Any]:
    weight = layer.weight.astype(dtype)
    return weight << layer.shift if layer.shift else weight


def _offsets(layer: Layer) -> NDArray[np.uint32]:
    """Where each weight is added in the window, counted from its first row in use."""
    places = layer.delays * layer.outputs + np.arange(layer.outputs)[:, None, None]
    return places.astype(np.uint32)


def _lags(layer: Layer) -> NDArray[np.int64]:
    """Recurrent delays of every neuron."""
    none = np.zeros(layer.outputs, np.int64)
    return none if layer.recurrent is None else layer.recurrent.delay.astype(np.int64)


def _numbers(layer: Layer, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of every neuron, [9, O]."""
    numbers = np.zeros((9, layer.outputs), dtype)
    parameters = layer.neurons.parameters
    for row, name in enumerate(PARAMETERS[layer.neurons.kind]):
        numbers[row] = parameters[name]
    given = {BIAS: layer.bias, ALPHA: layer.alpha, BETA: layer.beta, LEAK: layer.filter_leak}
    for row, values in {**given, THRESHOLD: layer.neurons.threshold}.items():
        if values is not None:
            numbers[row] = values
    return numbers


def _by_input(a_OIC: NDArray[Any]) -> NDArray[Any]:
    """In the order in which the loop reads: inputs, outputs, kernels."""
    return a_OIC.transpose(1, 0, 2).ravel()
