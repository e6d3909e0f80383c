"""Digests of files' contents, computed again only if a file has changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snn_delays.data.progress import progress
from snn_delays.documents import read_text
from snn_delays.errors import UserError
from snn_delays.files import is_trusted, replace_file

SETTLED = 2.0  # seconds after which a further change shows in a file's time stamp
CHUNK = 1 << 20
MANY = 1000  # files; a progress bar is shown for so many or more


@dataclass(frozen=True)
class FileList:
    """Files of a folder.

    Attributes:
        names: paths within the folder, in order.
        state: names, sizes and times of the files, as one text.
        newest: the newest time stamp, in seconds.
    """

    names: Sequence[str]
    state: str
    newest: float


def content_digest(
    path: Path,
    memo: Path,
    *,
    files: FileList | None = None,
    algorithms: Sequence[str] = ("sha256",),
    fresh: bool = False,
) -> str:
    """Hexadecimal digest of a file, or of files of a folder with their names.

    Digests are noted in ``memo``/digests. A noted digest is used while name, size and time stamps
    of every file stay the same.

    Args:
        path: the file, or the folder.
        memo: folder of the notes.
        files: files within the folder; None: ``path`` is a file.
        algorithms: names of hashlib; all digests are computed in one reading and noted, the first
            is returned.
        fresh: read the files even if a digest is noted.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        state, newest = _state(path) if files is None else (files.state, files.newest)
        notes = [_note(memo, path, state, algorithm) for algorithm in algorithms]
        noted = None if fresh else _noted(notes[0], algorithms[0])
        if noted is not None:
            return noted
        digests = _digest(path, files, algorithms)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    if time.time() - newest > SETTLED:
        for note, digest in zip(notes, digests, strict=True):
            with contextlib.suppress(OSError):  # a missing note costs nothing but time
                replace_file(note, _signed(digest).encode())
    return digests[0]


def _note(memo: Path, path: Path, state: str, algorithm: str) -> Path:
    key = f"{algorithm} {os.fspath(path.absolute())} {state}"
    return memo / "digests" / hashlib.sha256(os.fsencode(key)).hexdigest()[:16]


def _noted(note: Path, algorithm: str) -> str | None:
    """The digest in a note; None if the note is missing or damaged."""
    try:
        text = read_text(note) if is_trusted(note) else ""
    except (OSError, ValueError):
        return None
    digest = text.partition(" ")[0]
    whole = text == _signed(digest) and len(digest) == 2 * hashlib.new(algorithm).digest_size
    return digest if whole else None


def _signed(digest: str) -> str:
    """A digest with a checksum; without it a damaged note would look like another digest."""
    return f"{digest} {zlib.crc32(digest.encode()):08x}"


def _state(path: Path) -> tuple[str, float]:
    """A text that changes with the file, and the file's time stamp."""
    stat = os.stat(path)
    return stamp(stat), stat.st_mtime


def stamp(stat: os.stat_result) -> str:
    """Size and times of a file."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def _digest(path: Path, files: FileList | None, algorithms: Sequence[str]) -> list[str]:
    whole = [hashlib.new(algorithm) for algorithm in algorithms]
    if files is None:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                for digest in whole:
                    digest.update(chunk)
        return [digest.hexdigest() for digest in whole]
    names, number = iter(files.names), len(files.names)
    if number >= MANY:
        names = progress(names, f"reading {path.name}", number, "files")
    for name in names:
        content = (path / name).read_bytes()
        for algorithm, digest in zip(algorithms, whole, strict=True):
            digest.update(f"{name} {hashlib.new(algorithm, content).hexdigest()}\n".encode())
    return [digest.hexdigest() for digest in whole]
