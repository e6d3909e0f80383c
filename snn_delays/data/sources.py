"""Sources of frames: a file of spikes, or a folder of spoken words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.config import Config, DataConfig
from snn_delays.data.checksums import content_digest
from snn_delays.data.formats.words import WordList
from snn_delays.data.frame_file import Recordings
from snn_delays.data.frames import SECOND, to_frames
from snn_delays.data.progress import progress
from snn_delays.data.speech import RATE, fit_length, log_mel
from snn_delays.errors import UserError

if TYPE_CHECKING:  # late: where frames are prepared, a run needs neither Tonic nor h5py, 30 MB
    from snn_delays.data.formats.spike_file import SpikeFile
    from snn_delays.data.formats.word_recordings import Words

FRAMES_VERSION = 1  # to be raised when the same settings begin to give other frames
SPEECH_VERSION = 1
MOST_STEPS = 100_000  # of a sample
MOST_CELLS = 1 << 27  # steps times channels of a sample; a cell takes 8 bytes while it is made
MOST_SECONDS = 100.0  # of a sample whose time unit is data.time_unit=auto
FLOAT16_MS = 65_500.0  # the greatest float16 is 65,504
BATCH = 256  # waveforms that are converted to frames at a time


class Source(Protocol):
    """The recordings of one split, and the way to make frames of them."""

    @property
    def path(self) -> Path:
        """File or folder of the recordings."""

    @property
    def name(self) -> str:
        """Start of the name of their frame file in the cache."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that shapes the frames, except for the recordings' content."""

    def check(self) -> None:
        """Refuse missing recordings, before any frames are made."""

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of the recordings' content; see ``checksums.content_digest``."""

    def open(self) -> contextlib.AbstractContextManager[Recordings]:
        """The recordings with their frames, to be read once; shows a progress bar."""

    def again(self) -> Source:
        """The same recordings, with the present state of their files."""

    def waveforms(self) -> Source | None:
        """The same recordings as waveforms; None if they are not audio."""


