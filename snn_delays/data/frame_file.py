"""The frame file: all frames of one split, memory-mapped and protected by checksums.

Layout: a header of 64 bytes, the frames of one sample after another (each in the smallest type that
holds its values), and an index. The header, written last, has the position and checksum of the
index; the index has a checksum of every sample, which is compared when the sample is first read.
A file of any size therefore opens in milliseconds, and no damaged frame is ever used. Targets per
step lie in the index: they are read when the file is opened.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from snn_delays.data.mapped import MappedFile
from snn_delays.files import replacing

MAGIC = b"snn_delays frames 5\n"
HEAD = struct.Struct("<20sQQI")  # magic, start of the index, its length, its checksum
HEAD_BYTES = 64
TYPES = [np.dtype(t) for t in ("u1", "<u2", "<u4", "<i2", "<f4")]
BYTES = [t.itemsize for t in TYPES]


class Damaged(Exception):
    """A frame file is incomplete or damaged; the message says in which way."""


@dataclass(frozen=True)
class Recordings:
    """The N samples that a frame file stores.

    Attributes:
        frames: frames of each sample in order, [steps, channels].
        labels: [N].
        speakers: [N], or None if unknown.
        classes: class names, in order of their label; with targets, the names of the K outputs.
        targets: float32 [sum of all samples' steps, K], NaN where there is none; None: the samples
            have classes instead.
    """

    frames: Iterable[NDArray[Any]]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_] | None
    classes: list[str]
    targets: NDArray[np.float32] | None = None


def write_frame_file(
    path: Path, recordings: Recordings, check: Callable[[], None] = lambda: None
) -> None:
    """Write a frame file under a temporary name, sample by sample, then rename it.

    Args:
        path: the file.
        recordings: read once, in order.
        check: called before the renaming; if it raises, the file is removed instead.
    """
    with replacing(path) as file:
        file.write(bytes(HEAD_BYTES))
        index = _write_frames(file, recordings)
        start, data = file.tell(), _pack(recordings, index)
        file.write(data)
        file.seek(0)
        file.write(HEAD.pack(MAGIC, start, len(data), zlib.crc32(data)))
        check()


def _write_frames(file: Any, recordings: Recordings) -> dict[str, NDArray[Any]]:
    rows, used = [], np.zeros(1, bool)
    for frames in recordings.frames:
        stored = np.ascontiguousarray(_smallest(frames))
        used = used | stored.any(axis=0)
        kind, total = TYPES.index(stored.dtype), float(stored.sum())
        rows.append((stored.shape[0], stored.nbytes, kind, zlib.crc32(stored.data), total))
        file.write(stored)
    steps, sizes, kinds, sums, totals = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "steps": steps.astype(np.int64),
        "offset": HEAD_BYTES + np.cumsum([0, *sizes], dtype=np.int64),
        "kind": kinds.astype(np.uint8),
        "crc": sums.astype(np.uint32),
        "total": totals,
        "used": used,
    }


def _smallest(frames: NDArray[Any]) -> NDArray[Any]:
    if frames.dtype.kind == "f" or frames.dtype == np.int16:
        return frames.astype("<f4" if frames.dtype.kind == "f" else "<i2", copy=False)
    return frames.astype(np.min_scalar_type(frames.max()).newbyteorder("<"))


def _pack(recordings: Recordings, index: dict[str, NDArray[Any]]) -> bytes:
    speakers = recordings.speakers if recordings.speakers is not None else np.empty(0, "U1")
    buffer = io.BytesIO()
    classes = np.array(recordings.classes)
    columns: dict[str, Any] = {"speakers": speakers, "classes": classes, **index}
    if recordings.targets is not None:
        columns["targets"] = recordings.targets
    np.savez(buffer, labels=recordings.labels, **columns)
    return buffer.getvalue()


COLUMNS = (
    "labels", "speakers", "classes", "steps", "offset", "kind", "crc", "total", "used",
)  # fmt: skip


def _unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """Unpack the index and check that its columns are consistent.

    Raises:
        Damaged: they are not, although the checksum is right: another program wrote the file.
    """
    try:
        with np.load(io.BytesIO(data)) as file:
            index = {name: file[name] for name in (*COLUMNS, *({"targets"} & {*file}))}
        sizes = index["steps"] * len(index["used"]) * np.array(BYTES)[index["kind"]]
        sound = (
            index["offset"][0] == HEAD_BYTES
            and np.array_equal(np.diff(index["offset"]), sizes)
            and {len(index[name]) for name in ("labels", "steps", "crc", "total")} == {len(sizes)}
            and len(index["speakers"]) in (0, len(sizes))
            and 0 <= index["labels"].min() <= index["labels"].max() < len(index["classes"])
            and _fits(index.get("targets"), int(index["steps"].sum()), len(index["classes"]))
        )
    except (KeyError, ValueError, TypeError, IndexError, OSError, BadZipFile) as error:
        raise Damaged("its index is damaged") from error
    if not sound:
        raise Damaged("its index is damaged")
    return index


def _fits(targets: NDArray[Any] | None, steps: int, outputs: int) -> bool:
    """Whether the targets, if there are any, are one for every step and output."""
    return targets is None or (targets.shape, targets.dtype) == ((steps, outputs), np.float32)


class FrameFile:
    """An open frame file.

    Attributes:
        labels: [N].
        speakers: [N], or None if unknown.
        classes: class names, in order of their label, or names of the outputs.
        channels: number of input channels.
        used: [channels], whether any frame is other than 0 in this channel.
        steps: [N], number of time steps of each sample.
        totals: [N], sum of each sample's frames: its number of spikes.
        bytes: size of the file.

    Raises:
        Damaged: the file is incomplete or damaged.
        OSError: it does not exist, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = path.stat().st_size
        if self.bytes < HEAD_BYTES:
            raise Damaged("it is too short")
        self._mapped = MappedFile(path)
        self._data = np.frombuffer(self._mapped.content, np.uint8)
        magic, start, length, crc = HEAD.unpack(self._data[: HEAD.size].tobytes())
        if magic != MAGIC:
            raise Damaged("its head is not that of this version")
        index = self._data[start : start + length].tobytes()
        if len(index) != length or start + length != self.bytes or zlib.crc32(index) != crc:
            raise Damaged("its index is damaged")
        read = _unpack(index)
        self.labels, self.steps, self.totals = read["labels"], read["steps"], read["total"]
        self.speakers = read["speakers"] if len(read["speakers"]) else None
        self.classes = [str(name) for name in read["classes"]]
        self.used = read["used"]
        self.channels = len(self.used)
        self._offset, self._kind, self._crc = read["offset"], read["kind"], read["crc"]
        self._sound = np.zeros(len(self.labels), bool)
        self._targets = read.get("targets")
        self._first = np.cumsum([0, *self.steps])  # row of each sample's first target

    def frames(self, number: int) -> NDArray[Any]:
        """Frames of one sample, [steps, channels], read-only.

        Raises:
            Damaged: their checksum is wrong.
        """
        data = self._data[self._offset[number] : self._offset[number + 1]]
        self._mapped.has_read(data.size)
        if not self._sound[number]:
            if zlib.crc32(data.data) != self._crc[number]:
                raise Damaged(f"sample {number} is damaged")
            self._sound[number] = True
        return np.ndarray((self.steps[number], self.channels), TYPES[self._kind[number]], data)

    @property
    def has_targets(self) -> bool:
        """Whether the samples have targets per step in place of classes."""
        return self._targets is not None

    def targets(self, number: int) -> NDArray[np.float32]:
        """Targets of one sample, [steps, K], NaN where there is none."""
        assert self._targets is not None
        return self._targets[self._first[number] : self._first[number + 1]]

    @property
    def fingerprints(self) -> NDArray[np.int64]:
        """A hash of each sample's frames, [N]; equal frames have equal hashes."""
        size = (self.steps * 1_000_003 + self.totals.astype(np.int64)) & 0xFFFFFFFF
        return self._crc.astype(np.int64) << 32 | size

    @property
    def dtype(self) -> np.dtype[Any]:
        """A type that holds all frames."""
        return np.result_type(*(TYPES[kind] for kind in np.unique(self._kind)))

    def check(self, numbers: Iterable[int]) -> None:
        """Compare the checksums of samples, including those that were compared before.

        Raises:
            Damaged: the checksum of a sample is wrong.
        """
        self._sound[:] = False
        for number in numbers:
            self.frames(number)
