"""Spikes in files of SHD's format.

HDF5 with ``spikes/times`` (seconds, one variable-length array per sample), ``spikes/units``,
``labels`` and, optionally, ``extra/keys`` (class names), ``extra/speaker`` and, beyond SHD's own,
``extra/speaker_names``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tonic
from numpy.typing import NDArray

from snn_delays.errors import UserError

MOST_UNNAMED_CLASSES = 10_000
BLOCK = 64  # samples read at once: seventeen times as fast as one by one
BROKEN = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)  # h5py's


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
        except UserError:
            self.close()
            raise
        except BROKEN as error:
            self.close()
            raise UserError(
                f"{self.path} is not of SHD's format (spikes/times, spikes/units, labels):"
                f" {_first_line(error)}"
            ) from error

    def _read_header(self) -> None:
        self._times, self._spike_units = self._file["spikes/times"], self._file["spikes/units"]
        labels = self._file["labels"][()]
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise UserError(f"{self.path}: labels must be one integer per sample.")
        for name, data in (("times", self._times), ("units", self._spike_units)):
            kind = h5py.check_vlen_dtype(data.dtype)
            if len(data.shape) != 1 or not isinstance(kind, np.dtype):
                raise UserError(
                    f"{self.path}: spikes/{name} must be one variable-length array per sample."
                )
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
        self._read_speakers()

    def _class_names(self) -> list[str]:
        if "extra/keys" not in self._file:
            classes = int(self.labels.max()) + 1
            if classes > MOST_UNNAMED_CLASSES:
                raise UserError(
                    f"{self.path} has the label {classes - 1}; more than {MOST_UNNAMED_CLASSES}"
                    " classes need names in extra/keys."
                )
            return [str(k) for k in range(classes)]
        return _texts(self._file["extra/keys"][()])

    def _read_speakers(self) -> None:
        speaker = self._file["extra/speaker"][()] if "extra/speaker" in self._file else None
        if speaker is not None and (
            speaker.shape != self.labels.shape or speaker.dtype.kind not in "iu"
        ):
            raise UserError(f"{self.path}: extra/speaker must be one integer per sample.")
        self._speaker = None if speaker is None else speaker.astype(np.int64)
        self._speaker_names = None
        if speaker is not None and "extra/speaker_names" in self._file:
            self._speaker_names = _texts(self._file["extra/speaker_names"][()])
            if not 0 <= speaker.min() <= speaker.max() < len(self._speaker_names):
                raise UserError(f"{self.path}: extra/speaker_names must name every speaker.")

    @property
    def speaker(self) -> NDArray[np.int64] | None:
        """Speaker of each sample, [N], or None."""
        return self._speaker

    @property
    def speakers(self) -> NDArray[np.str_] | None:
        """Name of each sample's speaker, [N], its number where it has none; or None."""
        if self._speaker is None:
            return None
        if self._speaker_names is None:
            return self._speaker.astype(str)
        return np.array(self._speaker_names)[self._speaker]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        index = range(len(self))[index]
        (times,), (units,) = self._read(index, index + 1)
        events: Any = np.empty(len(times), dtype=self.dtype)
        events["t"], events["x"], events["p"] = self._checked(index, times, units), units, 1
        target = self.labels[index]
        if self.transform is not None:
            events = self.transform(events)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return events, target

    def spikes(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.integer]]]:
        """Times in seconds and units of every sample, in order, each [N].

        Raises:
            UserError: a sample is not of the format.
        """
        for first in range(0, len(self), BLOCK):
            block = zip(*self._read(first, min(first + BLOCK, len(self))), strict=True)
            for number, (times, units) in enumerate(block, first):
                yield self._checked(number, times, units), units

    def _read(self, first: int, last: int) -> tuple[Any, Any]:
        try:
            return self._times[first:last], self._spike_units[first:last]
        except BROKEN as error:
            raise UserError(
                f"{self.path}: samples {first} to {last - 1} cannot be read; the file is damaged:"
                f" {_first_line(error)}"
            ) from error

    def _checked(self, number: int, times: Any, units: Any) -> NDArray[np.float64]:
        """The times of a sample, in a type that numpy is fast with."""
        where = f"{self.path}: sample {number}"
        if times.dtype.kind != "f" or units.dtype.kind not in "iu":
            raise UserError(f"{where} must have float times and integer units.")
        if times.shape != units.shape:
            raise UserError(f"{where} has {len(times)} times but {len(units)} units.")
        if not len(times):
            raise UserError(f"{where} holds no spike; remove it from the file.")
        seconds = times.astype(np.float64)
        if not np.isfinite(seconds).all():
            raise UserError(f"{where} has the spike time {times[~np.isfinite(seconds)][0]}.")
        lowest, highest = units.min(), units.max()
        if lowest < 0 or highest >= self.units:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"{where} has unit {wrong}, outside 0..{self.units - 1} (data.units).")
        return seconds

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_spikes(
    path: Path,
    spikes: Iterable[tuple[NDArray[np.floating], NDArray[np.integer]]],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    speaker: NDArray[np.integer] | None,
    speaker_names: Sequence[str] | None = None,
    *,
    times: type[np.floating] = np.float16,
) -> None:
    """Write a file of SHD's format.

    Args:
        path: the file, overwritten.
        spikes: times in seconds and units of each sample.
        labels: [N].
        classes: class names, in order of their label.
        speaker: [N], or None.
        speaker_names: in order of their number.
        times: type of the times; float16, as SHD's are, is coarser than 1 ms beyond 2 s.
    """
    with h5py.File(path, "w") as file:
        kinds = {"times": times, "units": np.uint16}
        columns = [
            file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
            for name, kind in kinds.items()
        ]
        for number, sample in enumerate(spikes):
            for column, values, kind in zip(columns, sample, kinds.values(), strict=True):
                column[number] = values.astype(kind)
        file["labels"] = _numbers(labels)
        file["extra/keys"] = [name.encode() for name in classes]
        if speaker is not None:
            file["extra/speaker"] = _numbers(speaker)
        if speaker_names is not None:
            file["extra/speaker_names"] = [name.encode() for name in speaker_names]


def _numbers(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """In 16 bits, as SHD's are, or as many as they need."""
    return values.astype(np.promote_types(np.uint16, np.min_scalar_type(values.max())))


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        return h5py.File(path, "r")
    except BROKEN as error:
        raise UserError(
            f"{path} is not a readable HDF5 file; it may be truncated, or something else:"
            f" {_first_line(error)}"
        ) from error


def _texts(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())
