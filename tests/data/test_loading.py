"""Cache, splits, batches, synthetic data."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch

from snn_delays.config import Config, SyntheticConfig
from snn_delays.data import cache, sources
from snn_delays.data.cache import open_frames
from snn_delays.data.events import SpikeFile
from snn_delays.data.loaders import Loader, Samples
from snn_delays.data.sources import load_data
from snn_delays.data.splits import held_out
from snn_delays.data.synthetic import synthetic_files
from snn_delays.errors import UserError
from tests.conftest import random_spikes, write_spikes
from tests.data.test_frames import plain_frames


def test_cached_frames_equal_the_plain_computation(spike_files, small_config) -> None:
    config = small_config()
    for _ in range(2):  # made, then read
        store = open_frames(spike_files["train"], config)
        samples = Samples.of(store)
        dataset = SpikeFile(spike_files["train"])
        for i in range(len(dataset)):
            spikes, label = dataset[i]
            expected = plain_frames(spikes["t"], spikes["x"], 10.0, 14, 50)
            np.testing.assert_array_equal(samples.frames(i), expected)
            assert store.labels[i] == label
    assert store.frames.dtype == np.uint8
    assert store.speakers.tolist() == dataset.speaker.tolist()
    assert store.classes == dataset.classes


def test_frames_are_made_once_for_each_setting_and_content(
    spike_files, small_config, monkeypatch
) -> None:
    made = []
    monkeypatch.setattr(
        cache, "_make", lambda *a, make=cache._make: (made.append(a[1].name), make(*a))
    )
    config = small_config()
    path = spike_files["train"]
    open_frames(path, config)
    open_frames(path, config)
    assert len(made) == 1
    for key, value in (
        ("step_ms", 5.0),
        ("units_per_channel", 70),
        ("frame_arithmetic", "float16"),
    ):
        changed = small_config()
        setattr(changed.data, key, value)
        open_frames(path, changed)
    changed = small_config(protocol="paper")  # float16 again: the same frames
    open_frames(path, changed)
    assert len(made) == 4
    random_spikes(path, 48, seed=9)
    open_frames(path, config)
    assert len(set(made)) == 5
    assert sorted(p.name for p in cache.cache_folder(config).iterdir()) == sorted(made)


def test_a_bad_sample_leaves_no_cache(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0], [np.inf]], [[1], [1]], [0, 0])
    config = small_config()
    with pytest.raises(UserError, match="sample 1"):
        open_frames(path, config)
    assert list(cache.cache_folder(config).iterdir()) == []


def test_times_in_the_wrong_unit_are_named(tmp_path, small_config) -> None:
    path = write_spikes(
        tmp_path / "a.h5", [[0.0], [0.0, 2e6]], [[1], [1, 2]], [0, 0], times_dtype=np.float32
    )
    with pytest.raises(UserError, match=r"sample 1 lasts 2e\+06 s.*times must be in seconds"):
        open_frames(path, small_config())


def test_float16_arithmetic_refuses_what_it_cannot_hold(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0, 70.0]], [[1, 2]], [0])
    assert len(open_frames(path, small_config()).frames) == 7000
    with pytest.raises(UserError, match=r"sample 0 has times beyond 65.5 s"):
        open_frames(path, small_config(protocol="paper"))


def test_a_damaged_cache_is_made_anew(spike_files, small_config) -> None:
    config = small_config()
    expected = np.array(open_frames(spike_files["train"], config).frames)
    (cached,) = cache.cache_folder(config).iterdir()
    whole = cached.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        cached.write_bytes(whole[:length])
        np.testing.assert_array_equal(open_frames(spike_files["train"], config).frames, expected)
        assert cached.read_bytes() == whole


def test_an_unwritable_cache_is_named(spike_files, small_config, tmp_path) -> None:
    config = small_config()
    (tmp_path / "file").write_text("")
    config.data.cache = str(tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"cannot be written.*set data.cache"):
        open_frames(spike_files["train"], config)


def test_many_spikes_in_a_frame_are_all_counted(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0] * 300, [0.0]], [[1] * 300, [1]], [0, 0])
    store = open_frames(path, small_config())
    assert store.frames[:, 0].tolist() == [300, 1]
    batch = next(loader(Samples.of(store), 2).epoch())
    assert batch.x[0, :, 0].tolist() == [300.0, 1.0]


def loader(samples, size, steps=None, seed=None) -> Loader:
    return Loader(samples, size, steps, torch.float32, torch.device("cpu"), seed)


@pytest.fixture
def samples(spike_files, small_config) -> Samples:
    return Samples.of(open_frames(spike_files["train"], small_config()))


def test_batches_hold_every_sample_once(samples) -> None:
    for seed in (None, 3):
        batches = list(loader(samples, 10, seed=seed).epoch(2))
        assert [len(b.y) for b in batches] == [10, 10, 10, 10, 8]
        numbers = np.concatenate([b.numbers for b in batches])
        assert sorted(numbers) == list(range(48))
        assert (numbers.tolist() == list(range(48))) == (seed is None)
        for batch in batches:
            assert batch.y.tolist() == samples.labels[batch.numbers].tolist()
            for b, n in enumerate(batch.numbers):
                frames = samples.frames(n)
                assert batch.x[: len(frames), b].tolist() == frames.tolist()
                assert batch.x[len(frames) :, b].sum() == 0


def test_order_is_a_function_of_seed_and_epoch(samples) -> None:
    def order(seed, epoch):
        batches = loader(samples, 48, seed=seed).epoch(epoch)
        return next(iter(batches)).numbers.tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s in (1, 2) for e in (0, 1)}) == 4


def test_padding_never_cuts(samples) -> None:
    longest = samples.longest
    assert next(loader(samples, 48, steps=longest + 7).epoch()).x.shape[0] == longest + 7
    assert next(loader(samples, 48, steps=1).epoch()).x.shape[0] == longest
    own = [b.x.shape[0] for b in loader(samples, 1).epoch()]
    assert own == [len(samples.frames(i)) for i in range(48)]


def test_samples_of_two_files_add_up(spike_files, small_config) -> None:
    data = load_data(small_config())
    both = data.everything + data.test
    assert len(both) == 78
    expected = np.concatenate([data.everything.labels, data.test.labels])
    assert both.labels.tolist() == expected.tolist()
    np.testing.assert_array_equal(both.frames(50), data.test.frames(2))
    assert both.speakers[48:].tolist() == data.test.speakers.tolist()


# ---- splits ------------------------------------------------------------------------------------


def test_validation_holds_out_speakers_never_the_test_set(small_config) -> None:
    data = load_data(small_config())
    train, valid = set(data.train.speakers), set(data.valid.speakers)
    assert len(valid) == 1
    assert train.isdisjoint(valid)
    assert len(data.train) + len(data.valid) == len(data.everything) == 48
    assert data.test.stores[0].source.name == "test.h5"
    assert "held-out speakers" in data.split


@pytest.mark.parametrize("protocol", ["last", "paper"])
def test_nothing_is_held_out_where_nothing_is_selected(protocol, tmp_path, small_config) -> None:
    config = small_config(protocol=protocol)
    config.data.train_file = str(random_spikes(tmp_path / "one.h5", 3, 0, speakers=None))
    data = load_data(config)
    assert (len(data.train), data.valid) == (3, None)
    config = small_config()
    config.data.train_file = str(tmp_path / "one.h5")
    with pytest.raises(UserError, match="too small to hold out"):
        load_data(config)


def test_ssc_selects_on_its_official_validation_split(tmp_path, small_config, monkeypatch) -> None:
    sizes = {"train": 12, "valid": 6, "test": 9}

    def official(name, split, root):
        assert (name, root) == ("ssc", tmp_path)
        return random_spikes(tmp_path / f"ssc_{split}.h5", sizes[split], 0)

    monkeypatch.setattr(sources, "official_file", official)
    config = small_config()
    config.data.name, config.data.root = "ssc", str(tmp_path)
    data = load_data(config)
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 9)
    assert len(data.everything) == 18
    assert data.split == "validation file ssc_valid.h5"


def test_the_split_is_the_same_for_every_seed(small_config) -> None:
    splits = []
    for seed in (0, 1):
        config = small_config()
        config.seed = seed
        splits.append(load_data(config).valid.rows.tolist())
    assert splits[0] == splits[1]


def test_named_speakers_are_held_out(small_config) -> None:
    config = small_config()
    config.data.valid_speakers = [1, 3]
    assert set(load_data(config).valid.speakers) == {1, 3}
    for wrong, words in (
        ([9], "which has"),
        ([], "which has"),
        ([0, 1, 2, 3], "leaves no speaker"),
    ):
        config.data.valid_speakers = wrong
        with pytest.raises(UserError, match=words):
            load_data(config)


def test_without_speakers_a_share_of_every_class(tmp_path, small_config) -> None:
    path = random_spikes(tmp_path / "plain.h5", 60, 0, speakers=None)
    store = open_frames(path, small_config())
    mask, words = held_out(store, small_config().data)
    assert np.bincount(store.labels[mask]).tolist() == [4, 4, 4]
    assert words == "20% of every class"


def test_an_official_validation_file_is_used(tmp_path, small_config) -> None:
    config = small_config()
    config.data.valid_file = str(random_spikes(tmp_path / "valid.h5", 9, 5))
    data = load_data(config)
    assert (len(data.train), len(data.valid), len(data.everything)) == (48, 9, 57)
    assert data.split == "validation file valid.h5"


def test_other_classes_in_the_test_file_are_refused(tmp_path, small_config) -> None:
    config = small_config()
    config.data.test_file = str(random_spikes(tmp_path / "other.h5", 20, 5, classes=4))
    with pytest.raises(UserError, match=r"has the classes .*class 3; the training file has"):
        load_data(config)


# ---- synthetic data ----------------------------------------------------------------------------

SMALL = SyntheticConfig(train_samples=200, valid_samples=20, test_samples=20)


def test_synthetic_files_are_written_once_and_seeded(tmp_path) -> None:
    first = synthetic_files(SMALL, tmp_path / "a")
    stamp = os.stat(first["train"]).st_mtime_ns
    time.sleep(0.01)
    assert synthetic_files(SMALL, tmp_path / "a") == first
    assert os.stat(first["train"]).st_mtime_ns == stamp
    again = synthetic_files(SMALL, tmp_path / "b")
    other = synthetic_files(SyntheticConfig(**{**vars(SMALL), "seed": 1}), tmp_path / "a")
    for split in ("train", "valid", "test"):
        mine, same, changed = (list(SpikeFile(f[split])) for f in (first, again, other))
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(mine, same, strict=True))
        assert not all(np.array_equal(a[0], b[0]) for a, b in zip(mine, changed, strict=True))


def test_an_unwritable_folder_for_synthetic_files_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*set data.cache"):
        synthetic_files(SMALL, tmp_path / "file" / "cache")


def test_spike_counts_do_not_tell_synthetic_words_apart(tmp_path) -> None:
    """A nearest-mean classifier on counts per channel stays near chance."""
    config = Config()
    config.data.cache, config.data.synthetic = str(tmp_path), SMALL
    config.data.synthetic.train_samples = 1000
    config.data.synthetic.test_samples = 500
    data = load_data(config)

    def counts(samples):
        return np.stack([samples.frames(i).sum(0) for i in range(len(samples))]).astype(float)

    train, test = counts(data.train), counts(data.test)
    means = np.stack([train[data.train.labels == k].mean(0) for k in range(16)])
    guess = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (guess == data.test.labels).mean() < 0.15
