"""Spike files through Tonic: the one place that imports it.

A file of SHD's format is HDF5 with ``spikes/times`` (seconds, one variable-length array per
sample), ``spikes/units``, ``labels`` and, optionally, ``extra/keys`` (class names) and
``extra/speaker``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tonic
from numpy.typing import NDArray
from tonic import download_utils

from snn_delays.errors import UserError

MOST_UNNAMED_CLASSES = 10_000


class SpikeFile(tonic.datasets.hsd.HSD):
    """Any HDF5 file of SHD's format as a Tonic dataset that keeps its file open.

    Unlike Tonic's own, an item's times are the file's seconds, not integer microseconds, which
    would move events between frames. Every item is checked as it is read.

    Args:
        path: the file.
        units: number of spike channels; ``x`` lies in [0, units).
        transform: applied to the events of an item.
        target_transform: applied to its label.

    Attributes:
        classes: class names, in order of their label.
        labels: [N] int64.
        speaker: [N] int64, or None where the file has none.

    Raises:
        UserError: the file, or a sample, is not of the format.
    """

    dtype = np.dtype([("t", np.float64), ("x", np.int64), ("p", np.int64)])
    ordering = dtype.names

    def __init__(
        self,
        path: str | Path,
        *,
        units: int = 700,
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
    ) -> None:
        self.path = Path(path)
        super().__init__(str(self.path.parent), transform, target_transform)
        self.location_on_system = str(self.path.parent)
        self.data_filename = self.path.name
        self.units = units
        self.sensor_size = (units, 1, 1)
        self._file = _open(self.path)
        try:
            self._read_header()
        except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self.path} is not of SHD's format (spikes/times, spikes/units, labels): {error}"
            ) from error

    def _read_header(self) -> None:
        self._times, self._spike_units = self._file["spikes/times"], self._file["spikes/units"]
        labels = self._file["labels"][()]
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise UserError(f"{self.path}: labels must be one integer per sample.")
        if not len(labels) == len(self._times) == len(self._spike_units):
            raise UserError(
                f"{self.path} has {len(self._times)} spike times, {len(self._spike_units)} units"
                f" and {len(labels)} labels; they must be as many."
            )
        if not len(labels):
            raise UserError(f"{self.path} holds no sample.")
        self.labels = labels.astype(np.int64)
        self.classes = self._class_names()
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(wrong):
            raise UserError(
                f"{self.path}: sample {wrong[0]} has label {self.labels[wrong[0]]}, outside the"
                f" {len(self.classes)} classes."
            )
        speaker = self._file["extra/speaker"][()] if "extra/speaker" in self._file else None
        if speaker is not None and (
            speaker.shape != self.labels.shape or speaker.dtype.kind not in "iu"
        ):
            raise UserError(f"{self.path}: extra/speaker must be one integer per sample.")
        self._speaker = None if speaker is None else speaker.astype(np.int64)

    def _class_names(self) -> list[str]:
        if "extra/keys" not in self._file:
            classes = int(self.labels.max()) + 1
            if classes > MOST_UNNAMED_CLASSES:
                raise UserError(
                    f"{self.path} has the label {classes - 1}; more than {MOST_UNNAMED_CLASSES}"
                    " classes need names in extra/keys."
                )
            return [str(k) for k in range(classes)]
        keys = self._file["extra/keys"][()]
        return [k.decode() if isinstance(k, bytes) else str(k) for k in keys]

    @property
    def speaker(self) -> NDArray[np.int64] | None:
        """Speaker of each sample, [N], or None."""
        return self._speaker

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        times, units = self._read(index)
        events: Any = np.empty(len(times), dtype=self.dtype)
        events["t"], events["x"], events["p"] = times, units, 1
        target = self.labels[index]
        if self.transform is not None:
            events = self.transform(events)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return events, target

    def _read(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        where = f"{self.path}: sample {index}"
        try:
            times, units = np.asarray(self._times[index]), np.asarray(self._spike_units[index])
        except OSError as error:
            raise UserError(f"{where} cannot be read; the file is damaged: {error}") from error
        if times.dtype.kind != "f" or units.dtype.kind not in "iu" or times.ndim != 1:
            raise UserError(f"{where} must have float times and integer units.")
        if times.shape != units.shape:
            raise UserError(f"{where} has {len(times)} times but {len(units)} units.")
        if not len(times):
            raise UserError(f"{where} holds no spike; remove it from the file.")
        if not np.isfinite(times).all():
            raise UserError(f"{where} has the spike time {times[~np.isfinite(times)][0]}.")
        if units.min() < 0 or units.max() >= self.units:
            wrong = units.min() if units.min() < 0 else units.max()
            raise UserError(f"{where} has unit {wrong}, outside 0..{self.units - 1} (data.units).")
        return times, units

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path} is not a readable HDF5 file; it may be truncated, or something else: {error}"
        ) from error


# File name -> (MD5, samples). Tonic knows the archives' sums; only SHD's own files have known ones.
_FILES: dict[str, tuple[str | None, int]] = {
    "shd_train.h5": ("8e9877c85f29a28dd353ea6a54402667", 8156),
    "shd_test.h5": ("207ad1295a0ab611e22d1734989c254e", 2264),
    "ssc_train.h5": (None, 75466),
    "ssc_valid.h5": (None, 9981),
    "ssc_test.h5": (None, 20382),
}


def official_file(name: str, split: str, root: Path) -> Path:
    """The file of SHD or SSC: one put there by hand, an archive unpacked, or Tonic's download.

    Args:
        name: "shd" or "ssc".
        split: "train", "valid" (SSC only) or "test".
        root: folder that holds ``SHD/`` or ``SSC/``, or the files themselves.

    Raises:
        UserError: a checksum is wrong, or the file is missing and cannot be downloaded.
    """
    filename = f"{name}_{split}.h5"
    home = root / name.upper()
    for folder in (home, root / name, root):
        if (folder / filename).is_file():
            return _checked(folder / filename)
    for folder in (home, root / name, root):
        if (folder / f"{filename}.zip").is_file():
            _unpack(folder / f"{filename}.zip", home, _archive_md5(name, split))
            return _checked(home / filename)
    _download(name, split, root)
    return _checked(home / filename)


def _checked(path: Path) -> Path:
    md5, samples = _FILES[path.name]
    if md5 is not None and file_digest(path, "md5") != md5:
        raise UserError(
            f"{path} is damaged or not the published file (its MD5 differs from {md5}): replace"
            " it, or use data=spikes with files of your own (data.train_file, data.test_file)."
        )
    dataset = SpikeFile(path)
    dataset.close()
    if len(dataset) != samples:
        raise UserError(f"{path} has {len(dataset)} samples, the published file {samples}.")
    return path


def _tonic_class(name: str) -> Any:
    return {"shd": tonic.datasets.SHD, "ssc": tonic.datasets.SSC}[name]


def _archive_md5(name: str, split: str) -> str:
    return getattr(_tonic_class(name), f"{split}_md5")


def _unpack(archive: Path, folder: Path, md5: str) -> None:
    if file_digest(archive, "md5") != md5:
        raise UserError(f"{archive} is damaged (its MD5 differs from {md5}): download it again.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed whole, never half there
            download_utils.extract_archive(str(archive), scratch)
            for path in Path(scratch).rglob("*.h5"):
                os.replace(path, folder / path.name)
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked into {folder}: {error}.") from error


def _download(name: str, split: str, root: Path) -> None:
    filename = f"{name}_{split}.h5"
    archive = root / name.upper() / f"{filename}.zip"
    chosen = {"train": split == "train"} if name == "shd" else {"split": split}
    try:
        _tonic_class(name)(save_to=str(root), **chosen)
    except (OSError, RuntimeError, HTTPException, zipfile.BadZipFile) as error:
        archive.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder that Tonic made, if it is empty
            archive.parent.rmdir()
        raise UserError(
            f"{filename} is missing and could not be downloaded ({error}); put {filename} or"
            f" {filename}.zip from {tonic.datasets.SHD.base_url} into {archive.parent}/, or set"
            " data.root to its folder."
        ) from error


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
