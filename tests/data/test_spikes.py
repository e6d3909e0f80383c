"""Files of SHD's format through Tonic; what is refused, and how."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tonic

from snn_delays.data.datasets.spikes import SpikeFile
from snn_delays.data.datasets.spikes import write_spikes as write_spike_file
from snn_delays.errors import UserError
from tests.conftest import random_spikes, write_spikes


def test_is_a_tonic_dataset_with_the_files_own_times(tmp_path: Path) -> None:
    times = [np.array([0.0, 0.3], np.float16), np.array([1.5], np.float16)]
    path = write_spikes(tmp_path / "a.h5", times, [[3, 699], [0]], [1, 0], keys=["x", "y"])
    dataset = SpikeFile(path, transform=lambda e: e["t"], target_transform=lambda y: -y)
    assert isinstance(dataset, tonic.Dataset)
    assert len(dataset) == 2
    assert dataset.classes == ["x", "y"]
    t, y = dataset[0]
    assert t.tolist() == [0.0, float(np.float16(0.3))]
    assert y == -1
    assert dataset.speaker is None


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0]] * 3, [[1]] * 3, [0, 2, 1])
    assert SpikeFile(path).classes == ["0", "1", "2"]


def test_a_huge_label_without_names_is_refused(tmp_path: Path) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0]], [[1]], [2**40])
    with pytest.raises(UserError, match="need names in extra/keys"):
        SpikeFile(path)


def spoil(path: Path, change) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


BAD_HEADERS = {
    "no labels": (lambda f: f.__delitem__("labels"), "not of SHD's format"),
    "no spikes": (lambda f: f.__delitem__("spikes"), "not of SHD's format"),
    "float labels": (replace("labels", np.ones(48)), "one integer per sample"),
    "few labels": (replace("labels", np.ones(3, int)), "must be as many"),
    "label too high": (replace("labels", np.full(48, 7)), "label 7, outside the 3 classes"),
    "negative label": (replace("labels", np.full(48, -1)), "label -1, outside"),
    "speakers": (replace("extra/speaker", np.ones(2, int)), "extra/speaker must be one integer"),
    "named speakers": (replace("extra/speaker", [b"anna"] * 48), "extra/speaker must be one int"),
    "flat times": (
        replace("spikes/times", np.zeros(48)),
        "spikes/times must be one variable-length array",
    ),
    "square units": (
        replace("spikes/units", np.zeros((48, 3), int)),
        "spikes/units must be one variable",
    ),
    "labels a group": (lambda f: (f.__delitem__("labels"), f.create_group("labels")), "SHD's form"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_malformed_files_are_refused(name, spike_files) -> None:
    change, words = BAD_HEADERS[name]
    with pytest.raises(UserError, match=words):
        SpikeFile(spoil(spike_files["train"], change))


@pytest.mark.parametrize(
    ("times", "units", "words"),
    [
        ([0.0, np.inf], [1, 2], "sample 1 has the spike time inf"),
        ([0.0, np.nan], [1, 2], "sample 1 has the spike time nan"),
        ([0.0, 0.1], [1, 700], r"sample 1 has unit 700, outside 0\.\.699"),
        ([], [], "sample 1 holds no spike"),
        ([0.0, 0.1], [1], "sample 1 has 2 times but 1 units"),
    ],
)
def test_bad_samples_are_named(times, units, words, tmp_path) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0], times], [[1], units], [0, 0])
    dataset = SpikeFile(path)
    dataset[0]
    with pytest.raises(UserError, match=words):
        dataset[1]


def test_foreign_and_truncated_files_are_refused(tmp_path, spike_files) -> None:
    with pytest.raises(UserError, match="There is no file"):
        SpikeFile(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        SpikeFile(text)
    whole = spike_files["train"].read_bytes()
    for share in (0.1, 0.5, 0.9):
        text.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError):
            read_all(text)


def read_all(path: Path) -> None:
    dataset = SpikeFile(path)
    for i in range(len(dataset)):
        dataset[i]


def test_blocks_hold_what_single_items_hold(tmp_path: Path) -> None:
    path = random_spikes(tmp_path / "a.h5", 150, 0)  # more than two blocks
    dataset = SpikeFile(path)
    assert dataset[-1][1] == dataset.labels[149]
    pairs = list(dataset.spikes())
    assert len(pairs) == 150
    for i, (times, units) in enumerate(pairs):
        single, _ = dataset[i]
        assert single["t"].tolist() == times.tolist()
        assert single["x"].tolist() == units.tolist()


def test_a_bad_sample_within_a_block_is_named(tmp_path: Path) -> None:
    times = [[0.0]] * 100
    times[70] = [np.inf]
    path = write_spikes(tmp_path / "a.h5", times, [[1]] * 100, [0] * 100)
    with pytest.raises(UserError, match="sample 70 has the spike time inf"):
        list(SpikeFile(path).spikes())


def test_speakers_have_names_where_the_file_knows_them(tmp_path: Path) -> None:
    spikes = [(np.array([0.0]), np.array([3]))] * 3
    numbers = np.array([1, 0, 1])
    write_spike_file(tmp_path / "a.h5", spikes, np.zeros(3, int), ["word"], numbers, ["ann", "bo"])
    dataset = SpikeFile(tmp_path / "a.h5")
    assert dataset.speakers.tolist() == ["bo", "ann", "bo"]
    assert dataset.speaker.tolist() == [1, 0, 1]
    write_spike_file(tmp_path / "b.h5", spikes, np.zeros(3, int), ["word"], numbers)
    assert SpikeFile(tmp_path / "b.h5").speakers.tolist() == ["1", "0", "1"]
    write_spike_file(tmp_path / "c.h5", spikes, np.zeros(3, int), ["word"], numbers, ["ann"])
    with pytest.raises(UserError, match="must name every speaker"):
        SpikeFile(tmp_path / "c.h5")


def test_numbers_beyond_16_bits_are_written(tmp_path) -> None:
    labels = np.array([0, 70_000])
    spikes = [(np.array([0.1]), np.array([0]))] * 2
    classes = [str(k) for k in range(70_001)]
    write_spike_file(tmp_path / "a.h5", spikes, labels, classes, labels, classes)
    dataset = SpikeFile(tmp_path / "a.h5")
    assert dataset.labels.tolist() == [0, 70_000]
    assert dataset.speakers.tolist() == ["0", "70000"]
