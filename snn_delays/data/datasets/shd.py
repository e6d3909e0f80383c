"""Spiking Heidelberg Digits: 20 classes; no validation split of its own.

Cramer et al., "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural
Networks", 2020, arXiv 1910.07407.
"""

from __future__ import annotations

from snn_delays.config import Config
from snn_delays.data.published import PublishedSpikes
from snn_delays.data.sources import Source

SHD = PublishedSpikes(
    "SHD",
    samples={"train": 8156, "test": 2264},
    md5={"train": "8e9877c85f29a28dd353ea6a54402667", "test": "207ad1295a0ab611e22d1734989c254e"},
)


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training and test data."""
    return SHD.sources(config, fresh)
