"""Files of data sets that the package makes itself, in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snn_delays.errors import UserError, message_of
from snn_delays.files import is_trusted

SPLITS = ("train", "valid", "test")


def made_files(
    name: str,
    settings: dict[str, Any],
    version: int,
    folder: Path,
    write: Callable[[Path, str], None],
) -> dict[str, Path]:
    """Files of SHD's format for the three splits, written at the first call.

    Args:
        name: of the data set.
        settings: its options; other settings have other files.
        version: to be raised when the same settings begin to give other files.
        folder: cache folder; the files get a folder in it whose name contains a digest of settings.
        write: writes the file of a split.

    Raises:
        UserError: the folder cannot be written.
    """
    text = json.dumps([version, settings], sort_keys=True)
    home = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    try:
        if not home.is_dir():
            _write_all(home, write)
    except (OSError, RuntimeError) as error:  # h5py, where the disk is full
        if not home.is_dir():  # else another process was faster
            raise UserError(
                f"The files of data={name} cannot be written to {folder} ({message_of(error)});"
                " set data.cache to another folder."
            ) from error
    if not is_trusted(home):
        raise UserError(
            f"{home} is another user's, in a folder that everybody can write to; set data.cache to"
            " a folder of your own."
        )
    return {split: home / f"{split}.h5" for split in SPLITS}


def _write_all(home: Path, write: Callable[[Path, str], None]) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for split in SPLITS:
            write(made / f"{split}.h5", split)
        os.rename(made, home)
