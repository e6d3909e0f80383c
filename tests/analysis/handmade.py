"""Networks made by hand, and what they are and do as plain loops: the oracle of the analysis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.config import Config
from snn_delays.nn import Network, build_network

TAPS, EXTRA, TAU, STEP_MS = 5, 2, 2.0, 10.0
CLASSES = ["left", "right"]
# [O][I][C] of hidden layer 1, hidden layer 2, readout; the first copies alone make kernel_count 1.
WEIGHT = [
    [[[0.9, -0.2], [0.5, 0.3], [-0.4, 0.0]], [[0.7, 0.6], [-0.5, 0.8], [1.1, -0.3]]],
    [[[1.2, 0.4], [-0.3, 0.9]], [[0.0, -0.7], [1.05, 0.35]]],
    [[[0.6, -0.2], [-1.0, 0.1]], [[0.3, 0.8], [0.5, 0.0]]],
]
# Both ends, ties of rounding (0.5, 1.5, 2.5, 3.5), and the same delay twice in one pair.
DELAY = [
    [[[0.0, 0.5], [4.0, 2.5], [1.4, 1.0]], [[2.5, 2.0], [3.5, 4.0], [1.5, 0.2]]],
    [[[4.0, 3.6], [0.0, 0.0]], [[1.0, 2.0], [0.5, 1.5]]],
    [[[2.0, 0.0], [0.5, 4.0]], [[3.7, 3.5], [2.2, 1.0]]],
]
DRAWN = [
    [[[0.5, 0.5], [3.0, 2.0], [2.6, 1.0]], [[2.0, 0.0], [3.0, 2.5], [1.5, 4.0]]],
    [[[3.0, 3.5], [1.0, 0.5]], [[1.25, 2.0], [0.25, 1.5]]],
    [[[2.5, 0.0], [0.5, 3.0]], [[3.0, 3.5], [2.0, 1.0]]],
]
MASK = [[[1, 0, 1], [1, 1, 1]], [[1, 1], [1, 0]], [[0, 1], [1, 1]]]  # [O][I]
# [B][T][I]
FRAMES = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 0], [0, 0, 1]],
    [[0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]],
]


class Synapse(NamedTuple):
    """One copy of one synapse; delays in steps."""

    layer: str
    output: int
    input: int
    kernel: int
    weight: float
    delay: float
    drawn: float

    @property
    def steps(self) -> int:
        """Delay of the deployed network; Python rounds half to even, as torch does."""
        return round(self.delay)


def names(hidden: int = 1) -> list[str]:
    return [*(f"hidden layer {n}" for n in range(1, hidden + 1)), "readout"]


def numbered(hidden: int) -> list[tuple[str, int]]:
    """Name of each layer and its place in the lists above."""
    return list(zip(names(hidden), [*range(hidden), 2], strict=True))


def _copies(
    hidden: int, kernel_count: int, masked: bool
) -> Iterator[tuple[str, int, int, int, int]]:
    for name, n in numbered(hidden):
        for o, row in enumerate(WEIGHT[n]):
            for i in range(len(row)):
                if not masked or MASK[n][o][i]:
                    yield from ((name, n, o, i, c) for c in range(kernel_count))


def synapses(hidden: int = 1, kernel_count: int = 1, masked: bool = False) -> list[Synapse]:
    """The synapses that exist, in the order of their numbers."""
    return [
        Synapse(name, o, i, c, *(part[n][o][i][c] for part in (WEIGHT, DELAY, DRAWN)))
        for name, n, o, i, c in _copies(hidden, kernel_count, masked)
    ]


def of_layer(found: list[Synapse], name: str) -> list[Synapse]:
    return [synapse for synapse in found if synapse.layer == name]


def configuration(**model: Any) -> Config:
    config = Config(precision="float64", device="cpu")
    config.data.units, config.data.units_per_channel = 3, 1
    config.data.step_ms, config.model.tau_ms = STEP_MS, TAU * STEP_MS
    config.model.hidden, config.model.taps, config.model.extra_steps = [2], TAPS, EXTRA
    config.model.batch_norm, config.model.dropout = False, 0.0
    for key, value in model.items():
        assert hasattr(config.model, key)
        setattr(config.model, key, value)
    return config


@torch.no_grad()
def fill(network: Network, weight: Any, delay: Any, mask: Any = None) -> None:
    """Set the parameters of every layer; lists may hold more copies than the network has."""
    for n, linear in enumerate(network.delayed_layers()):
        copies = linear.weight.shape[2]
        linear.weight.copy_(torch.tensor(weight[n], dtype=torch.float64)[..., :copies])
        if linear.delays in ("learned", "fixed"):
            steps = torch.tensor(delay[n], dtype=torch.float64)[..., :copies]
            linear.delay.copy_(steps.round() if linear.delays == "fixed" else steps)
        if mask is not None:
            assert linear.mask is not None
            linear.mask.copy_(torch.tensor(mask[n])[..., None])
    network.constrain()


def subject(
    hidden: int = 1, kernel_count: int = 1, masked: bool = False, **model: Any
) -> TrainedRun:
    """The network of the lists above."""
    shape = {"hidden": [2] * hidden, "kernel_count": kernel_count}
    config = configuration(**shape, **({"density": 0.5} if masked else {}), **model)
    places = [n for _, n in numbered(hidden)]
    weight, mask = ([part[n] for n in places] for part in (WEIGHT, MASK))
    pair = []
    for part in (DELAY, DRAWN):
        network = build_network(config, len(CLASSES)).double().eval()
        fill(network, weight, [part[n] for n in places], mask if masked else None)
        pair.append(network)
    return TrainedRun("handmade", config, *pair, CLASSES)


def as_input(frames: Any = FRAMES) -> torch.Tensor:
    """[T, B, I]."""
    return torch.tensor(frames, dtype=torch.float64).transpose(0, 1)


class Played(NamedTuple):
    """What one layer does with one sample: [T][N] each."""

    spikes: list[list[int]]
    membranes: list[list[float]]


def play(found: list[Synapse], frames: Any, v_threshold: float) -> Played:
    """Two neurons: each spike arrives at its delay; v <- v + x - v / tau, fire at v >= 1, reset."""
    steps = len(frames) + EXTRA
    current = [[0.0, 0.0] for _ in range(steps)]
    for synapse in found:
        for t, frame in enumerate(frames):
            if t + synapse.steps < steps:
                current[t + synapse.steps][synapse.output] += synapse.weight * frame[synapse.input]
    v, played = [0.0, 0.0], Played([], [])
    for x in current:
        v = [old + new - old / TAU for old, new in zip(v, x, strict=True)]
        played.spikes.append([int(u >= v_threshold) for u in v])
        v = [0.0 if u >= v_threshold else u for u in v]
        played.membranes.append(v)
    return played


def play_network(found: list[Synapse], frames: Any, hidden: int = 1) -> list[Played]:
    """Every layer, the readout last, with one sample."""
    layers = []
    for name in names(hidden):
        v_threshold = math.inf if name == "readout" else 1.0
        layers.append(play(of_layer(found, name), frames, v_threshold))
        frames = layers[-1].spikes
    return layers
