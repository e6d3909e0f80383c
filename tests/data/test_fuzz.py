"""Malformed files end in one sentence, whatever is wrong with them, and leave no cache.

HDF5's own library can hang or crash on broken bytes, so each batch of files is read in a process of
its own, with a time limit.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delays.data.frame_cache import cache_folder
from snn_delays.errors import UserError
from tests.conftest import open_spikes, random_spikes, write_spikes
from tests.processes import Command

READ = """
import json, sys
from pathlib import Path
from snn_delays.config import DataConfig
from snn_delays.data.frame_cache import open_frames
from snn_delays.data.sources import SpikeSource
from snn_delays.errors import UserError
cache = Path(sys.argv[1])
for name in sys.argv[2:]:
    try:
        store = open_frames(SpikeSource(Path(name), DataConfig(), "float64"), cache)
        answer = sum(store.frames(i).sum() for i in range(len(store)))
        print(json.dumps([name, "read", int(answer)]), flush=True)
    except UserError as error:
        print(json.dumps([name, "refused", str(error)]), flush=True)
"""


NUMBERS = itertools.count()


def read_in_child(cache: Path, paths: list[Path]) -> list[list]:
    said = cache.with_name(f"said-{next(NUMBERS)}")
    child = Command([cache, *paths], said, code=READ)
    assert child.wait(120) == 0, child.said()
    return [json.loads(line) for line in child.printed.splitlines()]


def endless(folder: Path, whole: bytes) -> list[Path]:
    """Files that libhdf5 reads for ever, or far beyond what they hold."""
    heap = whole.rindex(b"GCOL")
    at, end = heap + 16, heap + int.from_bytes(whole[heap + 8 : heap + 16], "little")
    while index := int.from_bytes(whole[at : at + 2], "little"):
        last, at = index, at + 16 + -(-int.from_bytes(whole[at + 8 : at + 16], "little") // 8) * 8
    assert at + int.from_bytes(whole[at + 8 : at + 16], "little") == end  # the free space
    reference = heap.to_bytes(8, "little") + last.to_bytes(4, "little")
    changes = {at + 8: bytes(8), at + 9: b"\xff", whole.index(reference) - 1: b"\x80"}
    paths = []
    for place, change in changes.items():
        paths.append(folder / f"endless{place}.h5")
        paths[-1].write_bytes(whole[:place] + change + whole[place + len(change) :])
    return paths


def test_truncated_files_are_refused(tmp_path) -> None:
    whole = random_spikes(tmp_path / "whole.h5", 20, 0).read_bytes()
    paths = []
    for k, share in enumerate(np.linspace(0, 0.99, 24)):
        paths.append(tmp_path / f"cut{k}.h5")
        paths[-1].write_bytes(whole[: int(share * len(whole))])
    paths += endless(tmp_path, whole)
    answers = read_in_child(tmp_path / "cache", paths)
    assert len(answers) == len(paths)
    for name, outcome, words in answers:
        assert outcome == "refused"
        assert name in words
        assert len(words.splitlines()) == 1
    assert list((tmp_path / "cache").glob("*.*")) == []


def test_overwritten_bytes_are_refused_or_harmless(tmp_path) -> None:
    """Bytes within the spikes themselves may change them; nothing else may come of it."""
    whole = random_spikes(tmp_path / "whole.h5", 20, 0).read_bytes()
    rng = np.random.default_rng(0)
    paths = []
    for k in range(40):
        broken = bytearray(whole)
        place = int(rng.integers(len(whole) - 16))
        broken[place : place + 16] = rng.integers(0, 256, 16, dtype=np.uint8).tobytes()
        paths.append(tmp_path / f"broken{k}.h5")
        paths[-1].write_bytes(broken)
    for name, outcome, words in read_in_child(tmp_path / "cache", paths):
        if outcome == "refused":
            assert name in words
            assert len(words.splitlines()) == 1
    assert {p.suffix for p in (tmp_path / "cache").glob("*") if p.is_file()} <= {".frames"}


BAD_VALUES = st.sampled_from([np.inf, -np.inf, np.nan, 1e30, -1e30])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    spikes=st.lists(
        st.lists(st.tuples(st.floats(0, 3, width=16), st.integers(0, 699)), max_size=6),
        min_size=1,
        max_size=4,
    ),
    bad_time=st.none() | BAD_VALUES,
    bad_unit=st.none() | st.integers(700, 65535),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_samples_are_counted_or_refused(
    spikes, bad_time, bad_unit, dtype, tmp_path_factory
) -> None:
    from snn_delays.config import Config

    folder = tmp_path_factory.mktemp("fuzz")
    times = [[t for t, _ in sample] for sample in spikes]
    units = [[u for _, u in sample] for sample in spikes]
    if bad_time is not None and times[-1]:
        with np.errstate(over="ignore"):
            times[-1][-1] = float(dtype(bad_time))
    if bad_unit is not None and units[0]:
        units[0][0] = bad_unit
    path = write_spikes(folder / "a.h5", times, units, [0] * len(spikes), times_dtype=dtype)
    config = Config()
    config.data.cache = str(folder / "cache")
    sound = (
        all(times) and (bad_time is None or not times[-1]) and (bad_unit is None or not units[0])
    )
    if sound:
        store = open_spikes(path, config)
        assert [store.frames(i).sum() for i in range(len(store))] == [len(t) for t in times]
        return
    with pytest.raises(UserError) as refused:
        open_spikes(path, config)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert list(cache_folder(config.data).glob("*.*")) == []


def scalar(file):
    del file["labels"]
    file["labels"] = 3


SHAPES = {
    "scalar labels": scalar,
    "integer times": lambda f: replace_vlen(f, "spikes/times", np.int32),
    "float units": lambda f: replace_vlen(f, "spikes/units", np.float32),
    "text for times": lambda f: replace(f, "spikes/times", [b"x"] * 20),
    "a group for units": lambda f: (f.__delitem__("spikes/units"), f.create_group("spikes/units")),
    "spikes a dataset": lambda f: replace(f, "spikes", np.zeros(3)),
    "labels as text": lambda f: replace(f, "labels", [b"x"] * 20),
    "keys a group": lambda f: (f.__delitem__("extra/keys"), f.create_group("extra/keys")),
    "scalar keys": lambda f: replace(f, "extra/keys", b"x"),
    "bytes for keys": lambda f: replace(f, "extra/keys", [b"\xff", b"\xfe", b"\xfd"]),
    "scalar speaker": lambda f: replace(f, "extra/speaker", 3),
}


def replace(file, name, value):
    del file[name]
    file[name] = value


def replace_vlen(file, name, dtype):
    del file[name]
    data = file.create_dataset(name, (20,), h5py.vlen_dtype(dtype))
    for i in range(20):
        data[i] = np.zeros(3, dtype)


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_shapes_and_types_are_refused(name, tmp_path, small_config) -> None:
    path = random_spikes(tmp_path / "a.h5", 20, 0)
    with h5py.File(path, "r+") as file:
        SHAPES[name](file)
    config = small_config()
    with pytest.raises(UserError) as refused:
        open_spikes(path, config)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert list(cache_folder(config.data).glob("*.*")) == []
