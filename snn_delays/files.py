"""Atomic writing of files (under a temporary name, flushed, renamed), and locks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

PARTIAL = ".part"  # suffix of a temporary file, which a killed process leaves behind
STALE = 24 * 3600.0  # seconds after which such a file is removed


def user_cache() -> Path:
    """This package's folder in the user's cache folder, for files that can be made again."""
    return user_cache_path("snn_delays", appauthor=False)


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


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes ``path`` unless the block raises an error.

    Args:
        path: the complete folder, which does not exist yet, or is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}{PARTIAL}")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
def locked(path: Path, *, wait: bool, most: float = -1) -> Iterator[None]:
    """Hold a lock; the system releases it when the process ends in any way.

    Args:
        path: the lock's file; it stays after the release, without effect.
        wait: whether to wait until another process releases the lock.
        most: seconds to wait; -1: for ever.

    Raises:
        Locked: another process holds the lock, and ``wait`` is False, or ``most`` seconds are over.
        OSError: the file cannot be written, or is a link, which might lead to a file of value.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(
        path,
        timeout=most if wait else 0,
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


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; asking leaves the lock's file as it is."""
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False, preserve_lock_file=True):
            return False
    except Timeout:
        return True
    except OSError:  # the file cannot be written, so this user's processes cannot hold it
        return False


def _write_process(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())


def _read_process(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip() or "unknown"
    except OSError:  # Windows lets nobody read a locked file
        return "unknown"
