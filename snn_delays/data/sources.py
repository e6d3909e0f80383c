"""What frames are made from: a file of spikes, or spoken words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.config import Config, DataConfig
from snn_delays.data.checksums import content_digest
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.formats.words import WordList, Words
from snn_delays.data.frame_file import Recordings
from snn_delays.data.frames import SECOND, to_frames
from snn_delays.data.progress import progress
from snn_delays.data.speech import RATE, fit_length, log_mel
from snn_delays.errors import UserError

FRAMES_VERSION = 1  # counts up when other frames come of the same settings
SPEECH_VERSION = 1
MOST_STEPS = 100_000  # of a sample
MOST_CELLS = 1 << 27  # steps times channels of a sample, of 8 bytes each while it is made
MOST_SECONDS = 100.0  # of a sample, where nobody said in what unit its times are
FLOAT16_MS = 65_500.0  # the greatest float16 is 65,504
BATCH = 256  # waveforms that become frames at once


class Source(Protocol):
    """Recordings of one split, and how they become frames."""

    @property
    def path(self) -> Path:
        """File or folder."""

    @property
    def name(self) -> str:
        """Of the files in the cache."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the frames besides the recordings' content."""

    def check(self) -> None:
        """Refuse recordings that are not there, before any frames are made."""

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of what the recordings hold."""

    def open(self) -> contextlib.AbstractContextManager[Recordings]:
        """The recordings with their frames, read once, with a bar."""

    def again(self) -> Source:
        """The same recordings as they are now."""

    def waveforms(self) -> Source | None:
        """The same recordings as waveforms, where they are audio."""


@dataclass(frozen=True)
class SpikeSource:
    """A file of SHD's format, as counts of spikes.

    Attributes:
        advice: end of the sentence that says the file is missing.
    """

    path: Path
    data: DataConfig
    arithmetic: str
    advice: str = "."

    @property
    def name(self) -> str:
        """Of the files in the cache."""
        return self.path.stem

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the frames besides the file's content."""
        return {
            "spikes": FRAMES_VERSION,
            "step_ms": self.data.step_ms,
            "time_unit": self.data.time_unit,
            "units": self.data.units,
            "units_per_channel": self.data.units_per_channel,
            "arithmetic": self.arithmetic,
        }

    def check(self) -> None:
        """Refuse a file that is not there."""
        if not self.path.is_file():
            raise UserError(f"There is no file {self.path}{self.advice}")

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of the file."""
        self.check()
        return content_digest(self.path, memo, fresh=fresh)

    @contextlib.contextmanager
    def open(self) -> Iterator[Recordings]:
        """The file's samples."""
        dataset = SpikeFile(self.path, units=self.data.units)
        try:
            if self.data.time_unit == "auto" and dataset.integer_times:
                raise UserError(
                    f"{self.path}: spikes/times are integers, which are seldom seconds: name their"
                    " unit by data.time_unit=ms, us, ns or s."
                )
            title = f"frames of {self.path.name}"
            frames = progress(self._frames(dataset), title, len(dataset), "samples")
            yield Recordings(frames, dataset.labels, dataset.speakers, dataset.classes)
        finally:
            dataset.close()

    def again(self) -> SpikeSource:
        """The same file, whose state is looked at each time."""
        return self

    def waveforms(self) -> None:
        """Spikes have none."""

    @property
    def _time_unit(self) -> str:
        return "s" if self.data.time_unit == "auto" else self.data.time_unit

    def _frames(self, dataset: SpikeFile) -> Iterator[NDArray[np.int64]]:
        for number, (times, units) in enumerate(dataset.spikes()):
            self._check_times(f"{self.path}: sample {number}", times)
            yield to_frames(
                times,
                units,
                step_ms=self.data.step_ms,
                channels=self.data.channels,
                units_per_channel=self.data.units_per_channel,
                time_unit=self._time_unit,
                arithmetic=self.arithmetic,
            )

    def _check_times(self, where: str, times: NDArray[np.floating]) -> None:
        second = SECOND[self._time_unit]
        seconds, step_ms = float(times.max() - times.min()) / second, self.data.step_ms
        if self.data.time_unit == "auto" and seconds > MOST_SECONDS:
            raise UserError(
                f"{where} lasts {seconds:g} s: times must be in seconds, unless data.time_unit says"
                f" otherwise.{_likely_unit(seconds)}"
            )
        steps = max(1.0, seconds * 1000 / step_ms)
        if steps > MOST_STEPS:
            raise UserError(
                f"{where} lasts {seconds:g} s, more than {MOST_STEPS:,} steps of {step_ms:g} ms:"
                " give longer steps by data.step_ms, or the unit of the times by data.time_unit."
            )
        if steps * self.data.channels > MOST_CELLS:
            raise UserError(
                f"{where} has {steps:,.0f} steps of {self.data.channels:,} channels, more than"
                f" {MOST_CELLS:,} numbers: give longer steps by data.step_ms, or fewer channels by"
                " data.units_per_channel."
            )
        if self.arithmetic == "float16" and times.max() * 1000 / second > FLOAT16_MS:
            raise UserError(
                f"{where} has times beyond {FLOAT16_MS / 1000:g} s, which the authors' float16"
                " arithmetic cannot hold; set data.frame_arithmetic=float64."
            )


