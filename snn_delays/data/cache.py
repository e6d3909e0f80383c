"""Frames made once and kept: which file holds them, and when it is made.

The file's name carries the key: content of the source, every setting that shapes the frames, and
the versions of both.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from functools import partial
from pathlib import Path

from snn_delays.config import DataConfig
from snn_delays.data.recordings import Source
from snn_delays.data.store import MAGIC, Damaged, FrameStore, StoreFile, write_store
from snn_delays.errors import UserError


def cache_folder(data: DataConfig) -> Path:
    """Where prepared data lies: data.cache, or snn_delays in the user's cache folder."""
    if data.cache is not None:
        return Path(data.cache).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "snn_delays"


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
    path = folder / f"{source.name}-{key}.frames"
    remake = partial(_make, source, path, digest)
    with contextlib.suppress(OSError):  # not there
        try:
            file = StoreFile(path)
        except Damaged:
            file = remake()
        return _store(source, folder, file, digest, remake)
    return _store(source, folder, remake(), digest, remake)


def _store(
    source: Source, folder: Path, file: StoreFile, digest: str, remake: partial[StoreFile]
) -> FrameStore:
    waveforms = source.waveforms()
    opener = None if waveforms is None else partial(open_frames, waveforms, folder)
    return FrameStore(file, source.path, digest, remake, opener)


def _make(source: Source, path: Path, digest: str) -> StoreFile:
    try:
        with source.open() as recordings:
            write_store(path, recordings)
    except OSError as error:
        raise UserError(
            f"The frames of {source.path.name} cannot be written to {path.parent} ({error}); set"
            " data.cache to another folder."
        ) from error
    return StoreFile(path)