@dataclass(frozen=True)
class SpikeSource:
    """A file of SHD's format; frames are spike counts.

    Attributes:
        path: the file.
        data: options of the data.
        arithmetic: see ``frames.to_frames``.
        advice: end of the sentence that says the file is missing.
    """

    path: Path
    data: DataConfig
    arithmetic: str
    advice: str = "."

    @property
    def name(self) -> str:
        """Start of the name of the frame file in the cache."""
        return self.path.stem

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that shapes the frames, except for the file's content."""
        return {
            "spikes": FRAMES_VERSION,
            "step_ms": self.data.step_ms,
            "time_unit": self.data.time_unit,
            "units": self.data.units,
            "units_per_channel": self.data.units_per_channel,
            "arithmetic": self.arithmetic,
            **({"target": "per_step"} if self._per_step else {}),
        }

    @property
    def _per_step(self) -> bool:
        return self.data.target == "per_step"

    def check(self) -> None:
        """Refuse a missing file."""
        if not self.path.is_file():
            raise UserError(f"There is no file {self.path}{self.advice}")

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of the file."""
        self.check()
        return content_digest(self.path, memo, fresh=fresh)

    @contextlib.contextmanager
    def open(self) -> Iterator[Recordings]:
        """The file's samples."""
        from snn_delays.data.formats.spike_file import SpikeFile

        dataset = SpikeFile(self.path, units=self.data.units, per_step=self._per_step)
        try:
            if self.data.time_unit == "auto" and dataset.integer_times:
                raise UserError(
                    f"{self.path}: spikes/times are integers, which are seldom seconds: name their"
                    " unit by data.time_unit=ms, us, ns or s."
                )
            title = f"frames of {self.path.name}"
            frames = progress(self._frames(dataset), title, len(dataset), "samples")
            yield Recordings(
                frames, dataset.labels, dataset.speakers, dataset.classes, dataset.targets
            )
        finally:
            dataset.close()

    def again(self) -> SpikeSource:
        """The same file; its state is read at every digest."""
        return self

    def waveforms(self) -> None:
        """None: spikes have no waveforms."""

    @property
    def _time_unit(self) -> str:
        return "s" if self.data.time_unit == "auto" else self.data.time_unit

    def _frames(self, dataset: SpikeFile) -> Iterator[NDArray[np.int64]]:
        for number, (times, units) in enumerate(dataset.spikes()):
            where = f"{self.path}: sample {number}"
            self._check_times(where, times)
            steps = None if dataset.steps is None else int(dataset.steps[number])
            if steps is not None:
                self._check_within(where, times, steps)
            yield to_frames(
                times,
                units,
                step_ms=self.data.step_ms,
                channels=self.data.channels,
                units_per_channel=self.data.units_per_channel,
                time_unit=self._time_unit,
                arithmetic=self.arithmetic,
                steps=steps,
            )

    def _check_within(self, where: str, times: NDArray[np.floating], steps: int) -> None:
        """Refuse spikes behind the last step that has a target."""
        last_ms = float(times.max()) * 1000 / SECOND[self._time_unit]
        if last_ms > steps * self.data.step_ms:
            raise UserError(
                f"{where} has targets for {steps} steps of {self.data.step_ms:g} ms, but a spike at"
                f" {last_ms:g} ms: set data.step_ms to the time between targets, and give a target"
                " (or NaN) for every step."
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
    """A question about the unit in which a recording of so many "seconds" has a usual length."""
    likely = [unit for unit, second in SECOND.items() if seconds <= MOST_SECONDS * second]
    if not likely:
        return ""
    return (
        f" Are they in {likely[0]}? Then give data.time_unit={likely[0]}. Are they in seconds? Then"
        " give data.time_unit=s."
    )


@dataclass(frozen=True)
class WordSource:
    """Spoken words, as log-mel frames or as waveforms.

    Attributes:
        words: the recordings.
        split: "train", "valid", "test" or another word; part of the frame file's name.
        data: options of the data.
        as_waveforms: the frames are the waveforms, int16 [samples, 1].
    """

    words: WordList
    split: str
    data: DataConfig
    as_waveforms: bool = False

    @property
    def path(self) -> Path:
        """The folder of the recordings."""
        return self.words.folder

    @property
    def name(self) -> str:
        """Start of the name of the frame file in the cache."""
        kind = "-waveforms" if self.as_waveforms else ""
        return f"{self.path.name}-{self.split}{kind}"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that shapes the frames, except for the recordings' content."""
        settings = {
            "speech": SPEECH_VERSION,
            "samples": self._samples,
            "speakers": self.data.speaker_pattern,
            "classes": self.words.classes,
            **({} if self.data.channel is None else {"channel": self.data.channel}),
        }
        if self.as_waveforms:
            return {**settings, "waveforms": True}
        return {**settings, "step_ms": self.data.step_ms}

    @property
    def _samples(self) -> int:
        return round(self.data.seconds * RATE)

    def check(self) -> None:
        """Do nothing: the list of words only has existing recordings."""

    def digest(self, memo: Path, *, fresh: bool = False) -> str:
        """SHA-256 of the recordings and their names."""
        return content_digest(self.path, memo, files=self.words.as_files(), fresh=fresh)

    @contextlib.contextmanager
    def open(self) -> Iterator[Recordings]:
        """The recordings with their frames or waveforms."""
        from snn_delays.data.formats.word_recordings import Words

        dataset = Words(self.words, channel=self.data.channel)
        title = f"frames of {self.name}"
        frames = progress(self._frames(dataset), title, len(dataset), "samples")
        yield Recordings(frames, dataset.labels, self.words.speakers, self.words.classes)

    def again(self) -> WordSource:
        """The same recordings, with the present state of their files."""
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
    """The files of spikes given by options, by split."""
    named = {"train": data.train_file, "valid": data.valid_file, "test": data.test_file}
    return {split: Path(file).expanduser() for split, file in named.items() if file is not None}


def spike_sources(files: dict[str, Path], config: Config) -> dict[str, Source]:
    """A source for each split's file of spikes."""
    return {
        split: SpikeSource(path, config.data, config.frame_arithmetic)
        for split, path in files.items()
    }


def word_sources(
    words: WordList, masks: dict[str, NDArray[np.bool_]], data: DataConfig
) -> dict[str, Source]:
    """A source for each split of a list of words, in the order "train", "valid", "test".

    Args:
        words: all recordings.
        masks: for each split a mask [N] of its recordings.
        data: options of the data.
    """
    ordered = [split for split in ("train", "valid", "test") if split in masks]
    return {split: WordSource(words.where(masks[split]), split, data) for split in ordered}


def to_float(waves: NDArray[np.int16]) -> torch.Tensor:
    """Waveforms as float32 numbers in [-1, 1)."""
    return torch.from_numpy(waves).float() / 32768
