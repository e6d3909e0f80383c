"""A deployed network as a program for Lava."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export import Answer, folded, program
from snn_delays.deploy.network import Deployed

INSTALL = "pip install lava-nc h5py  # Python 3.10"


def refusal(network: Deployed) -> str | None:
    """Why Lava cannot hold this network; None: it can."""
    if network.is_integer:
        return _not_loihi(network)
    reason = folded.refusal(network, real=False, soft=False, adaptive=False)
    return reason or _several(network)


def _not_loihi(network: Deployed) -> str | None:
    if any(layer.neurons.kind != "loihi" for layer in network.layers):
        return "its integers are not of Loihi's arithmetic: give weights=8 arithmetic=loihi."
    longest = max(int(layer.delay.max()) for layer in network.layers)
    return f"a delay of {longest} steps is longer than 63." if longest > 63 else None


def _several(network: Deployed) -> str | None:
    """Lava's neurons have one time constant and one threshold for all of a layer."""
    for layer in folded.fold(network).layers:
        for numbers in (layer.neurons.parameters["share"], layer.neurons.threshold):
            if numbers is not None and len(np.unique(numbers)) > 1:
                return (
                    "neurons of a layer have time constants of their own (model.tau_scope=neuron)."
                )
    return None


def write(network: Deployed, out: Path) -> None:
    """Write network.h5, run.py and README.md."""
    (network if network.is_integer else folded.fold(network)).save(out / "network.h5")
    numbers = "integers" if network.is_integer else "float64"
    files = {"network.h5": f"its numbers in {numbers}, BatchNorm folded into weights"}
    program.write("lava", network, out, title="Lava", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable LAVA_PYTHON names, or this."""
    return program.run(network, out, samples, package="lava", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64, or of integers."""
    return network if network.is_integer else folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """Nothing: simulators have no sizes to keep to."""
    return {}
