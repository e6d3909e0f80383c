"""Files that are whole or not there, written under another name, flushed, renamed; locks."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

PART = ".part"  # what a killed process leaves behind ends so
STALE = 24 * 3600.0  # seconds after which such a file is nobody's


def user_cache() -> Path:
    """The folder in the user's cache folder for what can be made again."""
    return user_cache_path("snn_delays", appauthor=False)


class Locked(Exception):
    """Another process holds the lock; its number, where known."""


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[Any]]:
    """A file to write bytes to; it becomes ``path`` at the end of the block, or never.

    Args:
        path: its name; a file there stays until the new one is complete.
        keep: what the file there is renamed to then; None: it is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}{PART}")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_stale(path: Path) -> None:
    """What processes left that were killed while they wrote this file."""
    for part in path.parent.glob(f".{path.name}-*{PART}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def replace_file(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write ``content`` so (see ``replacing``)."""
    with replacing(path, keep) as file:
        file.write(content)


def is_trusted(path: Path) -> bool:
    """Whether a file or folder is not one that just any user of the machine can have put there.

    It is one where it belongs to another user and lies in a folder that everybody can write to.
    """
    if not hasattr(os, "geteuid"):  # Windows keeps the user's folders from others
        return True
    everybody = path.parent.stat().st_mode & stat.S_IWOTH
    return not everybody or path.lstat().st_uid in (os.geteuid(), 0)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock, which the system lets go of when the process ends, however it does.

    Args:
        path: the lock's file; it stays, and means nothing.
        wait: until another process lets go of it.

    Raises:
        Locked: another process holds it, and ``wait`` is off.
        OSError: it cannot be written, or is a link, which may lead to a file that matters.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(
        path,
        timeout=-1 if wait else 0,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=_write_process,
    )
    try:
        lock.acquire()
    except Timeout as error:
        raise Locked(_read_process(path)) from error
    try:
        yield
    finally:
        lock.release()


def _write_process(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())


def _read_process(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip() or "unknown"
    except OSError:  # Windows lets nobody read a locked file
        return "unknown"
