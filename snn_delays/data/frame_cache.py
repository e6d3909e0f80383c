"""The cache of frames: the frame file of each source, made when it is missing or damaged.

The file's name contains a key: a digest of the source's content, of every setting that shapes the
frames, and of the versions of both formats.
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
from snn_delays.data.frame_file import MAGIC, Damaged, FrameFile, write_frame_file
from snn_delays.data.names import checked_names
from snn_delays.data.sources import Source
from snn_delays.errors import UserError
from snn_delays.files import is_trusted, user_cache

MOST_LETTERS = 50  # of a source's name: a file's name has at most 255 bytes, a letter up to 4


def cache_folder(data: DataConfig) -> Path:
    """The folder of prepared data: data.cache, or snn_delays in the user's cache folder."""
    if data.cache is not None:
        return Path(data.cache).expanduser()
    return user_cache()


@dataclass
class FrameStore:
    """All frames of one split; a frame file that turns out to be damaged is made again.

    Attributes:
        file: the open frame file.
        recordings: the source of the frames.
        digest: SHA-256 of the source's content.
        remake: makes the frame file again.
        folder: cache folder.
        status: how the file was opened: "sound", "made", or "damaged (...), made anew".
    """

    file: FrameFile
    recordings: Source
    digest: str
    remake: Callable[[], FrameFile]
    folder: Path
    status: str

    @property
    def source(self) -> Path:
        """File or folder that the frames were made from."""
        return self.recordings.path

    def __len__(self) -> int:
        return len(self.file.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels, [N]."""
        return self.file.labels

    @property
    def speakers(self) -> NDArray[np.str_] | None:
        """Speaker of each sample, [N], or None if unknown."""
        return self.file.speakers

    @property
    def classes(self) -> list[str]:
        """Class names, in order of their label."""
        return self.file.classes

    @property
    def steps(self) -> NDArray[np.int64]:
        """Number of time steps of each sample, [N]."""
        return self.file.steps

    @property
    def dtype(self) -> np.dtype[Any]:
        """A type that holds all frames."""
        return self.file.dtype

    @cached_property
    def waveforms(self) -> FrameStore:
        """The same samples as waveforms, [samples, 1]; only audio has waveforms."""
        waveforms = self.recordings.waveforms()
        assert waveforms is not None
        return open_frames(waveforms, self.folder)

    @property
    def has_targets(self) -> bool:
        """Whether the samples have targets per step in place of classes."""
        return self.file.has_targets

    def targets(self, number: int) -> NDArray[np.float32]:
        """Targets of one sample, [steps, K], NaN where there is none."""
        return self.file.targets(number)

    def frames(self, number: int) -> NDArray[Any]:
        """Frames of one sample, [steps, channels], read-only."""
        try:
            return self.file.frames(number)
        except Damaged:
            self.file = self.remake()
            return self.file.frames(number)


def open_frames(source: Source, folder: Path, *, fresh: bool = False) -> FrameStore:
    """The frames of a source; a missing or damaged frame file is made first.

    Two processes may make the same file: each writes a file of its own and renames it.

    Args:
        source: recordings.
        folder: cache folder.
        fresh: read the source to compute its digest, even if a noted digest exists.

    Raises:
        UserError: the source is malformed, or the folder cannot be written.
    """
    digest = source.digest(folder, fresh=fresh)
    settings = {"format": MAGIC.decode(), "source": digest, **source.settings}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{source.name[:MOST_LETTERS]}-{key}.frames"
    remake = partial(_make, source, path, digest)
    try:
        file, status = _opened(path), "sound"
    except FileNotFoundError:
        file, status = remake(), "made"
    except (Damaged, OSError) as damage:
        file, status = remake(), f"damaged ({damage}), made anew"
    return FrameStore(file, source, digest, remake, folder, status)


def _opened(path: Path) -> FrameFile:
    if not is_trusted(path):
        raise Damaged("another user's, in a folder that everybody can write to")
    return FrameFile(path)


def _make(source: Source, path: Path, digest: str) -> FrameFile:
    def check() -> None:
        try:
            unchanged = source.again().digest(path.parent) == digest
        except OSError:
            unchanged = False
        if not unchanged:
            raise UserError(f"{source.path} changed while it was read: start again.")

    try:
        with source.open() as recordings:
            answers = "classes" if recordings.targets is None else "outputs"
            classes = checked_names(recordings.classes, f"The list of {answers} of {source.path}")
            write_frame_file(path, replace(recordings, classes=classes), check)
    except OSError as error:
        raise UserError(
            f"The frames of {source.path.name} cannot be written to {path.parent} ({error}); set"
            " data.cache to another folder."
        ) from error
    return FrameFile(path)
