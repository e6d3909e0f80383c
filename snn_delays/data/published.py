"""Finds the files of a published data set of spikes; downloads them if they are missing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_delays.config import Config
from snn_delays.data.checksums import content_digest
from snn_delays.data.download import fetch, unpack
from snn_delays.data.formats.hdf5 import find, open_file
from snn_delays.data.frame_cache import cache_folder
from snn_delays.data.sources import Source, named_files, spike_sources
from snn_delays.errors import UserError


@dataclass(frozen=True)
class PublishedSpikes:
    """A published data set of files ``<name>_<split>.h5``, each in an archive of its own.

    Attributes:
        name: name of the data set's folder, such as "SHD", and of its class in ``tonic.datasets``,
            which has the archives' address and checksums.
        samples: number of samples of each split.
        md5: checksums of the unpacked files of each split, if known.
    """

    name: str
    samples: dict[str, int]
    md5: dict[str, str] = field(default_factory=dict)

    def sources(self, config: Config, fresh: bool) -> dict[str, Source]:
        """The source of each split; ``fresh``: compute checksums again.

        Raises:
            UserError: see ``spike_file``.
        """
        data = config.data
        places = Places(Path(data.root).expanduser(), cache_folder(data), fresh)
        named = named_files(data)
        files = {split: spike_file(self, split, places, named.get(split)) for split in self.samples}
        return spike_sources(files, config)

    def filename(self, split: str) -> str:
        """Name of a split's file."""
        return f"{self.name.lower()}_{split}.h5"

    def archive(self, split: str) -> tuple[str, str]:
        """Address and MD5 of the archive that holds a split's file."""
        import tonic  # late, as in download.py

        known: Any = getattr(tonic.datasets, self.name)
        return f"{known.base_url}{self.filename(split)}.zip", getattr(known, f"{split}_md5")


@dataclass(frozen=True)
class Places:
    """Folders of published files and of noted checksums.

    Attributes:
        root: folder of the data sets (data.root).
        memo: folder of the noted checksums.
        fresh: compute checksums again, even if noted ones exist.
    """

    root: Path
    memo: Path
    fresh: bool = False


def spike_file(
    published: PublishedSpikes, split: str, places: Places, named: Path | None = None
) -> Path:
    """The file of a split; archives are unpacked, missing files downloaded.

    Args:
        published: the data set.
        split: one of its splits.
        places: ``root`` holds the data set's folder, such as ``SHD/``, or the files themselves.
        named: the .h5 or .h5.zip file itself, if given; nothing is downloaded then.

    Raises:
        UserError: a checksum is wrong, or the file is missing and cannot be downloaded.
    """
    filename = published.filename(split)
    home = places.root / published.name
    if named is not None:
        if not named.is_file():
            raise UserError(
                f"There is no file {named}: data.{split}_file must name {filename} or"
                f" {filename}.zip; without data.{split}_file the file is looked for in {home}/ and"
                " downloaded."
            )
        return _checked(named, published, split, places)
    folders = (home, places.root / published.name.lower(), places.root)
    for name in (filename, f"{filename}.zip"):
        for folder in folders:
            if (folder / name).is_file():
                return _checked(folder / name, published, split, places)
    _download(published, split, home)
    return _checked(home / filename, published, split, places)


def _checked(path: Path, published: PublishedSpikes, split: str, places: Places) -> Path:
    """The file at ``path``, or the one in the archive there, after a check that it is published."""
    filename = published.filename(split)
    if path.suffix == ".zip":
        _unpack(path, filename, published.archive(split)[1])
        path = path.parent / filename
    md5, samples = published.md5.get(split), published.samples[split]
    if md5 is not None:
        both = ("md5", "sha256")  # the SHA-256 is noted for the name of the frame file
        found = content_digest(path, places.memo, algorithms=both, fresh=places.fresh)
        if found != md5:
            raise UserError(
                f"{path} is damaged or not the published {filename} (its MD5 is {found}, not"
                f" {md5}): replace it, or use data=spikes with files of your own"
                " (data.train_file, data.test_file)."
            )
    with open_file(path) as file:
        count = find(file, "labels").size or 0
    if count != samples:
        raise UserError(
            f"{path} has {count} samples, the published {filename} {samples}: replace it, or"
            " use data=spikes with files of your own."
        )
    return path


def _unpack(archive: Path, filename: str, md5: str) -> None:
    if (archive.parent / filename).is_file():
        return

    def place(scratch: Path) -> None:
        found = next(scratch.rglob(filename), None)
        if found is None:
            raise UserError(f"{archive} holds no {filename}.")
        os.replace(found, archive.parent / filename)

    unpack(archive, md5, place)


def _download(published: PublishedSpikes, split: str, home: Path) -> None:
    filename = published.filename(split)
    archive = home / f"{filename}.zip"
    url, md5 = published.archive(split)
    try:
        fetch(url, archive, md5)
    except UserError as error:
        raise UserError(
            f"{filename} is missing. {error} Without a network put {filename} or {archive.name}"
            f" into {home}/, set data.root to the folder that holds it, or name it by"
            f" data.{split}_file=<path>."
        ) from error
    _unpack(archive, filename, md5)