def _likely_unit(seconds: float) -> str:
    """Ask about the unit in which a recording of so many "seconds" has a usual length."""
    likely = [unit for unit, second in SECOND.items() if seconds <= MOST_SECONDS * second]
    if not likely:
        return ""
    return (
        f" Are they in {likely[0]}? Then give data.time_unit={likely[0]}. Are they in seconds? Then"
        " give data.time_unit=s."
    )


@dataclass(frozen=True)
class WordSource:
    """Spoken words, as log-mel frames, or as waveforms that become these later.

    Attributes:
        split: "train", "valid" or "test", or what else tells the caches apart.
        as_waveforms: frames are the waveforms, int16 [samples, 1].
    """

    words: WordList
    split: str
    data: DataConfig
    as_waveforms: bool = False

    @property
    def path(self) -> Path:
        """The folder."""
        return self.words.folder

    @property
    def name(self) -> str:
        """Of the files in the cache."""
        kind = "-waveforms" if self.as_waveforms else ""
        return f"{self.path.name}-{self.split}{kind}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the frames besides the recordings' content."""
        settings = {
            "speech": SPEECH_VERSION,
            "samples": self._samples,
            "speakers": self.data.speaker_pattern,
            "classes": self.words.classes,
        }
        if self.as_waveforms:
            return {**settings, "waveforms": True}
        return {**settings, "step_ms": self.data.step_ms}

    @property
    def _samples(self) -> int:
        return round(self.data.seconds * RATE)

    def check(self) -> None:
        """The list of words was made of recordings that are there."""

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of the recordings and their names."""
        return content_digest(self.path, memo, files=self.words.as_files(), fresh=fresh)

    @contextlib.contextmanager
    def open(self) -> Iterator[Recordings]:
        """The recordings."""
        dataset = Words(self.words)
        title = f"frames of {self.name}"
        frames = progress(self._frames(dataset), title, len(dataset), "samples")
        yield Recordings(frames, dataset.labels, self.words.speakers, self.words.classes)

    def again(self) -> WordSource:
        """The same recordings as they are now."""
        return replace(self, words=self.words.again())

    def waveforms(self) -> WordSource | None:
        """The same recordings as waveforms."""
        return None if self.as_waveforms else WordSource(self.words, self.split, self.data, True)

    def _frames(self, dataset: Words) -> Iterator[NDArray[Any]]:
        for first in range(0, len(dataset), BATCH):
            numbers = range(first, min(first + BATCH, len(dataset)))
            waves = np.stack([fit_length(dataset[n][0], self._samples) for n in numbers])
            if self.as_waveforms:
                yield from waves[:, :, None]
            else:
                yield from log_mel(to_float(waves), step_ms=self.data.step_ms).numpy()


def named_files(data: DataConfig) -> dict[str, Path]:
    """The files of spikes that options name, by split."""
    named = {"train": data.train_file, "valid": data.valid_file, "test": data.test_file}
    return {split: Path(file).expanduser() for split, file in named.items() if file is not None}


def spike_sources(files: dict[str, Path], config: Config) -> dict[str, Source]:
    """Sources of the files of spikes of each split."""
    return {
        split: SpikeSource(path, config.data, config.frame_arithmetic)
        for split, path in files.items()
    }


def word_sources(
    words: WordList, masks: dict[str, NDArray[np.bool_]], data: DataConfig
) -> dict[str, Source]:
    """Sources of the words of each split, in the order "train", "valid", "test".

    Args:
        words: all recordings.
        masks: [N] of each split: which of them it has.
        data: options.
    """
    ordered = [split for split in ("train", "valid", "test") if split in masks]
    return {split: WordSource(words.where(masks[split]), split, data) for split in ordered}


def to_float(waves: NDArray[np.int16]) -> torch.Tensor:
    """Waveforms as numbers in [-1, 1)."""
    return torch.from_numpy(waves).float() / 32768
