"""The data sets: one module of this package each, named by the option ``data.name``.

A module has one function, ``sources(config, fresh) -> dict[str, Source]``. It returns the source of
the split "train", and of "valid" and "test" if they have files of their own; with ``fresh``
checksums are computed again. It raises UserError if a file is missing or is not the published one.
A data set also needs a line in snn_delays/config/datasets.py and a file configs/data/<name>.yaml.

A user's own function, which ``data.name`` names as ``module:name``, takes ``config``, and ``fresh``
if it likes. Its splits may be paths of files of SHD's format in place of sources.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path

from snn_delays.config import Config
from snn_delays.config.options import is_own
from snn_delays.config.own_parts import OwnPart, call
from snn_delays.data.sources import Source, spike_sources

ORDER = ("train", "valid", "test")


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
    if is_own(config.data.name):
        return _own_sources(config, fresh)
    module = importlib.import_module(f"{__name__}.{config.data.name}")
    found: dict[str, Source] = module.sources(config, fresh)
    return found


def _own_sources(config: Config, fresh: bool) -> dict[str, Source]:
    part = OwnPart("data.name", config.data.name)
    function = part.load()
    with part.guarded():
        found = call(function, config, fresh=fresh)
        if not isinstance(found, dict) or not {"train"} <= {*found} <= {*ORDER}:
            raise part.misfit(f"it returns {type(found).__name__} {found!r:.80}")
        paths = {
            k: Path(v).absolute() for k, v in found.items() if isinstance(v, str | os.PathLike)
        }
        sources = {**found, **spike_sources(paths, config)}
        for split, source in sources.items():
            if not hasattr(source, "digest"):
                raise part.misfit(f"{split} is {type(source).__name__}")
        return {split: sources[split] for split in ORDER if split in sources}
