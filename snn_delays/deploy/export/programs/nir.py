"""Runs a spiking network with a delay on every synapse from its NIR graph (pip install nir).

In a step, first every ``Delay`` node gives what it received its delay ago, then the other nodes
follow in the order of their edges. The metadata say what NIR leaves open: the step ``dt``, s;
``integration``: euler, ``v += dt / tau (v_leak - v + r i)``, or exact, the solution for a constant
input; a neuron fires at ``v >= v_threshold``; ``reset``: hard, to v_reset, or soft, by subtracting
v_threshold; a layer falls silent ``extra_steps`` after the layer before it.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export.programs.common import main, scores

NEURONS = (nir.LIF, nir.LI, nir.IF, nir.I)


class Nir:
    """The graph in a folder; B recordings run at once."""

    def __init__(self, folder: Path) -> None:
        self.graph = nir.read(folder / "network.nir")
        self.told = self.graph.metadata
        self.classes = json.loads(self.told["classes"])
        self.sources: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, target in self.graph.edges:
            self.sources[target].append(source)
        self.order = ["input", *(name for name in self._order() if name != "input")]
        self.layers = [n for n in self.order if isinstance(self.graph.nodes[n], NEURONS)]

    def _order(self) -> list[str]:
        """Nodes in the order of a step; delays wait for nothing, since theirs are of steps ago."""
        nodes = self.graph.nodes
        waits = {n: [] if isinstance(nodes[n], nir.Delay) else s for n, s in self.sources.items()}
        return [*graphlib.TopologicalSorter(waits).static_order()]

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        extra = np.cumsum([self.graph.nodes[n].metadata["extra_steps"] for n in self.layers])
        lengths = np.array([max(len(frames), int(self.told["steps"])) for frames in samples])
        ends = lengths[:, None] + extra  # [B, L]
        frames = np.zeros((ends.max(), len(samples), samples[0].shape[1]))
        for number, sample in enumerate(samples):
            frames[: len(sample), number] = sample
        outputs = self._outputs(frames, ends)
        for number, end in enumerate(ends[:, -1]):
            own = [output[:end, number] for output in outputs]
            yield scores(self.told["readout"], own[-1]), own

    def _outputs(self, frames: NDArray[Any], ends: NDArray[Any]) -> list[NDArray[Any]]:
        """Every layer's output, [S, B, O]."""
        steps, B = frames.shape[:2]
        parts = {n: _part(node, self.told, B) for n, node in self.graph.nodes.items()}
        delays = {n: part for n, part in parts.items() if isinstance(part, Delay)}
        made: dict[str, list[NDArray[Any]]] = {name: [] for name in self.layers}
        for t in range(steps):
            now = {"input": frames[t]}
            for name in self.order[1:]:
                x = None if name in delays else self._sum(name, now)
                now[name] = parts[name](x)
                if name in made:
                    runs = t < ends[:, self.layers.index(name), None]
                    now[name] = np.where(runs, now[name], 0)
                    made[name].append(now[name])
            for name, delay in delays.items():
                delay.store(self._sum(name, now))
        return [np.stack(outputs) for outputs in made.values()]

    def _sum(self, name: str, now: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """The sum of what arrives at a node."""
        first, *others = (now[source] for source in self.sources[name])
        return sum(others, start=first)


class Delay:
    """A node that gives what it stored its own number of steps ago."""

    def __init__(self, node: nir.Delay, dt: float, B: int) -> None:
        self.steps = np.rint(node.delay / dt).astype(int)
        self.rows = np.zeros((self.steps.max(), B, len(self.steps)))
        self.step = 0

    def __call__(self, x: None) -> NDArray[Any]:
        """The output of this step, [B, N]."""
        row = (self.step - self.steps) % len(self.rows)
        return self.rows[row, :, np.arange(len(row))].T

    def store(self, x: NDArray[Any]) -> None:
        """Take the input of this step, [B, N], and go on to the next one."""
        self.rows[self.step % len(self.rows)] = x
        self.step += 1


class Neurons:
    """LIF, LI, IF or I nodes and their membranes."""

    def __init__(self, node: Any, told: dict[str, Any]) -> None:
        self.node, self.is_soft = node, node.metadata["reset"] == "soft"
        self.rest: NDArray[Any] = np.zeros_like(node.r)
        dt = told["dt"]
        if not hasattr(node, "tau"):
            self.leak, self.gain = 0.0, dt * node.r
            return
        is_exact = told["integration"] == "exact"
        self.leak = -np.expm1(-dt / node.tau) if is_exact else dt / node.tau
        self.gain = self.leak * node.r

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Spikes [B, N]; membranes of neurons without a threshold."""
        node = self.node
        v = self.rest + self.leak * (getattr(node, "v_leak", 0) - self.rest) + self.gain * x
        self.rest = v
        if not hasattr(node, "v_threshold"):
            return v
        fires = v >= node.v_threshold
        self.rest = np.where(fires, v - node.v_threshold if self.is_soft else node.v_reset, v)
        return fires.astype(float)


def _part(node: Any, told: dict[str, Any], B: int) -> Any:
    """What computes a node's output from its input, step by step."""
    if isinstance(node, NEURONS):
        return Neurons(node, told)
    if isinstance(node, nir.Delay):
        return Delay(node, told["dt"], B)
    if isinstance(node, nir.Affine | nir.Linear):
        weight, bias = node.weight.T, getattr(node, "bias", 0)
        return lambda x: x @ weight + bias
    return lambda x: x


if __name__ == "__main__":
    main(Nir)
