"""Reading of HDF5 data sets, with checks before each read."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_delays.data.formats.heaps import check_heaps
from snn_delays.data.names import checked_names
from snn_delays.errors import UserError, message_of

# errors that h5py raises for a damaged file
BROKEN = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError)
MOST_BYTES = 1 << 28  # of labels and names; a file that declares more is a mistake or an attack


def open_file(path: Path) -> h5py.File:
    """Open a file to read it.

    Raises:
        UserError: it does not exist, another program writes to it, or it is not HDF5.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        return h5py.File(path, "r")
    except BROKEN as error:
        raise UserError(f"{path} {_why_not(error)}") from error


def _why_not(error: Exception) -> str:
    """The reason why a file cannot be opened, and what to do."""
    if isinstance(error, BlockingIOError):
        return (
            "is locked, because another program has it open for writing: close it in that program,"
            " and start again."
        )
    if "unable to lock file" in str(error):
        return (
            "lies on a file system that has no locks: set HDF5_USE_FILE_LOCKING=FALSE in the"
            f" environment ({message_of(error)})."
        )
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied."
    return (
        f"is not a readable HDF5 file; it may be truncated, or something else: {message_of(error)}"
    )


def is_there(file: h5py.File, name: str) -> bool:
    """Whether a file has an entry of this name; a link counts even if its target is missing."""
    for prefix in itertools.accumulate(name.split("/"), "{}/{}".format):
        if file.get(prefix) is None:
            return file.get(prefix, getlink=True) is not None
    return True


def find(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set whose data lies in the file itself.

    Raises:
        UserError: the data set is missing, is another kind of entry, or has its data in another
            file.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        wrong = f"there is no {name}" if found is None else f"{name} is no data set"
        raise UserError(
            f"{file.filename} is not of SHD's format (spikes/times, spikes/units, labels): {wrong}."
        )
    if found.is_virtual or found.external or _number(found) != _number(file):
        raise UserError(
            f"{file.filename}: the data of {name} lies in another file, whose changes no checksum"
            f" of this file would show: write the data of {name} into this file."
        )
    return found


def _number(found: h5py.HLObject) -> int:
    """Number of the open file that holds an entry."""
    return int(h5py.h5o.get_info(found.id).fileno)


def read_integers(file: h5py.File, name: str, count: int) -> NDArray[np.integer]:
    """One integer per sample, [N].

    Args:
        file: the open file.
        name: of the data set.
        count: number of samples.

    Raises:
        UserError: the data set has another shape or type.
    """
    values = _column(file, name)
    if values is None or values.shape != (count,) or values.dtype.kind not in "iu":
        raise UserError(f"{file.filename}: {name} must be one integer per sample.")
    return values


def read_names(file: h5py.File, name: str) -> list[str]:
    """A list of names, each of which occurs once.

    Raises:
        UserError: the data set holds something else.
    """
    values, where = _column(file, name), f"{file.filename}: {name}"
    if values is None or not all(isinstance(v, bytes | np.integer) for v in values):
        raise UserError(f"{where} must be a list of texts.")
    try:
        names = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    except UnicodeDecodeError as error:
        raise UserError(f"{where} has a name that is not UTF-8, {error.object!r}.") from error
    return checked_names(names, where)


def _column(file: h5py.File, name: str) -> NDArray[Any] | None:
    """The content of a data set of one dimension; None if it has another shape."""
    data = find(file, name)
    if data.shape is None or len(data.shape) != 1:
        return None
    size = data.size * max(data.dtype.itemsize, np.dtype(np.int64).itemsize)
    if size > MOST_BYTES:
        raise UserError(
            f"{file.filename}: {name} declares {len(data):,} entries, {size >> 20:,} MiB, more than"
            f" the {MOST_BYTES >> 20} MiB that are read."
        )
    if h5py.check_string_dtype(data.dtype) and data.dtype.kind == "O":
        check_heaps(data)
    return data[()]


class Ragged:
    """Variable-length arrays of numbers, one per sample.

    Args:
        file: the open file.
        name: of the data set.
        kinds: numpy's letters for the accepted kinds of number.
        called: the name of these kinds in messages.

    Attributes:
        dtype: type of the numbers.

    Raises:
        UserError: the data set is of another shape or type.
    """

    def __init__(self, file: h5py.File, name: str, kinds: str, called: str) -> None:
        self._data = find(file, name)
        dtype = h5py.check_vlen_dtype(self._data.dtype)
        one_dimension = self._data.shape is not None and len(self._data.shape) == 1
        if not one_dimension or not isinstance(dtype, np.dtype) or dtype.kind not in kinds:
            raise UserError(
                f"{file.filename}: {name} must be one variable-length array of {called} per sample."
            )
        self.dtype = dtype
        self._heaps_checked = False
        self._swapped = not dtype.isnative and _loses_byte_order()

    def __len__(self) -> int:
        return len(self._data)

    def read(self, first: int, last: int) -> list[NDArray[Any]]:
        """Arrays of the samples ``first`` to ``last - 1``."""
        if not self._heaps_checked:
            check_heaps(self._data)
            self._heaps_checked = True
        arrays = self._data[first:last]
        return [array.byteswap() for array in arrays] if self._swapped else list(arrays)


@functools.cache
def _loses_byte_order() -> bool:
    """Whether h5py ignores the byte order of variable-length arrays, like h5py 3.16."""
    with h5py.File("probe", "w", driver="core", backing_store=False) as file:
        foreign = np.dtype(np.uint16).newbyteorder()
        data = file.create_dataset("x", (1,), h5py.vlen_dtype(foreign))
        data[0] = np.array([1], np.uint16)
        return bool(data[0][0] != 1)
