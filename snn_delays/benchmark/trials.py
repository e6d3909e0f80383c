"""The trials of a search, drawn before any of them is trained.

They therefore run in parallel, resume, and do not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from snn_delays.config import Config


@dataclass(frozen=True)
class Trial:
    """Values of the searched options.

    Attributes:
        options: the values, as on the command line.
        config: all options of a network's runs with these.
    """

    options: list[str]
    config: Config


def points(trials: int, options: int) -> NDArray[Any]:
    """Points of the trials in the space of options, in [0, 1), [trials, options].

    They are the first of a scrambled Halton sequence, so that more trials include those of fewer.
    """
    from scipy.stats import qmc  # a second to load, for searches alone

    return qmc.Halton(options, seed=0).random(trials)
