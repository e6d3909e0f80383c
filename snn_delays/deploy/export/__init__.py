"""Forms in which a deployed network leaves the package: a module for each word of ``TARGETS``.

A target's module has the functions of ``Target``. Its name is the word, as in
``snn-delays export target=c``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from snn_delays.config.commands import TARGETS
from snn_delays.deploy.network import Deployed
from snn_delays.errors import UserError

__all__ = ["TARGETS", "Answer", "Target", "target"]


@dataclass(frozen=True)
class Answer:
    """What an export says of a recording of T frames; S is ``network.ends(T)[-1]``.

    Attributes:
        scores: [K].
        prediction: number of the class that it decides for.
        spikes: of every layer whose neurons fire, in their order, what it gave in each step,
            [S, O]: 0 or 1, behind a synaptic filter the filter's output; None: it cannot tell.
    """

    scores: NDArray[Any]
    prediction: int
    spikes: list[NDArray[Any]] | None = None


class Target(Protocol):
    """A module of this package."""

    def refusal(self, network: Deployed) -> str | None:
        """Why the target cannot hold this network, in one sentence; None: it can."""

    def write(self, network: Deployed, out: Path) -> None:
        """Write the network's files into the folder, which exists and is empty."""

    def run(
        self, network: Deployed, out: Path, samples: Iterable[NDArray[Any]]
    ) -> Iterator[Answer]:
        """Run what ``write`` has written into the folder.

        Args:
            network: the network that was written, to know its sizes; its numbers stay unread.
            out: the folder.
            samples: frames [T, I] of each recording.

        Raises:
            UserError: a program that this needs is missing; the sentence names it.
        """

    def example(self, network: Deployed, out: Path, frames: NDArray[Any]) -> str:
        """Write a recording [T, I] as the export's program reads it; returns the file's name."""

    def reference(self, network: Deployed) -> Deployed:
        """The network that the export computes: the same numbers, perhaps in wider arithmetic."""

    def facts(self, network: Deployed) -> dict[str, Any]:
        """Sizes and costs for verify.json, by a name with the unit, such as ``flash_bytes``."""


def target(name: str) -> Target:
    """The module of a target; nothing that it needs is imported before.

    Args:
        name: a word of ``TARGETS``.

    Raises:
        UserError: the target needs a package that is missing.
    """
    try:
        return cast(Target, importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise UserError(
            f"target={name} needs the package {error.name}: pip install 'snn-delays[export]'."
        ) from error
