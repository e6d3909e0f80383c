"""The options of a suite's networks, and of the trials in which some of them are searched.

Trials are drawn before any of them is trained. They therefore run in parallel, resume, and do not
depend on their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
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


@dataclass(frozen=True)
class Row:
    """A member of a suite, without seed and folder.

    Attributes:
        config: all options of its runs, before a search.
        trials: of its search, or ().
        account: how its options were found, for the lines of its results.
    """

    config: Config
    trials: Sequence[Trial] = ()
    account: dict[str, Any] = field(default_factory=dict)


def seeded(config: Config, seed: int, folder: Path) -> Config:
    """The options of a network's run with this seed, which also stands in ``train.init``."""
    init = config.train.init and config.train.init.replace("{seed}", str(seed))
    train = dataclasses.replace(config.train, init=init)
    return dataclasses.replace(config, seed=seed, out=str(folder.absolute()), train=train)


def points(trials: int, options: int) -> NDArray[Any]:
    """Points of the trials in the space of options, in [0, 1), [trials, options].

    They are the first of a scrambled Halton sequence, so that more trials include those of fewer.
    Without options there are no trials.
    """
    if not options:
        return np.empty((0, 0))
    from scipy.stats import qmc  # a second to load, for searches alone

    return qmc.Halton(options, seed=0).random(trials)
