"""Frames made once and kept: which file holds them, and when it is made.

The file's name carries the key: content of the source, every setting that shapes the frames, and
the versions of both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import DataConfig
from snn_delays.data.frame_file import MAGIC, Damaged, StoreFile, write_store
from snn_delays.data.names import checked_names
from snn_delays.data.sources import Source
from snn_delays.errors import UserError
from snn_delays.files import is_trusted, user_cache

MOST_LETTERS = 50  # of a source's name; files' names end at 255 bytes, and 4 of them are a letter


def cache_folder(data: DataConfig) -> Path:
    """Where prepared data lies: data.cache, or snn_delays in the user's cache folder."""
    if data.cache is not None:
        return Path(data.cache).expanduser()
    return user_cache()


@dataclass
class FrameStore:
    """All frames of one split; where its file turns out damaged, it is made anew.

    Attributes:
        file: the open file.
        recordings: what the frames were made from.
        digest: SHA-256 of what that holds.
        remake: makes the file anew.
        folder: cache folder.
        found: what was done to open it: "sound", "made", or "damaged (...), made anew".
    """

    file: StoreFile
    recordings: Source
    digest: str
    remake: Callable[[], StoreFile]
    folder: Path
    found: str

    @property
    def source(self) -> Path:
        """File or folder that the frames were made from."""
        return self.recordings.path

    def __len__(self) -> int:
        return len(self.file.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N]."""
        return self.file.labels

    @property
    def speakers(self) -> NDArray[np.str_] | None:
        """[N], or None."""
        return self.file.speakers

    @property
    def classes(self) -> list[str]:
        """Class names, in order of their label."""
        return self.file.classes

    @property
    def steps(self) -> NDArray[np.int64]:
        """[N] frames of each sample."""
        return self.file.steps

    @property
    def dtype(self) -> np.dtype[Any]:
        """That holds the numbers of all frames."""
        return self.file.dtype

    @cached_property
    def waveforms(self) -> FrameStore:
        """The same samples as waveforms, [samples, 1]; of audio alone."""
        waveforms = self.recordings.waveforms()
        assert waveforms is not None
        return open_frames(waveforms, self.folder)

    def frames(self, number: int) -> NDArray[Any]:
        """Frames of one sample, [steps, channels], read-only."""
        try:
            return self.file.frames(number)
        except Damaged:
            self.file = self.remake()
            return self.file.frames(number)


def open_frames(source: Source, folder: Path, *, fresh: bool = False) -> FrameStore:
    """The frames of a source, made first if they are not there, or damaged.

    Two processes may do so at once: each writes a file of its own and renames it.

    Args:
        source: recordings.
        folder: cache folder.
        fresh: read the source whatever is noted of its content.

    Raises:
        UserError: the source is malformed, or the folder cannot be written.
    """
    digest = source.digest(folder, fresh=fresh)
    settings = {"format": MAGIC.decode(), "source": digest, **source.settings}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{source.name[:MOST_LETTERS]}-{key}.frames"
    remake = partial(_make, source, path, digest)
    try:
        file, found = _opened(path), "sound"
    except FileNotFoundError:
        file, found = remake(), "made"
    except (Damaged, OSError) as damage:
        file, found = remake(), f"damaged ({damage}), made anew"
    return FrameStore(file, source, digest, remake, folder, found)


def _opened(path: Path) -> StoreFile:
    if not is_trusted(path):
        raise Damaged("another user's, in a folder that everybody can write to")
    return StoreFile(path)


def _make(source: Source, path: Path, digest: str) -> StoreFile:
    def check() -> None:
        try:
            unchanged = source.again().digest(path.parent) == digest
        except OSError:
            unchanged = False
        if not unchanged:
            raise UserError(f"{source.path} changed while it was read: start again.")

    try:
        with source.open() as recordings:
            classes = checked_names(recordings.classes, f"The list of classes of {source.path}")
            write_store(path, replace(recordings, classes=classes), check)
    except OSError as error:
        raise UserError(
            f"The frames of {source.path.name} cannot be written to {path.parent} ({error}); set"
            " data.cache to another folder."
        ) from error
    return StoreFile(path)
