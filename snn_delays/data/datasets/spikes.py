"""The user's files of SHD's format, given by data.train_file, valid_file and test_file."""

from __future__ import annotations

from pathlib import Path

from snn_delays.config import Config, DataConfig
from snn_delays.data.sources import Source, SpikeSource, named_files


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """The given files."""
    data = config.data
    return {
        split: SpikeSource(path, data, config.frame_arithmetic, _advice(path, split, data))
        for split, path in named_files(data).items()
    }


def _advice(path: Path, split: str, data: DataConfig) -> str:
    """The end of a sentence about a missing file: ways to get it."""
    root, below = Path(data.root).expanduser(), ""
    if path.is_relative_to(root):
        below = f" set data.root to the folder that holds {path.relative_to(root)},"
    return (
        f":{below} name the file by data.{split}_file=<path>, or make it by"
        " `snn-delays data encode in=<folder of <word>/*.wav> out=<path>` (datasets/README.md says"
        " where each data set comes from)."
    )
