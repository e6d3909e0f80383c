"""Remarks about oddities of recordings, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import DataConfig
from snn_delays.data.loaders import Samples
from snn_delays.data.sources import WordSource

MOST_RANGES = 6  # in a sentence
CALLED = {"train": "training", "valid": "validation", "test": "test"}


def remarks(splits: dict[str, Samples], data: DataConfig) -> list[str]:
    """Remarks about files left out, silent channels, recordings of one frame or in two splits.

    Args:
        splits: samples of "train" and, if they exist, of "valid" and "test".
        data: options with which the frames were made.
    """
    shared = [
        sentence
        for one, other in (("test", "train"), ("valid", "train"), ("test", "valid"))
        if one in splits and other in splits
        for sentence in _shared(one, splits[one], other, splits[other])
    ]
    if data.audio:
        return [*_left_out(splits.values()), *shared]
    return [
        *_silent_channels(splits.values(), data),
        *_single_frames(splits.values(), data),
        *shared,
    ]


def _left_out(splits: Iterable[Samples]) -> list[str]:
    stores = (store for samples in splits for store in samples.stores)
    lists = (store.recordings.words for store in stores if isinstance(store.recordings, WordSource))
    return [*dict.fromkeys(remark for words in lists for remark in words.remarks)]


def _silent_channels(splits: Iterable[Samples], data: DataConfig) -> list[str]:
    used = np.any([store.file.used for samples in splits for store in samples.stores], axis=0)
    silent, last = np.flatnonzero(~used), np.flatnonzero(used)[-1]
    if not len(silent):
        return []
    sentence = f"{len(silent)} of {len(used)} channels hold no spike: {ranges(silent)}"
    above = int((silent > last).sum())
    if above:
        needed = (last + 1) * data.units_per_channel
        sentence += f"; data.units={needed} leaves out the {above} above channel {last}"
    return [f"{sentence}."]


def _single_frames(splits: Iterable[Samples], data: DataConfig) -> list[str]:
    stores = {store.source: store for samples in splits for store in samples.stores}
    return [
        f"Every recording of {source} is a single frame, {data.step_ms:g} ms or shorter: is"
        f" data.time_unit={data.time_unit} the unit of its times?"
        for source, store in stores.items()
        if (store.steps == 1).all()
    ]


def _shared(one: str, samples: Samples, other: str, others: Samples) -> list[str]:
    number = int(np.isin(samples.fingerprints, others.fingerprints).sum())
    if not number:
        return []
    says = (
        "accuracy on them says nothing about new recordings"
        if other == "train"
        else "the epoch is chosen on what is tested"
    )
    return [
        f"{number} of {len(samples)} {CALLED[one]} recordings have the same frames as"
        f" {CALLED[other]} recordings: {says}."
    ]


def ranges(numbers: NDArray[np.integer]) -> str:
    """Ascending numbers as ranges: "0 to 7, 9, 12 to 20"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(texts[:MOST_RANGES]) + (", ..." if len(texts) > MOST_RANGES else "")
