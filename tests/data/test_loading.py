"""Splits, batches, synthetic data."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays.config import AugmentConfig, Config, DataConfig, SyntheticConfig
from snn_delays.data import gpu_loader, published
from snn_delays.data.dataset import load_data, stored_samples
from snn_delays.data.datasets.synthetic import synthetic_files
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.gpu_loader import GpuLoader, fits_on_gpu
from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.data.splits import Labelled, hold_out_valid, sort_names
from snn_delays.errors import UserError
from tests.conftest import as_on_a_gpu, open_spikes, random_spikes, without_data, write_spikes


def loader(samples, size, steps=None, seed=None) -> Loader:
    return Loader(samples, size, steps, torch.float32, torch.device("cpu"), seed)


@pytest.fixture
def samples(spike_files, small_config) -> Samples:
    return Samples.of(open_spikes(spike_files["train"], small_config()))


def test_batches_hold_every_sample_once(samples) -> None:
    for seed in (None, 3):
        batches = list(loader(samples, 10, seed=seed).epoch(2))
        assert [len(b.y) for b in batches] == [10, 10, 10, 10, 8]
        numbers = np.concatenate([b.indices for b in batches])
        assert sorted(numbers) == list(range(48))
        assert (numbers.tolist() == list(range(48))) == (seed is None)
        for batch in batches:
            assert batch.y.tolist() == samples.labels[batch.indices].tolist()
            for b, n in enumerate(batch.indices):
                frames = samples.frames(n)
                assert batch.x[: len(frames), b].tolist() == frames.tolist()
                assert batch.x[len(frames) :, b].sum() == 0


@pytest.mark.parametrize(("steps", "seed", "first"), [(None, None, 0), (50, 3, 0), (None, 3, 2)])
def test_batches_from_the_device_are_the_same(samples, steps, seed, first) -> None:
    plain = loader(samples, 10, steps=steps, seed=seed)
    on_gpu_loader = GpuLoader.of(plain)
    assert on_gpu_loader.frames_TNI.dtype == torch.uint8
    assert len(on_gpu_loader) == len(plain)
    for ours, theirs in zip(on_gpu_loader.epoch(1, first), plain.epoch(1, first), strict=True):
        assert torch.equal(ours.x, theirs.x)
        assert ours.x.dtype == theirs.x.dtype
        assert torch.equal(ours.y, theirs.y)
        assert torch.equal(ours.target, theirs.target)
        assert ours.indices.tolist() == theirs.indices.tolist()


def loud(spike_files, small_config) -> Samples:
    config = small_config()
    config.data.step_ms = 1000.0
    config.data.units_per_channel = 700
    times = [np.linspace(0, 0.5, 300)] * 2
    path = write_spikes(spike_files["train"].parent / "loud.h5", times, [[5] * 300] * 2, [0, 1])
    return Samples.of(open_spikes(path, config))


def test_counts_beyond_a_byte_lie_on_the_device_as_numbers(spike_files, small_config) -> None:
    plain = loader(loud(spike_files, small_config), 2)
    on_gpu_loader = GpuLoader.of(plain)
    assert on_gpu_loader.frames_TNI.dtype == torch.int32
    assert torch.equal(next(on_gpu_loader.epoch()).x, next(plain.epoch()).x)


def test_what_moves_to_a_gpu(samples, monkeypatch) -> None:
    def fit(free, device="cuda", **options) -> bool:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10 * free))
        data = DataConfig(augment=AugmentConfig(**options))
        return fits_on_gpu(
            replace(loader(samples, 10), device=torch.device(device), augmented=data)
        )

    size = samples.longest * 48 * 14  # bytes of all frames
    assert fit(3 * size)
    assert fit(3 * size, time_mask=3, cutmix=0.5)
    assert not fit(2 * size)
    assert not fit(3 * size, "cpu")
    assert not fit(3 * size, roll_ms=10)
    assert not fit(3 * size, speed=0.1)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("before", [None, True, False])
def test_a_run_that_goes_on_has_its_frames_where_they_were(
    device, room, before, samples, monkeypatch
) -> None:
    monkeypatch.setattr(gpu_loader, "fits_on_gpu", lambda loader: room)
    monkeypatch.setattr(GpuLoader, "of", lambda loader: "on the device")
    there = replace(loader(samples, 10), device=torch.device(device))
    expected = device == "cuda" and (room if before is None else before)
    assert (gpu_loader.choose_loader(there, before) == "on the device") == expected


def test_order_is_a_function_of_seed_and_epoch(samples) -> None:
    def order(seed, epoch):
        batches = loader(samples, 48, seed=seed).epoch(epoch)
        return next(iter(batches)).indices.tolist()

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


def augmented(samples, epoch=0, seed=4, size=16, **options) -> list[Batch]:
    data = DataConfig(augment=AugmentConfig(**options))
    made = Loader(samples, size, 40, torch.float32, torch.device("cpu"), seed, data)
    return list(made.epoch(epoch))


def test_augmentation_is_a_function_of_seed_and_epoch(samples) -> None:
    def spikes(**given):
        return torch.cat([b.x.flatten() for b in augmented(samples, spike_drop=0.5, **given)])

    first = spikes()
    assert torch.equal(first, spikes())
    assert not torch.equal(first, spikes(epoch=1))
    assert not torch.equal(first, spikes(seed=5))
    plain = loader(samples, 16, 40, seed=4).epoch()
    for batch, changed in zip(plain, augmented(samples, spike_drop=0.5), strict=True):
        assert batch.indices.tolist() == changed.indices.tolist()  # the order is the same
        assert (changed.x <= batch.x).all()
        assert changed.x.sum() < batch.x.sum()
        assert torch.equal(changed.target, changed.y)


def test_mixed_labels_become_probabilities(samples) -> None:
    for batch in augmented(samples, cutmix=1.0):
        assert batch.target.shape == (16, 3)
        torch.testing.assert_close(batch.target.sum(1), torch.ones(16))
    assert (batch.target.max(1).values < 1).any()


# what each changes in a way that is the same wherever it is made; and with numbers of each cell
SAMPLES = {"cutmix": 0.6, "time_shift": 4, "channel_shift": 2, "time_mask": 5, "channel_mask": 3}
CELLS = {"blend": 0.5, "spike_drop": 0.3, "noise_spikes": 0.8}


def both_ways(samples, options, shard=(0, 1), steps=40) -> tuple[Loader, GpuLoader]:
    data = DataConfig(augment=AugmentConfig(**options))
    one = Loader(samples, 20, steps, torch.float32, torch.device("cpu"), 4, data, shard)
    return one, GpuLoader.of(one)


def assert_equal_batches(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name in ("x", "y", "target"):
            left, right = getattr(one, name), getattr(other, name)
            assert left.dtype == right.dtype
            assert left.is_contiguous()
            assert torch.equal(left, right)
        assert one.indices.tolist() == other.indices.tolist()
        assert (one.own_rows, one.loss_weight) == (other.own_rows, other.loss_weight)


@pytest.mark.parametrize("steps", [40, None])
@pytest.mark.parametrize("options", [SAMPLES, SAMPLES | CELLS])
def test_augmented_batches_from_the_device_are_the_same(samples, options, steps) -> None:
    plain, on_gpu_loader = both_ways(samples, options, steps=steps)
    assert_equal_batches(on_gpu_loader.epoch(1), plain.epoch(1))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_gpu_augments_samples_as_the_loader_does(samples, name, monkeypatch) -> None:
    plain, on_gpu_loader = both_ways(samples, {name: SAMPLES[name]})
    theirs = list(plain.epoch(1))
    as_on_a_gpu(monkeypatch)
    assert_equal_batches(on_gpu_loader.epoch(1), theirs)


@pytest.mark.parametrize("name", CELLS)
def test_a_gpu_draws_cells_of_the_same_distribution(samples, name, monkeypatch) -> None:
    plain, on_gpu_loader = both_ways(samples, {name: CELLS[name]})
    theirs = torch.cat([b.x.sum((0, 2)) for e in range(20) for b in plain.epoch(e)])
    as_on_a_gpu(monkeypatch)
    ours = torch.cat([b.x.sum((0, 2)) for e in range(20) for b in on_gpu_loader.epoch(e)])
    assert not torch.equal(ours, theirs)
    apart = (ours - theirs).mean() / (ours - theirs).std() * len(ours) ** 0.5
    assert abs(apart) < 4
    torch.testing.assert_close(ours.var(), theirs.var(), rtol=0.1, atol=0)


@pytest.fixture
def on_a_gpu(samples, monkeypatch) -> GpuLoader:
    """All augmentations, made as on a GPU."""
    as_on_a_gpu(monkeypatch)
    return both_ways(samples, SAMPLES | CELLS)[1]


def test_a_gpus_epoch_repeats_itself_from_any_batch(on_a_gpu) -> None:
    whole = list(on_a_gpu.epoch(3))
    assert_equal_batches(on_a_gpu.epoch(3), whole)
    assert_equal_batches(on_a_gpu.epoch(3, 1), whole[1:])
    assert_equal_batches(on_a_gpu.epoch(3, 1, 2), whole[1::2])
    assert not torch.equal(next(on_a_gpu.epoch(4)).x, whole[0].x)
    assert len({float(b.x.sum()) for b in whole}) == 3


@pytest.mark.parametrize("processes", [2, 3])
def test_parts_of_a_gpus_batches_add_up(on_a_gpu, samples, processes) -> None:
    parts = [
        both_ways(samples, SAMPLES | CELLS, (n, processes))[1].epoch(2) for n in range(processes)
    ]
    for whole, *own in zip(on_a_gpu.epoch(2), *parts, strict=True):
        for name, dim in (("x", 1), ("y", 0), ("target", 0)):
            together = torch.cat([getattr(b, name) for b in own], dim)
            assert torch.equal(together, getattr(whole, name))
        assert sum(b.loss_weight for b in own) == pytest.approx(1)


def test_a_gpu_mixes_labels(on_a_gpu) -> None:
    for batch in on_a_gpu.epoch():
        assert batch.target.shape == (len(batch.y), 3)
        assert batch.target.dtype == torch.float32
        torch.testing.assert_close(batch.target.sum(1), torch.ones(len(batch.y)))
        own = batch.target.gather(1, batch.y[:, None])
        assert ((own > 0) & (own < 1)).any()


def test_a_gpu_loaders_epoch_waits_for_nothing(samples, monkeypatch) -> None:
    """On torch's device without data, whoever asks for a number or a shape of the data fails."""
    without_data(monkeypatch)
    plain = replace(both_ways(samples, SAMPLES | CELLS)[0], device=torch.device("meta"))
    for batch in GpuLoader.of(plain).epoch():
        assert {batch.x.device.type, batch.y.device.type, batch.target.device.type} == {"meta"}


