"""Checks of HDF5's global heaps, which hold variable-length data.

libhdf5 loops for ever in some damaged heaps, and its process then reacts to no signal. Each heap is
therefore checked here before libhdf5 reads it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

import h5py
import numpy as np

from snn_delays.data.mapped import MappedFile

REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
HEAP = struct.Struct("<4sB3xQ")  # signature, version, size
OBJECT = struct.Struct("<H6xQ")  # index, size
FREE = 0  # index of the free space at a heap's end; only its size includes the object's header


def check_heaps(data: h5py.Dataset) -> None:
    """Check the heaps that a data set of variable-length values refers to.

    Compressed references and files with a user block are not checked.

    Raises:
        OSError: a heap is damaged, or an object in it is shorter than the value that refers to it.
    """
    file, itemsize = data.file, data.id.get_type().get_super().get_size()
    if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
        return
    mapped = MappedFile(file.filename)
    content = mapped.content
    for offset, count in _pieces(data):
        references = np.frombuffer(content, REFERENCE, count, offset)
        references = np.sort(references[references["length"] > 0], order="heap")
        starts = np.flatnonzero(np.diff(references["heap"])) + 1
        for group in np.split(references, starts) if len(references) else []:
            start = int(group["heap"][0])
            sizes = _walk(content, start)
            mapped.has_read(sum(sizes.values()))
            for length, _, index in group.tolist():
                if length * itemsize > sizes.get(index, 0):
                    raise damage(start)


def _pieces(data: h5py.Dataset) -> Iterator[tuple[int, int]]:
    """Offset in the file and number of references, for each contiguous piece of the data set."""
    if data.id.get_create_plist().get_nfilters():
        return
    if data.chunks is None:
        offset = data.id.get_offset()
        if offset is not None:
            yield offset, data.size
        return
    for number in range(data.id.get_num_chunks()):
        chunk = data.id.get_chunk_info(number)
        yield chunk.byte_offset, chunk.size // REFERENCE.itemsize


def _walk(content: mmap.mmap, start: int) -> dict[int, int]:
    """Size of each object of a heap, by its index, found in the same way as by libhdf5."""
    if start + HEAP.size > len(content):
        raise damage(start)
    signature, _, size = HEAP.unpack_from(content, start)
    at, end = start + HEAP.size, start + size
    if signature != b"GCOL" or end > len(content):
        raise damage(start)
    sizes = {}
    while at + OBJECT.size <= end:
        index, sizes[index] = OBJECT.unpack_from(content, at)
        need = sizes[index] if index == FREE else OBJECT.size + -(-sizes[index] // 8) * 8
        if not 0 < need <= end - at:
            raise damage(start)
        at += need
    return sizes


def damage(start: int) -> OSError:
    """The error for the heap at this byte."""
    return OSError(f"the heap of variable-length data at byte {start} is damaged")
