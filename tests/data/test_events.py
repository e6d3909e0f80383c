"""Files of SHD's format through Tonic; what is refused, and how."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tonic

from snn_delays.data import events
from snn_delays.data.events import SpikeFile, official_file
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


@pytest.fixture
def shd(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A file that passes for shd_train.h5, and an empty root; the network is closed."""
    path = random_spikes(tmp_path / "shd_train.h5", 12, 0)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(events._FILES, "shd_train.h5", (md5, 12))

    def closed(*arguments, **options):
        raise OSError("the network is closed")

    monkeypatch.setattr(tonic.dataset, "download_and_extract_archive", closed)
    root = tmp_path / "root"
    root.mkdir()
    return path, root


@pytest.mark.parametrize("folder", ["SHD", "shd", "."])
def test_files_put_there_by_hand_are_used(shd, folder) -> None:
    path, root = shd
    (root / folder).mkdir(exist_ok=True)
    shutil.copy(path, root / folder)
    assert official_file("shd", "train", root) == root / folder / "shd_train.h5"


def test_a_file_with_another_checksum_is_refused(shd) -> None:
    _, root = shd
    random_spikes(root / "shd_train.h5", 12, 1)
    with pytest.raises(UserError, match="its MD5 differs"):
        official_file("shd", "train", root)


def test_a_file_with_too_few_samples_is_refused(shd, monkeypatch) -> None:
    path, root = shd
    shutil.copy(path, root)
    md5, samples = events._FILES["shd_train.h5"]
    monkeypatch.setitem(events._FILES, "shd_train.h5", (md5, samples + 1))
    with pytest.raises(UserError, match="has 12 samples, the published file 13"):
        official_file("shd", "train", root)


def test_an_archive_put_there_by_hand_is_unpacked(shd, monkeypatch) -> None:
    path, root = shd
    archive = root / "shd_train.h5.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "shd_train.h5")
    with pytest.raises(UserError, match=r"shd_train.h5.zip is damaged"):
        official_file("shd", "train", root)
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(tonic.datasets.SHD, "train_md5", md5)
    found = official_file("shd", "train", root)
    assert found == root / "SHD" / "shd_train.h5"
    assert [p.name for p in found.parent.iterdir()] == ["shd_train.h5"]


def test_a_missing_file_says_where_it_belongs(shd) -> None:
    _, root = shd
    with pytest.raises(UserError, match=rf"put shd_train\.h5 or .* into {root}/SHD/"):
        official_file("shd", "train", root)
    with pytest.raises(UserError, match=r"ssc_valid\.h5 is missing"):
        official_file("ssc", "valid", root)


def test_tonic_downloads_where_there_is_a_network(shd, monkeypatch) -> None:
    path, root = shd

    def download(url, folder, filename, md5):
        assert url == "https://zenkelab.org/datasets/shd_train.h5.zip"
        Path(folder).mkdir(parents=True)
        shutil.copy(path, folder)

    monkeypatch.setattr(tonic.dataset, "download_and_extract_archive", download)
    assert official_file("shd", "train", root) == root / "SHD" / "shd_train.h5"
