"""A deployed network as a graph of standard nodes of NIR
(the Neuromorphic Intermediate Representation).

A layer is a ``Delay`` and a ``Linear`` node for each delay, and its neurons. Delay 0 has an
``Affine`` node alone, with the bias.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export import Answer, folded, program
from snn_delays.deploy.network import Deployed, Layer

INSTALL = "pip install nir"
Edges = list[tuple[str, str]]


def refusal(network: Deployed) -> str | None:
    """Why NIR cannot hold this network; None: it can."""
    return folded.refusal(network, adaptive=False)


def write(network: Deployed, out: Path, *, integration: str = "euler") -> None:
    """Write network.nir, run.py and README.md.

    Args:
        network: the deployed network.
        out: the folder.
        integration: how a reader should integrate the neurons' equation over a step: "euler",
            ``v += dt / tau (v_leak - v + r i)``, or "exact", its solution for a constant input.
            The numbers tau are written for it; every reader should do as ``run.py`` does.

    Raises:
        ValueError: another integration.
    """
    nir.write(out / "network.nir", graph(folded.fold(network), integration))
    files = {"network.nir": "the graph, in float64; BatchNorm is folded into weights"}
    program.write("nir", network, out, title="NIR", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable NIR_PYTHON names, or this one."""
    return program.run(network, out, samples, package="nir", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64."""
    return folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """Size of the graph."""
    return {"nodes": len(graph(folded.fold(network)).nodes)}


def graph(network: Deployed, integration: str = "euler") -> nir.NIRGraph:
    """The graph of a folded network. See ``write``."""
    dt = network.front.step_ms / 1000
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([network.layers[0].inputs])})}
    edges: Edges = []
    source = "input"
    for number, layer in enumerate(network.layers):
        name = f"layer{number}"
        nodes[name] = _neurons(layer, dt, integration)
        _paths(nodes, edges, (source, name), layer, dt)
        if layer.recurrent is not None:
            delay = (1 + layer.recurrent.delay) * dt
            nodes[f"{name}_back_delay"] = nir.Delay(delay)
            nodes[f"{name}_back"] = nir.Linear(layer.recurrent.weight)
            _chain(edges, name, f"{name}_back_delay", f"{name}_back", name)
        source = name
    nodes["output"] = nir.Output({"output": np.array([network.layers[-1].outputs])})
    _chain(edges, source, "output")
    told = {
        "dt": dt,
        "integration": integration,
        "fires": "v >= v_threshold",
        "readout": network.readout,
        "steps": network.steps or 0,
        "classes": json.dumps(network.classes),
        "digest": network.digest,
    }
    return nir.NIRGraph(nodes, edges, metadata=told)


def _chain(edges: Edges, *names: str) -> None:
    edges += itertools.pairwise(names)


def _paths(
    nodes: dict[str, Any], edges: Edges, ends: tuple[str, str], layer: Layer, dt: float
) -> None:
    """Add the weights of each delay between two nodes; those of delay 0 bear the bias."""
    delays, (source, name) = layer.delays, ends
    for delay in np.union1d(0, delays):
        weight = np.where(delays == delay, layer.weight, 0).sum(2)
        path = f"{name}_weight{delay}"
        if delay == 0:
            nodes[path] = nir.Affine(weight, layer.bias)
            _chain(edges, source, path, name)
        else:
            nodes[f"{name}_delay{delay}"] = nir.Delay(np.full(layer.inputs, delay * dt))
            nodes[path] = nir.Linear(weight)
            _chain(edges, source, f"{name}_delay{delay}", path, name)


def _neurons(layer: Layer, dt: float, integration: str) -> Any:
    """LIF or LI; IF or I where nothing leaks. Their metadata: reset, extra_steps."""
    share, theta = layer.neurons.parameters["share"], layer.neurons.threshold
    told = {"reset": layer.neurons.reset, "extra_steps": layer.extra_steps}
    zeros = np.zeros(layer.outputs)
    if not share.any():
        r = np.full(layer.outputs, 1 / dt)
        if theta is None:
            return nir.I(r, metadata=told)
        return nir.IF(r, theta, zeros, metadata=told)
    tau, r = _tau(share, dt, integration), 1 / share
    if theta is None:
        return nir.LI(tau, r, zeros, metadata=told)
    return nir.LIF(tau, r, zeros, theta, zeros, metadata=told)


def _tau(share: NDArray[Any], dt: float, integration: str) -> NDArray[Any]:
    """The time constants, s, with which a share leaks in a step."""
    if integration == "euler":
        return dt / share
    if integration != "exact":
        raise ValueError(f"integration={integration} must be euler or exact.")
    return np.asarray(-dt / np.log1p(-share))
