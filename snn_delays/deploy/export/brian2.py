"""A deployed network as a program for Brian2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from snn_delays.deploy.export import Answer, folded, program
from snn_delays.deploy.network import Deployed

INSTALL = "pip install brian2 'numpy<2.4' h5py"


def refusal(network: Deployed) -> str | None:
    """Why Brian2 cannot hold this network; None: it can."""
    return folded.refusal(network, real=False)


def write(network: Deployed, out: Path) -> None:
    """Write network.h5, run.py and README.md."""
    folded.fold(network).save(out / "network.h5")
    files = {"network.h5": "its numbers in float64, BatchNorm folded into weights"}
    program.write("brian2", network, out, title="Brian2", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable BRIAN2_PYTHON names, or this."""
    return program.run(network, out, samples, package="brian2", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64."""
    return folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """Nothing: simulators have no sizes to keep to."""
    return {}
