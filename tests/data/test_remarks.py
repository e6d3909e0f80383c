"""What is odd about recordings is said, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from snn_delays.data.dataset import load_data
from snn_delays.data.remarks import ranges
from tests.conftest import write_spikes


def test_nothing_is_said_of_usual_recordings(small_config) -> None:
    config = small_config()
    assert load_data(config).remarks == []
    config.train.protocol = "last"
    assert load_data(config).describe()["remarks"] == []


def test_channels_without_a_spike_are_named(small_config) -> None:
    config = small_config()
    config.data.units = 1000
    said = [
        "6 of 20 channels hold no spike: 14 to 19; data.units=700 leaves out the 6 above channel"
        " 13."
    ]
    data = load_data(config)
    assert data.remarks == data.describe()["remarks"] == said
    config.data.units = 700
    assert load_data(config).remarks == []


def test_channels_without_a_spike_in_between_have_no_cure(tmp_path, small_config) -> None:
    config = small_config()
    for split, first in (("train", 60), ("test", 160)):
        times, units = [[0.0, 0.1 + k / 100] for k in range(12)], [[first, 699]] * 12
        path = write_spikes(tmp_path / f"{split}.h5", times, units, [0, 1] * 6)
    config.data.test_file = str(path)
    (silent, _) = load_data(config).remarks
    assert silent == "11 of 14 channels hold no spike: 0, 2, 4 to 12."


@pytest.mark.parametrize("make", [shutil.copy, os.symlink, os.link, None])
def test_a_test_on_the_training_file_is_named(make, small_config, tmp_path) -> None:
    config = small_config()
    config.data.test_file = config.data.train_file
    if make is not None:
        config.data.test_file = str(tmp_path / "another.h5")
        make(config.data.train_file, config.data.test_file)
    train, valid = (
        f"{{}} of 48 test recordings have the same frames as {name} recordings: {says}."
        for name, says in (
            ("training", "accuracy on them says nothing about new recordings"),
            ("validation", "the epoch is chosen on what is tested"),
        )
    )
    assert load_data(config).remarks == [train.format(36), valid.format(12)]
    config.train.protocol = "last"
    assert load_data(config).remarks == [train.format(48)]


def test_a_file_written_anew_is_found_again(small_config, tmp_path) -> None:
    config = small_config(protocol="last")
    config.data.test_file = str(tmp_path / "another.h5")
    with h5py.File(config.data.train_file) as old, h5py.File(config.data.test_file, "w") as new:
        new["note"] = "not the same bytes"
        for name in old:
            old.copy(name, new)
    assert load_data(config).remarks[0].startswith("48 of 48 test recordings")


def test_a_validation_file_of_known_recordings_is_named(small_config) -> None:
    config = small_config()
    config.data.valid_file = config.data.train_file
    assert load_data(config).remarks == [
        "48 of 48 validation recordings have the same frames as training recordings: accuracy on"
        " them says nothing about new recordings."
    ]
    config.data.valid_file = config.data.test_file
    assert load_data(config).remarks == [
        "30 of 30 test recordings have the same frames as validation recordings: the epoch is"
        " chosen on what is tested."
    ]


def test_recordings_of_one_frame_are_named(small_config) -> None:
    config = small_config()
    config.data.time_unit = "ms"  # they are in seconds
    said = [
        f"Every recording of {path} is a single frame, 10 ms or shorter: is data.time_unit=ms the"
        " unit of its times?"
        for path in (Path(config.data.train_file), Path(config.data.test_file))
    ]
    assert load_data(config).remarks == said


def test_ranges_are_listed_as_a_person_does() -> None:
    assert ranges(np.array([0, 1, 2, 4, 6, 7])) == "0 to 2, 4, 6 to 7"
    assert ranges(np.array([3])) == "3"
    assert ranges(np.arange(0, 40, 2)) == "0, 2, 4, 6, 8, 10, ..."
