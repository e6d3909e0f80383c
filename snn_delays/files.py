"""Atomic writing of files (under a temporary name, flushed, renamed), and locks."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows has no fcntl; locks have no effect there
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".part"  # suffix of a temporary file, which a killed process leaves behind
STALE = 24 * 3600.0  # seconds after which such a file is removed


def user_cache() -> Path:
    """This package's folder in the user's cache folder, for files that can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "snn_delays"


class Locked(Exception):
    """Another process holds the lock; the message is its process id, if known."""


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[Any]]:
    """A temporary file to write bytes to; it becomes ``path`` unless the block raises an error.

    Args:
        path: name of the complete file; an existing file stays until the new one is complete.
        keep: new name of the existing file; None: the existing file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_stale(path: Path) -> None:
    """Remove old temporary files of this file, left by killed processes."""
    for temporary in path.parent.glob(f".{path.name}-*{PARTIAL}"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > STALE:
                temporary.unlink()


def replace_file(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write ``content`` to a file atomically; see ``replacing``."""
    with replacing(path, keep) as file:
        file.write(content)


def is_trusted(path: Path) -> bool:
    """Whether a file or folder can be trusted.

    A path is not trusted if it belongs to another user and lies in a folder that everybody can
    write to: any user of the machine could have put it there.
    """
    if not hasattr(os, "geteuid"):  # Windows keeps the user's folders from others
        return True
    everybody = path.parent.stat().st_mode & stat.S_IWOTH
    return not everybody or path.lstat().st_uid in (os.geteuid(), 0)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock; the system releases it when the process ends in any way.

    Args:
        path: the lock's file; it stays after the release, without effect.
        wait: whether to wait until another process releases the lock.

    Raises:
        Locked: another process holds the lock, and ``wait`` is False.
        OSError: the file cannot be written, or is a link, which might lead to a file of value.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "a+", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                file.seek(0)
                raise Locked(file.read().strip() or "unknown") from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
