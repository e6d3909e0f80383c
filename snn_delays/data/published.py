"""Where the files of SHD, SSC and Speech Commands are: put there by hand, or downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tonic

from snn_delays.data.checksums import content_digest
from snn_delays.data.download import fetch, unpack
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.formats.words import TEST_LIST, VALID_LIST
from snn_delays.errors import UserError

# File name -> (MD5, samples). Tonic knows the archives' sums; only SHD's own files have known ones.
_FILES: dict[str, tuple[str | None, int]] = {
    "shd_train.h5": ("8e9877c85f29a28dd353ea6a54402667", 8156),
    "shd_test.h5": ("207ad1295a0ab611e22d1734989c254e", 2264),
    "ssc_train.h5": (None, 75466),
    "ssc_valid.h5": (None, 9981),
    "ssc_test.h5": (None, 20382),
}
# Speech Commands v0.02, Warden 2018, arXiv 1804.03209.
GSC_URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
GSC_MD5 = "6b74f3901214cb2c2934e98196829835"
GSC_NAME = "speech_commands_v0.02"
GSC_FOLDERS = ("GSC", "gsc", f"GSC/{GSC_NAME}", GSC_NAME, f"SpeechCommands/{GSC_NAME}", ".")


@dataclass(frozen=True)
class Places:
    """Where to look, and where to keep notes of checksums.

    Attributes:
        root: folder of the data sets (data.root).
        memo: folder of the notes.
        fresh: take checksums anew whatever is noted.
    """

    root: Path
    memo: Path
    fresh: bool = False


def spike_file(name: str, split: str, places: Places, named: Path | None = None) -> Path:
    """The file of SHD or SSC: named, put into its folder by hand, unpacked, or downloaded.

    Args:
        name: "shd" or "ssc".
        split: "train", "valid" (SSC only) or "test".
        places: ``root`` holds ``SHD/`` or ``SSC/``, or the files themselves.
        named: the .h5 or .h5.zip itself; nothing is downloaded then.

    Raises:
        UserError: a checksum is wrong, or the file is missing and cannot be downloaded.
    """
    filename = f"{name}_{split}.h5"
    home = places.root / name.upper()
    if named is not None:
        if not named.is_file():
            raise UserError(
                f"There is no file {named}: data.{split}_file must name {filename} or"
                f" {filename}.zip; without data.{split}_file the file is looked for in {home}/ and"
                " downloaded."
            )
        return _named(named, filename, places, _archive_md5(name, split))
    folders = (home, places.root / name, places.root)
    for folder in folders:
        if (folder / filename).is_file():
            return _checked(folder / filename, filename, places)
    for folder in folders:
        if (folder / f"{filename}.zip").is_file():
            return _named(folder / f"{filename}.zip", filename, places, _archive_md5(name, split))
    _download(name, split, home)
    return _checked(home / filename, filename, places)


def _named(path: Path, filename: str, places: Places, md5: str) -> Path:
    if path.suffix != ".zip":
        return _checked(path, filename, places)
    _unpack(path, filename, md5)
    return _checked(path.parent / filename, filename, places)


def _checked(path: Path, filename: str, places: Places) -> Path:
    md5, samples = _FILES[filename]
    if md5 is not None:
        both = ("md5", "sha256")  # the second names the frames later
        found = content_digest(path, places.memo, algorithms=both, fresh=places.fresh)
        if found != md5:
            raise UserError(
                f"{path} is damaged or not the published {filename} (its MD5 is {found}, not"
                f" {md5}): replace it, or use data=spikes with files of your own"
                " (data.train_file, data.test_file)."
            )
    dataset = SpikeFile(path)
    dataset.close()
    if len(dataset) != samples:
        raise UserError(
            f"{path} has {len(dataset)} samples, the published {filename} {samples}: replace it, or"
            " use data=spikes with files of your own."
        )
    return path


def _tonic_class(name: str) -> Any:
    return {"shd": tonic.datasets.SHD, "ssc": tonic.datasets.SSC}[name]


def _archive_md5(name: str, split: str) -> str:
    return getattr(_tonic_class(name), f"{split}_md5")


def _unpack(archive: Path, filename: str, md5: str) -> None:
    if (archive.parent / filename).is_file():
        return

    def place(scratch: Path) -> None:
        found = next(scratch.rglob(filename), None)
        if found is None:
            raise UserError(f"{archive} holds no {filename}.")
        os.replace(found, archive.parent / filename)

    unpack(archive, md5, place)


def _download(name: str, split: str, home: Path) -> None:
    filename = f"{name}_{split}.h5"
    archive = home / f"{filename}.zip"
    url, md5 = f"{_tonic_class(name).base_url}{archive.name}", _archive_md5(name, split)
    try:
        fetch(url, archive, md5)
    except UserError as error:
        raise UserError(
            f"{filename} is missing. {error} Without a network put {filename} or {archive.name}"
            f" into {home}/, set data.root to the folder that holds it, or name it by"
            f" data.{split}_file=<path>."
        ) from error
    _unpack(archive, filename, md5)


def speech_commands_folder(root: Path, named: Path | None = None) -> Path:
    """The folder of Speech Commands v0.02, unpacked or downloaded where it is not there.

    Args:
        root: folder of the data sets.
        named: the folder, or the archive, itself; nothing is downloaded then.

    Raises:
        UserError: a checksum is wrong, or it is missing and cannot be downloaded.
    """
    home, archive = root / "GSC", f"{GSC_NAME}.tar.gz"
    if named is not None:
        if named.is_dir():
            return named
        if not named.is_file():
            raise UserError(
                f"There is no folder or archive {named}: data.folder must name {archive} or the"
                f" folder of what it holds; without data.folder it is looked for in {home}/ and"
                " downloaded."
            )
        return _unpack_tree(named)
    for folder in (root / name for name in GSC_FOLDERS):
        if (folder / TEST_LIST).is_file() and (folder / VALID_LIST).is_file():
            return folder
    for folder in (home, root):
        if (folder / archive).is_file():
            return _unpack_tree(folder / archive)
    try:
        fetch(GSC_URL, home / archive, GSC_MD5)
    except UserError as error:
        raise UserError(
            f"Speech Commands is missing. {error} Without a network put {archive}, or what it"
            f" holds, into {home}/, or set data.folder to its folder."
        ) from error
    return _unpack_tree(home / archive)


def _unpack_tree(archive: Path) -> Path:
    """Unpack into a folder beside the archive, renamed whole."""
    home = archive.parent / GSC_NAME

    def place(scratch: Path) -> None:
        if not home.is_dir():  # or else another process was faster
            os.rename(scratch, home)

    if not home.is_dir():
        unpack(archive, GSC_MD5, place)
    return home
