"""Files mapped into memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from snn_delays.data import mapped
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.frame_file import FrameFile, Recordings, write_frame_file
from tests.conftest import random_spikes

SAMPLES = 200


def in_memory(path: Path) -> int:
    """Bytes of a mapped file that count as memory of this process."""
    resident, inside = 0, False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        first, *rest = line.split()
        inside = str(path) in rest if "-" in first else inside
        resident += 1024 * int(rest[0]) if inside and first == "Rss:" else 0
    return resident


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_frames_that_were_read_do_not_stay_in_memory(tmp_path, monkeypatch) -> None:
    path = tmp_path / "frames"
    frames = np.random.default_rng(0).integers(0, 9, (SAMPLES, 100, 140), np.uint8)
    write_frame_file(path, Recordings(frames, np.zeros(SAMPLES, np.int64), None, ["a"]))
    found = {}
    for give_back in (1 << 30, 1 << 17):
        monkeypatch.setattr(mapped, "GIVE_BACK", give_back)
        file = FrameFile(path)
        first = file.frames(0)
        assert all(np.array_equal(file.frames(n), frames[n]) for n in range(SAMPLES))
        found[give_back] = in_memory(path)
        assert np.array_equal(first, frames[0])
        del file, first
    assert found[1 << 30] > 0.9 * frames.nbytes
    assert found[1 << 17] < 0.4 * frames.nbytes


def test_pages_of_heaps_are_given_back_as_they_are_checked(tmp_path, monkeypatch) -> None:
    path = random_spikes(tmp_path / "train.h5", 30, 1)
    whole = [times.tolist() for times, _ in SpikeFile(path).spikes()]
    counts, has_read = [], mapped.MappedFile.has_read

    def spied(file, count):
        counts.append(count)
        has_read(file, count)

    monkeypatch.setattr(mapped, "GIVE_BACK", 1)
    monkeypatch.setattr(mapped.MappedFile, "has_read", spied)
    assert [times.tolist() for times, _ in SpikeFile(path).spikes()] == whole
    assert sum(counts) >= 4 * sum(map(len, whole))  # float16 times and uint16 units
