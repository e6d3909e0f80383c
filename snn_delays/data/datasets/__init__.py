"""The data sets: a file of this folder each, which ``data.name`` names.

A file has one function, ``sources(config, fresh) -> dict[str, Source]``: the recordings of the
splits "train", and "valid" and "test" where they have their own. ``fresh`` asks for checksums to be
taken anew. It raises UserError where a file is missing or not the published one. Besides, a data
set has a line in snn_delays/config/datasets.py and a file configs/data/<name>.yaml.
"""

from __future__ import annotations

import importlib
import pkgutil

from snn_delays.config import Config
from snn_delays.data.sources import Source


def names() -> list[str]:
    """The data sets that there are."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def find_sources(config: Config, *, fresh: bool = False) -> dict[str, Source]:
    """The recordings of each split of ``config.data``, as the data set's file finds them.

    Args:
        config: options.
        fresh: take checksums of published files anew.

    Raises:
        UserError: a file is missing or not the published one.
    """
    module = importlib.import_module(f"{__name__}.{config.data.name}")
    found: dict[str, Source] = module.sources(config, fresh)
    return found
