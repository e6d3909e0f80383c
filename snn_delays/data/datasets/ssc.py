"""Spiking Speech Commands: 35 classes. Cramer et al. 2020, arXiv 1910.07407."""

from __future__ import annotations

from snn_delays.config import Config
from snn_delays.data.published import PublishedSpikes
from snn_delays.data.sources import Source

SSC = PublishedSpikes("SSC", samples={"train": 75466, "valid": 9981, "test": 20382})


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training, validation and test data."""
    return SSC.sources(config, fresh)
