"""A deployed network as a program for NEST."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from snn_delays.deploy.export import Answer, folded, program
from snn_delays.deploy.network import Deployed

INSTALL = "pip install nest-simulator h5py"


def refusal(network: Deployed) -> str | None:
    """Why NEST cannot hold this network; None: it can."""
    return folded.refusal(network, real=False, soft=False, adaptive=False)


def write(network: Deployed, out: Path) -> None:
    """Write network.h5, run.py and README.md."""
    folded.fold(network).save(out / "network.h5")
    files = {"network.h5": "its numbers in float64, BatchNorm folded into weights"}
    program.write("nest", network, out, title="NEST", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable NEST_PYTHON names, or this."""
    return program.run(network, out, samples, package="nest", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64."""
    return folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """Nothing: simulators have no sizes to keep to."""
    return {}
