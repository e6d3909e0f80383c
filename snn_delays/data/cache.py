"""Frames of a whole file, made once, kept in one memory-mapped file.

The name carries the key: content of the source, every setting that shapes the frames, and the
version of the format. A cache is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from snn_delays.config import Config
from snn_delays.data.events import SpikeFile, file_digest
from snn_delays.data.frames import to_frames
from snn_delays.errors import UserError

FORMAT = 2
MOST_STEPS = 100_000  # of a sample; longer ones are mistakes of unit
FLOAT16_SECONDS = 65.5  # 1000 times this overflows


@dataclass(frozen=True)
class FrameStore:
    """All frames of one file.

    Attributes:
        frames: [total steps, channels] counts, memory-mapped, sample after sample.
        start: [N + 1] first step of each sample.
        labels: [N].
        speakers: [N], or None.
        classes: class names.
        source: file that the frames were made from.
        sha256: digest of that file's content.
    """

    frames: NDArray[np.unsignedinteger]
    start: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: NDArray[np.int64] | None
    classes: list[str]
    source: Path
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)


def cache_folder(config: Config) -> Path:
    """Where prepared data lies: data.cache, or snn_delays in the user's cache folder."""
    if config.data.cache is not None:
        return Path(config.data.cache).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "snn_delays"


def open_frames(path: Path, config: Config) -> FrameStore:
    """The frames of a file of SHD's format, made first if they are not there.

    Raises:
        UserError: the file is not of the format, or the cache folder cannot be written.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        sha256 = file_digest(path, "sha256")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    settings = {
        "format": FORMAT,
        "source": sha256,
        "step_ms": config.data.step_ms,
        "units": config.data.units,
        "units_per_channel": config.data.units_per_channel,
        "arithmetic": config.frame_arithmetic,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    cached = cache_folder(config) / f"{path.stem}-{key}.frames"
    with contextlib.suppress(OSError, EOFError, ValueError):  # not there, or damaged: made anew
        return _load(cached, path, sha256)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        _make(path, cached, config)
    except OSError as error:
        raise UserError(
            f"The frames of {path.name} cannot be written to {cached.parent} ({error}); set"
            " data.cache to another folder."
        ) from error
    return _load(cached, path, sha256)


def _frames(dataset: SpikeFile, number: int, config: Config) -> NDArray[np.unsignedinteger]:
    """Frames of one sample, in the smallest type that holds their counts."""
    events, _ = dataset[number]
    times = events["t"]
    seconds, step_ms = float(np.ptp(times)), config.data.step_ms
    where = f"{dataset.path}: sample {number}"
    if seconds * 1000 / step_ms > MOST_STEPS:
        raise UserError(
            f"{where} lasts {seconds:g} s, more than {MOST_STEPS} steps of {step_ms:g} ms; times"
            " must be in seconds."
        )
    if config.frame_arithmetic == "float16" and np.abs(times).max() > FLOAT16_SECONDS:
        raise UserError(
            f"{where} has times beyond {FLOAT16_SECONDS:g} s, which the authors' float16 arithmetic"
            " cannot hold; set data.frame_arithmetic=float64."
        )
    counts = to_frames(
        times,
        events["x"],
        step_ms=step_ms,
        channels=config.data.channels,
        units_per_channel=config.data.units_per_channel,
        arithmetic=config.frame_arithmetic,
    )
    return counts.astype(np.min_scalar_type(counts.max()))


def _make(path: Path, cached: Path, config: Config) -> None:
    dataset = SpikeFile(path, units=config.data.units)
    title = f"frames of {path.name}"
    numbers = tqdm(range(len(dataset)), desc=title, unit="sample", disable=None, leave=False)
    counts = [_frames(dataset, number, config) for number in numbers]
    dataset.close()
    frames = np.concatenate(counts)
    speakers = dataset.speaker if dataset.speaker is not None else np.empty(0, np.int64)
    classes = np.array([name.encode() for name in dataset.classes])
    start = np.cumsum([0, *map(len, counts)])
    with tempfile.NamedTemporaryFile(dir=cached.parent, suffix=".part", delete=False) as file:
        try:
            for array in (start, dataset.labels, speakers, classes, frames):
                np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, cached)
        except BaseException:
            os.unlink(file.name)
            raise


def _load(cached: Path, source: Path, sha256: str) -> FrameStore:
    with open(cached, "rb") as file:
        start, labels, speakers, classes = (np.load(file) for _ in range(4))
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        frames = np.memmap(cached, dtype, "r", offset=file.tell(), shape=shape)
    return FrameStore(
        frames=frames,
        start=start,
        labels=labels,
        speakers=speakers if len(speakers) else None,
        classes=[name.decode() for name in classes],
        source=source,
        sha256=sha256,
    )
