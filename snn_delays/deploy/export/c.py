"""A deployed network as a file and a header of C99."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from snn_delays.deploy.export import Answer
from snn_delays.deploy.network import Deployed


def refusal(network: Deployed) -> str | None:
    """Why C cannot hold this network; None: it can."""
    return "its code is not written yet."


def write(network: Deployed, out: Path) -> None:
    """Write the files."""


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Compile and run them."""
    yield from ()


def facts(network: Deployed) -> dict[str, Any]:
    """Sizes and costs."""
    return {}
