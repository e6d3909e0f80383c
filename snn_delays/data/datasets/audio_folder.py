"""The user's spoken words, in a folder of ``<word>/*.wav``, with or without lists of the splits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from snn_delays.config import Config, DataConfig
from snn_delays.data.formats.words import TEST_LIST, VALID_LIST, list_words
from snn_delays.data.sources import Source, word_sources
from snn_delays.errors import UserError


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training data, and validation and test data if they have a list."""
    data = config.data
    folder = Path(str(data.folder)).expanduser()
    words = list_words(folder, data.speaker_pattern)
    splits, lists = {}, {}
    for split, named, usual in (
        ("valid", data.valid_list, VALID_LIST),
        ("test", data.test_list, TEST_LIST),
    ):
        path = folder / usual if named is None else Path(named).expanduser()
        if named is not None or os.path.lexists(path):
            splits[split], lists[split] = words.listed(path), path
    _check_lists(data, lists)
    if len(splits) == 2 and (splits["valid"] & splits["test"]).any():
        raise UserError(f"{lists['valid']} and {lists['test']} name the same recordings.")
    splits["train"] = ~np.any([np.zeros(len(words.files), bool), *splits.values()], axis=0)
    for split, mask in splits.items():
        if not mask.any():
            raise UserError(f"{folder}: no recording is left for split {split}.")
    return word_sources(words, splits, data)


def _check_lists(data: DataConfig, lists: dict[str, Path]) -> None:
    """Refuse options that have no effect because a list names the recordings."""
    void = {
        "valid": ("valid_speakers", "valid_count", "split", "fold"),
        "test": ("test_speakers", "test_fold"),
    }
    usual = DataConfig()
    for split, path in lists.items():
        for key in void[split]:
            if getattr(data, key) != getattr(usual, key):
                raise UserError(
                    f"data.{key}={getattr(data, key)} has no use beside the list {path}: remove"
                    " one of them."
                )
