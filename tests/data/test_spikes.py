"""Files of SHD's format through Tonic; what is refused, and how."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tonic

from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.formats.spike_file import write_spikes as write_spike_file
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
    "label beyond int64": (
        replace("labels", np.full(48, 2**64 - 1, np.uint64)),
        "label 18446744073709551615, outside the 3 classes",
    ),
    "labels of another file": (lambda f: link(f, "labels"), "labels lies in another file"),
    "spikes of another file": (lambda f: link(f, "spikes"), "spikes/times lies in another file"),
    "classes of another file": (lambda f: link(f, "extra"), "extra/keys lies in another file"),
    "virtual labels": (lambda f: virtual(f, "labels"), "labels lies in another file"),
    "raw labels": (lambda f: raw(f, "labels"), "labels lies in another file"),
    "classes nowhere": (
        replace("extra/keys", h5py.ExternalLink("none.h5", "keys")),
        "there is no extra/keys",
    ),
    "speakers nowhere": (
        replace("extra", h5py.SoftLink("/none")),
        "there is no extra/keys",
    ),
    "too many classes": (
        lambda f: declare(f, "extra/keys", h5py.string_dtype()),
        "declares 10,000",
    ),
    "too many speakers": (lambda f: declare(f, "extra/speaker_names", "S9"), "declares 10,000,000"),
}


def link(file, name):
    """Move something to another file, and leave a link behind."""
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as part:
        file.copy(name, part)
    replace(name, h5py.ExternalLink(other.name, name))(file)


def virtual(file, name):
    """The same by a virtual data set."""
    values, other = file[name][()], Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as part:
        part["x"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(str(other), "x", values.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def raw(file, name):
    """The same by external storage."""
    values, other = file[name][()], Path(file.filename).with_name("other.raw")
    values.tofile(other)
    del file[name]
    external = [(str(other), 0, values.nbytes)]
    file.create_dataset(name, values.shape, values.dtype, external=external)


def declare(file, name, dtype):
    """A data set of ten thousand million entries, none of which is written."""
    if name in file:
        del file[name]
    file.create_dataset(name, (10**10,), dtype, chunks=(1000,))


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_malformed_files_are_refused(name, spike_files) -> None:
    change, words = BAD_HEADERS[name]
    with pytest.raises(UserError, match=words):
        SpikeFile(spoil(spike_files["train"], change))


BAD_NAMES = {
    "one text": ("abc", "must be a list of texts"),
    "numbers with a fraction": ([0.5, 1.5, 2.5], "must be a list of texts"),
    "records": (np.zeros(3, [("a", int)]), "must be a list of texts"),
    "a table": ([["a", "b", "c"]], "must be a list of texts"),
    "nothing": (h5py.Empty("S3"), "must be a list of texts"),
    "twice": (["a", "b", "a"], "has the name a twice, as number 0 and number 2"),
    "twice in Unicode": (["\u00e9", "e\u0301", "b"], "has the name \u00e9 twice"),
    "twice without zeros": (np.array([b"a", b"b", b"a\0"], "S2"), "has the name a twice"),
    "empty": (["a", " ", "b"], "has an empty name, number 1"),
    "an escape": (["a", "b\x1b[31m", "c"], r"a control character, 'b\\x1b\[31m'"),
    "a line end": (["a", "b\u2028", "c"], "a control character"),
    "Latin 1": (np.array([b"\xe4", b"b", b"c"]), r"a name that is not UTF-8, b'\\xe4'"),
}


@pytest.mark.parametrize("key", ["extra/keys", "extra/speaker_names"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_would_mislead_are_refused(name, key, tmp_path) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0]] * 3, [[1]] * 3, [0, 1, 2], speakers=[0, 1, 2])
    value, words = BAD_NAMES[name]
    with h5py.File(path, "r+") as file:
        file[key] = value
    with pytest.raises(UserError, match=words) as refused:
        SpikeFile(path)
    assert f"{path}: {key} " in str(refused.value)
    assert str(refused.value).isprintable()


def test_names_are_composed(tmp_path) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0]] * 3, [[1]] * 3, [0, 1, 2])
    with h5py.File(path, "r+") as file:
        file["extra/keys"] = ["e\u0301", "gr\u00f6\u00dfe", "\u96f6"]
    assert SpikeFile(path).classes == ["\u00e9", "gr\u00f6\u00dfe", "\u96f6"]


@pytest.mark.parametrize(
    ("classes", "words"), [("ab", "not the one text 'ab'"), (["a", "a"], "the name a twice")]
)
def test_no_file_is_written_with_names_that_would_mislead(classes, words, tmp_path) -> None:
    spikes = [(np.array([0.0]), np.array([3]))] * 2
    with pytest.raises(ValueError, match=words):
        write_spike_file(tmp_path / "a.h5", spikes, np.arange(2), classes, None)
    assert not list(tmp_path.iterdir())


def test_the_order_of_bytes_does_not_matter(tmp_path) -> None:
    times, units = np.array([0.0, 0.3, 1.5], np.float32), np.array([3, 699, 40], np.uint16)
    path = write_spikes(tmp_path / "a.h5", [times], [units], [0])
    with h5py.File(path, "r+") as file:
        for name, values in (("spikes/times", times), ("spikes/units", units)):
            del file[name]
            swapped = h5py.vlen_dtype(values.dtype.newbyteorder())
            file.create_dataset(name, (1,), swapped)[0] = values
        replace("labels", np.array([0], ">i8"))(file)
    assert units.byteswap().tobytes() in path.read_bytes()
    (spikes, label), (pair,) = SpikeFile(path)[0], SpikeFile(path).spikes()
    assert spikes["t"].tolist() == pair[0].tolist() == times.tolist()
    assert spikes["x"].tolist() == pair[1].tolist() == units.tolist()
    assert label == 0


def test_a_file_that_is_written_to_is_named(tmp_path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = write_spikes(tmp_path / "a.h5", [[0.0]], [[1]], [0])
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as HDF5 does while it writes
        with pytest.raises(UserError, match=r"a\.h5 is locked, because another program"):
            SpikeFile(path)
    assert len(SpikeFile(path)) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(37, "unable to lock file, errno = 37"), "set HDF5_USE_FILE_LOCKING=FALSE"),
        (PermissionError(13, "unable to open file"), "cannot be read: permission denied"),
    ],
)
def test_a_file_that_the_system_keeps_is_not_called_truncated(
    error, words, tmp_path, monkeypatch
) -> None:
    def fails(*arguments):
        raise error

    path = write_spikes(tmp_path / "a.h5", [[0.0]], [[1]], [0])
    monkeypatch.setattr(h5py, "File", fails)
    with pytest.raises(UserError, match=words) as refused:
        SpikeFile(path)
    assert "truncated" not in str(refused.value)


@pytest.mark.parametrize(
    ("times", "units", "words"),
    [
        ([0.0, np.inf], [1, 2], "sample 1 has the spike time inf"),
        ([0.0, np.nan], [1, 2], "sample 1 has the spike time nan"),
        ([0.0, 0.1], [1, 700], r"sample 1 has unit 700, outside 0\.\.699"),
        ([0.0, -0.5], [1, 2], r"sample 1 has the spike time -0\.5; times must not be below 0"),
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
    text.write_text("no HDF5", encoding="utf-8")
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
