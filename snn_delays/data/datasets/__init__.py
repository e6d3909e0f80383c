"""The data sets: one module of this package each, named by the option ``data.name``.

A module has one function, ``sources(config, fresh) -> dict[str, Source]``. It returns the source of
the split "train", and of "valid" and "test" if they have files of their own; with ``fresh``
checksums are computed again. It raises UserError if a file is missing or is not the published one.
A data set also needs a line in snn_delays/config/datasets.py and a file configs/data/<name>.yaml.
"""

from __future__ import annotations

import importlib
import pkgutil

from snn_delays.config import Config
from snn_delays.data.sources import Source


def names() -> list[str]:
    """Names of all data sets."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def find_sources(config: Config, *, fresh: bool = False) -> dict[str, Source]:
    """The source of each split of the data set ``config.data``.

    Args:
        config: options.
        fresh: compute checksums of published files again, even if noted ones exist.

    Raises:
        UserError: a file is missing or is not the published one.
    """
    module = importlib.import_module(f"{__name__}.{config.data.name}")
    found: dict[str, Source] = module.sources(config, fresh)
    return found
