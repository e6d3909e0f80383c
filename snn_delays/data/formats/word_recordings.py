"""Spoken words as a Tonic dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tonic

from snn_delays.data.audio import read_waveform
from snn_delays.data.formats.words import WordList


class Words(tonic.Dataset):
    """Spoken words as a Tonic dataset; an item is (waveform int16 [samples] at 16 kHz, label).

    Args:
        words: the recordings.
        channel: of recordings with several channels (``audio.read_waveform``).
        transform: applied to the waveform of an item.
        target_transform: applied to its label.

    Attributes:
        classes: words, in order of their label.
        labels: [N] int64.
    """

    sensor_size = (1, 1, 1)
    dtype = np.dtype(np.int16)
    ordering = None

    def __init__(
        self,
        words: WordList,
        *,
        channel: str | None = None,
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(str(words.folder), transform, target_transform)
        self.location_on_system = str(words.folder)
        self.words = words
        self.channel = channel
        self.classes = words.classes
        self.labels = words.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path = self.words.folder / self.words.files[index]
        waveform: Any = read_waveform(path, self.channel)
        target = self.labels[index]
        if self.transform is not None:
            waveform = self.transform(waveform)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return waveform, target
