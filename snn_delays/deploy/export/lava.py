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
    reason = folded.refusal(network, real=False, soft=False, adaptive=False)
    return reason or _several(network)


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
    folded.fold(network).save(out / "network.h5")
    files = {"network.h5": "its numbers in float64, BatchNorm folded into weights"}
    program.write("lava", network, out, title="Lava", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable LAVA_PYTHON names, or this."""
    return program.run(network, out, samples, package="lava", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64."""
    return folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """Nothing: simulators have no sizes to keep to."""
    return {}
