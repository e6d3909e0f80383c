"""Files of spikes in SHD's format.

HDF5 with ``spikes/times`` (one variable-length array per sample; seconds in SHD itself),
``spikes/units``, ``labels`` and, optionally, ``extra/keys`` (class names), ``extra/speaker`` and,
beyond SHD's own, ``extra/speaker_names``. Where a network is to answer at every step, ``targets``
(one variable-length array per sample) and ``extra/outputs`` (names) take the place of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tonic
from numpy.typing import NDArray

from snn_delays.data.formats.hdf5 import (
    BROKEN,
    Ragged,
    find,
    is_there,
    open_file,
    read_integers,
    read_names,
)
from snn_delays.data.names import checked_names
from snn_delays.errors import UserError, message_of

MOST_UNNAMED_CLASSES = 10_000
BLOCK = 64  # samples per read: seventeen times as fast as one by one


class SpikeFile(tonic.datasets.hsd.HSD):
    """Any HDF5 file of SHD's format as a Tonic dataset that keeps its file open.

    An item's times are the file's own (seconds in SHD's format). Tonic's dataset converts them to
    integer microseconds, which moves events between frames. Every item is checked as it is read.

    Args:
        path: the file.
        units: number of spike channels; ``x`` lies in [0, units).
        transform: applied to the events of an item.
        target_transform: applied to its label.
        per_step: read targets per step in place of labels, which are then all 0.

    Attributes:
        classes: class names, in order of their label; with ``per_step`` names of the K outputs.
        targets: with ``per_step`` float32 [sum of steps, K], NaN where there is none; else None.
        steps: with ``per_step`` number of steps of each sample, [N]; else None.
        labels: [N] int64.
        integer_times: whether the file's times are integers, and therefore hardly seconds.
        speaker: [N] int64, or None if the file has no speakers.

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
        per_step: bool = False,
    ) -> None:
        self.path = Path(path)
        super().__init__(str(self.path.parent), transform, target_transform)
        self.location_on_system = str(self.path.parent)
        self.data_filename = self.path.name
        self.units = units
        self._per_step = per_step
        self.targets: NDArray[np.float32] | None = None
        self.steps: NDArray[np.int64] | None = None
        self.sensor_size = (units, 1, 1)
        self._file = open_file(self.path)
        try:
            self._read_header()
        except UserError:
            self.close()
            raise
        except BROKEN as error:
            self.close()
            raise UserError(
                f"{self.path} is not of SHD's format (spikes/times, spikes/units, labels):"
                f" {message_of(error)}"
            ) from error

    def _read_header(self) -> None:
        file = self._file
        self._times = Ragged(file, "spikes/times", "fiu", "numbers")
        self._spike_units = Ragged(file, "spikes/units", "iu", "integers")
        self.integer_times = self._times.dtype.kind != "f"
        samples = len(self._times) if self._per_step else find(file, "labels").size
        if not samples == len(self._times) == len(self._spike_units):
            raise UserError(
                f"{self.path} has {len(self._times)} spike times, {len(self._spike_units)} units"
                f" and {samples or 0} labels; they must be as many."
            )
        if not samples:
            raise UserError(f"{self.path} holds no sample.")
        if self._per_step:
            self._read_targets(samples)
        else:
            self._read_labels(samples)
        self._read_speakers()

    def _read_labels(self, samples: int) -> None:
        file = self._file
        labels = read_integers(file, "labels", samples)
        self.classes = self._class_names(labels)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if len(wrong):
            raise UserError(
                f"{self.path}: sample {wrong[0]} has label {labels[wrong[0]]}, outside the"
                f" {len(self.classes)} classes."
            )
        self.labels = labels.astype(np.int64)

    def _read_targets(self, samples: int) -> None:
        file, named = self._file, is_there(self._file, "extra/outputs")
        self.classes = read_names(file, "extra/outputs") if named else ["output"]
        self.labels = np.zeros(samples, np.int64)
        stored, outputs = Ragged(file, "targets", "fiu", "numbers"), len(self.classes)
        if len(stored) != samples:
            raise UserError(f"{self.path} has {samples} recordings, but {len(stored)} targets.")
        arrays = [array.astype(np.float32) for array in stored.read(0, samples)]
        for number, array in enumerate(arrays):
            where = f"{self.path}: sample {number}"
            if array.size % outputs:
                raise UserError(f"{where} has {array.size} targets, no multiple of {outputs}.")
            if np.isinf(array).any():
                raise UserError(f"{where} has an infinite target.")
            if np.isnan(array).all():
                raise UserError(f"{where} has no target; remove it from the file.")
        self.steps = np.array([array.size // outputs for array in arrays], np.int64)
        self.targets = np.concatenate(arrays).reshape(-1, outputs)

    def _class_names(self, labels: NDArray[np.integer]) -> list[str]:
        if is_there(self._file, "extra/keys"):
            return read_names(self._file, "extra/keys")
        classes = int(labels.max()) + 1
        if classes > MOST_UNNAMED_CLASSES:
            raise UserError(
                f"{self.path} has the label {classes - 1}; more than {MOST_UNNAMED_CLASSES}"
                " classes need names in extra/keys."
            )
        return [str(k) for k in range(classes)]

    def _read_speakers(self) -> None:
        self._speaker = self._speaker_names = None
        if not is_there(self._file, "extra/speaker"):
            return
        speaker = read_integers(self._file, "extra/speaker", len(self))
        self._speaker = speaker.astype(np.int64)
        if is_there(self._file, "extra/speaker_names"):
            self._speaker_names = read_names(self._file, "extra/speaker_names")
            if not 0 <= speaker.min() <= speaker.max() < len(self._speaker_names):
                raise UserError(f"{self.path}: extra/speaker_names must name every speaker.")

    @property
    def speaker(self) -> NDArray[np.int64] | None:
        """Speaker of each sample, [N], or None."""
        return self._speaker

    @property
    def speakers(self) -> NDArray[np.str_] | None:
        """Name of each sample's speaker, or its number without names, [N]; or None."""
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
        """Yield every sample's times, in the file's unit, and units, each [spikes].

        Raises:
            UserError: a sample is not of the format.
        """
        for first in range(0, len(self), BLOCK):
            block = zip(*self._read(first, min(first + BLOCK, len(self))), strict=True)
            for number, (times, units) in enumerate(block, first):
                yield self._checked(number, times, units), units

    def _read(self, first: int, last: int) -> tuple[Any, Any]:
        try:
            return self._times.read(first, last), self._spike_units.read(first, last)
        except BROKEN as error:
            raise UserError(
                f"{self.path}: samples {first} to {last - 1} cannot be read; the file is damaged:"
                f" {message_of(error)}"
            ) from error

    def _checked(self, number: int, times: Any, units: Any) -> NDArray[np.float64]:
        """Check a sample; returns its times in the file's unit, as float64."""
        where = f"{self.path}: sample {number}"
        if times.shape != units.shape:
            raise UserError(f"{where} has {len(times)} times but {len(units)} units.")
        if not len(times):
            raise UserError(f"{where} holds no spike; remove it from the file.")
        numbers = times.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise UserError(f"{where} has the spike time {times[~np.isfinite(numbers)][0]}.")
        if numbers.min() < 0:
            raise UserError(
                f"{where} has the spike time {numbers.min():g}; times must not be below 0: count"
                " the times of every recording from its start."
            )
        lowest, highest = units.min(), units.max()
        if lowest < 0 or highest >= self.units:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"{where} has unit {wrong}, outside 0..{self.units - 1} (data.units).")
        return numbers

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
    targets: Sequence[NDArray[np.floating]] | None = None,
) -> None:
    """Write a file of SHD's format.

    Args:
        path: the file, overwritten.
        spikes: times in seconds and units of each sample.
        labels: [N].
        classes: class names, in order of their label.
        speaker: [N], or None.
        speaker_names: in order of the speakers' numbers, or None.
        times: type of the times; float16, the type in SHD, is coarser than 1 ms beyond 2 s.
        targets: of the one output at every step, [steps] for each sample; None: none are written.

    Raises:
        UserError: a name is empty, has a control character or occurs twice.
    """
    names = {"extra/keys": classes, "extra/speaker_names": speaker_names}
    texts = {key: checked_names(n, key) for key, n in names.items() if n is not None}
    with h5py.File(path, "w") as file:
        kinds = {"times": times, "units": np.uint16}
        columns = [
            file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
            for name, kind in kinds.items()
        ]
        for number, sample in enumerate(spikes):
            for column, values, kind in zip(columns, sample, kinds.values(), strict=True):
                column[number] = values.astype(kind)
        if targets is not None:
            column = file.create_dataset("targets", (len(labels),), h5py.vlen_dtype(np.float32))
            for number, values in enumerate(targets):
                column[number] = values
        file["labels"] = _numbers(labels)
        if speaker is not None:
            file["extra/speaker"] = _numbers(speaker)
        for key, checked in texts.items():
            file[key] = [name.encode() for name in checked]


def _numbers(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Values as uint16, the type in SHD, or a wider type if they need one."""
    return values.astype(np.promote_types(np.uint16, np.min_scalar_type(values.max())))
