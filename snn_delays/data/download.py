"""Downloads archives, resuming broken downloads, checks them and unpacks them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from snn_delays.errors import UserError
from snn_delays.files import locked

ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
COMPLETE = 416  # "range not satisfiable": nothing is left to send
PARTIAL_CONTENT = 206


def fetch(url: str, path: Path, md5: str) -> None:
    """Download a file; the bytes that an earlier attempt left in ``<path>.part`` are kept.

    Args:
        url: of the file.
        path: of the downloaded file.
        md5: its checksum; a file with another checksum is removed.

    Raises:
        UserError: the file cannot be downloaded, or its checksum is wrong.
    """
    partial, lock = path.with_name(f"{path.name}.part"), path.with_name(f".{path.name}.lock")
    made = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    try:
        with locked(lock, wait=True):
            if path.is_file():  # another process was faster
                return
            _fetch(url, partial, ATTEMPTS)
            _accept(url, partial, path, md5)
    except (OSError, HTTPException) as error:
        kept = _size(partial)
        hint = f"; {kept >> 20} MiB are kept, and the next attempt resumes there" if kept else ""
        raise UserError(f"{url} could not be downloaded ({error}){hint}.") from error
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
            if not _size(partial):
                partial.unlink(missing_ok=True)
            for folder in made:  # fails for folders that are not empty, which stay
                folder.rmdir()


def _accept(url: str, partial: Path, path: Path, md5: str) -> None:
    from tonic import download_utils  # late: 20 MB that a run needs for its first download at most

    if not download_utils.check_integrity(str(partial), md5):
        partial.unlink()
        raise UserError(f"What {url} sent is damaged (its MD5 differs from {md5}): try again.")
    os.replace(partial, path)


def _fetch(url: str, partial: Path, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        before = _size(partial)
        try:
            _append(url, partial)
            return
        except HTTPError as error:
            if error.code == COMPLETE and before:
                return
            raise
        except (OSError, HTTPException):
            if attempt == attempts or _size(partial) == before:
                raise


def _append(url: str, partial: Path) -> None:
    have = _size(partial)
    headers = {"User-Agent": "snn_delays", **({"Range": f"bytes={have}-"} if have else {})}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
        have = have if response.status == PARTIAL_CONTENT else 0  # else all is sent again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            open(partial, "ab" if have else "wb") as file,
            tqdm(
                desc=partial.stem, initial=have, total=total, unit="B", unit_scale=True,
                disable=None, leave=False,
            ) as bar,
        ):  # fmt: skip
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(partial) < total:
        raise ConnectionError(f"the connection ended {total - _size(partial)} bytes early")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def unpack(archive: Path, md5: str, place: Callable[[Path], Any]) -> None:
    """Check an archive and unpack it into a temporary folder beside it.

    Args:
        archive: .zip or .tar.gz.
        md5: its checksum.
        place: called with the temporary folder; moves the files that are kept.

    Raises:
        UserError: the archive is damaged, or the disk is full.
    """
    from tonic import download_utils

    if not download_utils.check_integrity(str(archive), md5):
        raise UserError(f"{archive} is damaged (its MD5 differs from {md5}): download it again.")
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as scratch:
            print(f"unpacking {archive.name}", flush=True)
            content = Path(scratch) / "content"
            content.mkdir()
            download_utils.extract_archive(str(archive), str(content))
            place(content)
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked beside it: {error}.") from error