def test_counts_beyond_a_byte_are_augmented_as_numbers(spike_files, small_config) -> None:
    plain, on_gpu_loader = both_ways(loud(spike_files, small_config), SAMPLES | CELLS, steps=None)
    assert_equal_batches(on_gpu_loader.epoch(), plain.epoch())


@pytest.mark.gpu(kernels=False)
def test_augmentation_on_a_gpu(samples) -> None:
    plain = both_ways(samples, SAMPLES)[0]
    on_gpu = GpuLoader.of(replace(plain, device=torch.device("cuda")))
    assert_equal_batches(map(on_the_host, on_gpu.epoch(1)), plain.epoch(1))
    data = DataConfig(augment=AugmentConfig(**SAMPLES, **CELLS))
    on_gpu = GpuLoader.of(replace(plain, device=torch.device("cuda"), augmented=data))
    whole = list(on_gpu.epoch(1))  # and what is set up once waits no more
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = list(on_gpu.epoch(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_equal_batches(again, whole)
    assert_equal_batches(on_gpu.epoch(1, 2), whole[2:])


def on_the_host(batch) -> Batch:
    return replace(batch, x=batch.x.cpu(), y=batch.y.cpu(), target=batch.target.cpu())


def test_an_error_in_a_batch_reaches_the_reader(samples, monkeypatch) -> None:
    def fails(self, number):
        raise UserError("damaged")

    monkeypatch.setattr(Samples, "frames", fails)
    with pytest.raises(UserError, match="damaged"):
        list(loader(samples, 16).epoch())


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

    def official(data_set, split, places, named):
        assert (data_set.name, places.root, named) == ("SSC", tmp_path, None)
        return random_spikes(tmp_path / f"ssc_{split}.h5", sizes[split], 0)

    monkeypatch.setattr(published, "spike_file", official)
    config = small_config()
    config.data.name, config.data.root = "ssc", str(tmp_path)
    config.data.train_file = config.data.test_file = None
    data = load_data(config)
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 9)
    assert len(data.everything) == 18
    assert data.split == "official validation split ssc_valid.h5"


def test_the_split_is_the_same_for_every_seed(small_config) -> None:
    splits = []
    for seed in (0, 1):
        config = small_config()
        config.seed = seed
        splits.append(load_data(config).valid.rows.tolist())
    assert splits[0] == splits[1]


def test_named_speakers_are_held_out(small_config) -> None:
    config = small_config()
    config.data.valid_speakers = ["1", "3"]
    assert set(load_data(config).valid.speakers) == {"1", "3"}
    for wrong, words in (
        (["9"], "which has"),
        ([], "which has"),
        (["0", "1", "2", "3"], "leaves no speaker"),
    ):
        config.data.valid_speakers = wrong
        with pytest.raises(UserError, match=words):
            load_data(config)


def recordings(speakers, count=60) -> Labelled:
    """Five classes in turn; speakers in turn of the classes."""
    labels = np.arange(count) % 5
    names = (
        None if speakers is None else np.array(speakers)[(np.arange(count) // 5) % len(speakers)]
    )
    return Labelled("these", labels, names)


def settings(**options) -> DataConfig:
    return DataConfig(name="spikes", **options)


def test_without_speakers_a_share_of_every_class() -> None:
    mask, words = hold_out_valid(recordings(None), settings())
    assert np.bincount(np.arange(60)[mask] % 5).tolist() == [2, 2, 2, 2, 2]
    assert words == "20% of every class"


def test_random_splits_are_drawn_class_by_class() -> None:
    labels, rng = np.random.default_rng(0).integers(0, 7, 2000), np.random.default_rng(0)
    expected = np.zeros(2000, bool)
    for label in range(7):
        members = rng.permutation(np.flatnonzero(labels == label))
        expected[members[: round(0.2 * len(members))]] = True
    mask, _ = hold_out_valid(Labelled("file", labels, None), settings(split="random"))
    np.testing.assert_array_equal(mask, expected)


def test_random_splits_mix_speakers() -> None:
    these = recordings(["a", "b", "c"])
    mask, words = hold_out_valid(these, settings(split="random", valid_share=0.5))
    assert np.bincount(these.labels[mask]).tolist() == [6] * 5
    assert set(these.speakers[mask]) == set(these.speakers[~mask]) == {"a", "b", "c"}
    assert words == "50% of every class"
    again, _ = hold_out_valid(these, settings(split="random", valid_share=0.5, split_seed=1))
    assert (mask != again).any()


def test_a_count_of_speakers_is_held_out() -> None:
    these = recordings(["a", "b", "c", "10", "2"])
    drawn = set()
    for seed in range(6):
        mask, words = hold_out_valid(these, settings(valid_count=2, split_seed=seed))
        held = sort_names(np.unique(these.speakers[mask]))
        assert len(held) == 2
        assert words == f"held-out speakers {', '.join(held)}"
        assert not set(held) & set(these.speakers[~mask])
        drawn.add(tuple(held))
    assert len(drawn) > 1
    with pytest.raises(UserError, match="valid_count=5 leaves none of the 5"):
        hold_out_valid(these, settings(valid_count=5))


def test_folds_leave_each_speaker_out_once() -> None:
    these = recordings(["10", "2", "a"])
    left = []
    for fold in range(3):
        mask, words = hold_out_valid(these, settings(split="fold", fold=fold))
        (speaker,) = set(these.speakers[mask])
        assert speaker not in these.speakers[~mask]
        assert words == f"held-out speakers {speaker}, fold {fold + 1} of 3"
        left.append(speaker)
    assert left == ["2", "10", "a"]
    with pytest.raises(UserError, match="fold=3 must be below 3"):
        hold_out_valid(these, settings(split="fold", fold=3))
    with pytest.raises(UserError, match=r"data\.fold needs two speakers or more; these knows 0"):
        hold_out_valid(recordings(None), settings(split="fold"))
    with pytest.raises(UserError, match="fewer than two speakers"):
        hold_out_valid(recordings(["a"]), settings(split="speakers"))


def test_a_split_is_noted_and_found_again(small_config) -> None:
    config = small_config()
    data = load_data(config)
    noted = json.loads(json.dumps(data.describe_split()))
    assert noted["rule"] == data.split
    assert noted["test"]["samples"] == "all"
    assert set(noted["train"]["speakers"]).isdisjoint(noted["valid"]["speakers"])
    for name, samples in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        again = stored_samples(config, noted, name)
        assert again.rows.tolist() == samples.rows.tolist()
        assert again.stores[0].source == samples.stores[0].source
    random_spikes(Path(config.data.train_file), 48, 5)
    with pytest.raises(UserError, match="has changed since the run"):
        stored_samples(config, noted, "valid")


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
    (tmp_path / "file").write_text("", encoding="utf-8")
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
