"""Frames made once: which file holds them, what makes it anew, and that nothing damaged is used."""

from __future__ import annotations

import hashlib
import io
import os
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from snn_delays.config import DataConfig
from snn_delays.data import checksums, frame_cache, frame_file
from snn_delays.data.checksums import FileList, content_digest
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.formats.words import list_words
from snn_delays.data.frame_cache import cache_folder, open_frames
from snn_delays.data.frame_file import Damaged, FrameFile, Recordings, write_frame_file
from snn_delays.data.loaders import Samples
from snn_delays.data.sources import WordSource
from snn_delays.errors import UserError
from tests.conftest import FSDD, needs_fsdd, open_spikes, random_spikes, write_spikes
from tests.data.test_frames import plain_frames
from tests.processes import CONTEXT, fork


def all_frames(store) -> list[np.ndarray]:
    return [np.array(store.frames(i)) for i in range(len(store))]


def same(left, right) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def made(config) -> list[Path]:
    return sorted(cache_folder(config.data).glob("*.frames"))


def test_cached_frames_equal_the_plain_computation(spike_files, small_config) -> None:
    config = small_config()
    for _ in range(2):  # made, then read
        store = open_spikes(spike_files["train"], config)
        dataset = SpikeFile(spike_files["train"])
        assert len(store) == len(dataset)
        for i in range(len(dataset)):
            spikes, label = dataset[i]
            expected = plain_frames(spikes["t"], spikes["x"], 10.0, 14, 50)
            np.testing.assert_array_equal(store.frames(i), expected)
            assert store.file.totals[i] == len(spikes)
            assert store.labels[i] == label
            assert store.steps[i] == len(expected)
            assert store.frames(i).dtype == np.uint8
    assert store.speakers.tolist() == dataset.speakers.tolist()
    assert store.classes == dataset.classes


@needs_fsdd
def test_no_spike_of_real_speech_is_lost_or_doubled(small_config) -> None:
    config = small_config()
    config.data.units_per_channel = 5
    store = open_spikes(FSDD / "fsdd_test.h5", config)
    dataset = SpikeFile(FSDD / "fsdd_test.h5")
    for i, (times, units) in enumerate(dataset.spikes()):
        assert store.frames(i).sum() == store.file.totals[i] == len(times)
        per_channel = np.bincount(units // 5, minlength=140)
        np.testing.assert_array_equal(store.frames(i).sum(0), per_channel)
        if i % 100 == 0:
            expected = plain_frames(times, units, 10.0, 140, 5)
            np.testing.assert_array_equal(store.frames(i), expected)


def test_frames_are_made_once_for_each_setting_and_content(spike_files, small_config) -> None:
    config = small_config()
    path = spike_files["train"]
    open_spikes(path, config)
    stamp = made(config)[0].stat().st_mtime_ns
    open_spikes(path, config)
    assert [p.stat().st_mtime_ns for p in made(config)] == [stamp]
    for key, value in (
        ("step_ms", 5.0),
        ("units_per_channel", 70),
        ("frame_arithmetic", "float16"),
    ):
        changed = small_config()
        setattr(changed.data, key, value)
        open_spikes(path, changed)
    changed = small_config(protocol="paper")  # float16 again: the same frames
    open_spikes(path, changed)
    assert len(made(config)) == 4
    random_spikes(path, 48, seed=9)
    open_spikes(path, config)
    assert len(made(config)) == 5
    assert {p.suffix for p in cache_folder(config.data).iterdir()} == {".frames"}


def test_a_bad_sample_leaves_no_cache(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0], [np.inf]], [[1], [1]], [0, 0])
    config = small_config()
    with pytest.raises(UserError, match="sample 1"):
        open_spikes(path, config)
    assert list(cache_folder(config.data).iterdir()) == []


def test_times_in_the_wrong_unit_are_named(tmp_path, small_config) -> None:
    path = write_spikes(
        tmp_path / "a.h5", [[0.0], [0.0, 2e6]], [[1], [1, 2]], [0, 0], times_dtype=np.float32
    )
    with pytest.raises(UserError, match=r"sample 1 lasts 2e\+06 s.*times must be in seconds"):
        open_spikes(path, small_config())


def test_a_likely_unit_is_asked_about(tmp_path, small_config) -> None:
    likely = {483: "ms", 480_000: "us", 5e8: "ns"}
    for longest, unit in likely.items():
        times = [[0.0], [0.0, longest]]
        path = write_spikes(tmp_path / f"{unit}.h5", times, [[1], [1, 2]], [0, 0], times_dtype="f8")
        config = small_config()
        with pytest.raises(UserError, match=f"Are they in {unit}. Then give data.time_unit={unit}"):
            open_spikes(path, config)
        config.data.time_unit = unit
        assert open_spikes(path, config).steps.max() == pytest.approx(49, abs=2)
    config.data.time_unit = "s"  # taken at one's word, up to what can be kept
    assert open_spikes(tmp_path / "ms.h5", config).steps.tolist() == [1, 48300]
    with pytest.raises(UserError, match="sample 1 lasts 480000 s, more than 100,000 steps"):
        open_spikes(tmp_path / "us.h5", config)


def test_integer_times_need_their_unit(tmp_path, small_config) -> None:
    seconds = write_spikes(tmp_path / "s.h5", [[0.0, 0.012, 0.25]], [[1, 2, 699]], [0])
    path = write_spikes(tmp_path / "a.h5", [[0, 12, 250]], [[1, 2, 699]], [0], times_dtype="i4")
    config = small_config()
    with pytest.raises(UserError, match=r"spikes/times are integers.*by data\.time_unit=ms"):
        open_spikes(path, config)
    expected = all_frames(open_spikes(seconds, config))
    config.data.time_unit = "ms"
    assert same(all_frames(open_spikes(path, config)), expected)


def test_frames_beyond_all_memory_are_refused(tmp_path, small_config) -> None:
    config = small_config()
    config.data.units, config.data.units_per_channel = 10**9, 1
    for last, steps in ((1.0, 100), (0.0, 1)):
        path = write_spikes(tmp_path / f"{steps}.h5", [[0.0, last]], [[1, 2]], [0])
        with pytest.raises(UserError, match=rf"has {steps} steps of 1,000,000,000 channels, more"):
            open_spikes(path, config)


def test_float16_arithmetic_refuses_what_it_cannot_hold(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0, 70.0]], [[1, 2]], [0])
    assert open_spikes(path, small_config()).steps.tolist() == [7000]
    with pytest.raises(UserError, match=r"sample 0 has times beyond 65.5 s"):
        open_spikes(path, small_config(protocol="paper"))


def test_a_damaged_cache_is_made_anew(spike_files, small_config) -> None:
    config = small_config()
    expected = all_frames(open_spikes(spike_files["train"], config))
    (cached,) = made(config)
    whole = cached.read_bytes()
    for length in (0, 10, 64, len(whole) // 2, len(whole) - 1):
        cached.write_bytes(whole[:length])
        assert same(all_frames(open_spikes(spike_files["train"], config)), expected)
        assert cached.read_bytes() == whole


def test_every_flipped_byte_is_noticed(spike_files, small_config) -> None:
    config = small_config()
    expected = all_frames(open_spikes(spike_files["train"], config))
    (cached,) = made(config)
    whole = cached.read_bytes()
    for place in (0, 25, 64, 1000, len(whole) // 2, len(whole) - 30):
        cached.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        store = open_spikes(spike_files["train"], config)
        assert same(all_frames(store), expected), place
        assert cached.read_bytes() == whole, place


def test_damage_while_in_use_is_mended(spike_files, small_config) -> None:
    config = small_config()
    store = open_spikes(spike_files["train"], config)
    expected = all_frames(open_spikes(spike_files["train"], config))
    (cached,) = made(config)
    with open(cached, "r+b") as file:  # the mapped file itself
        file.seek(70)
        file.write(b"\xff")
    assert same(all_frames(store), expected)


def test_an_unwritable_cache_is_named(spike_files, small_config, tmp_path) -> None:
    config = small_config()
    (tmp_path / "file").write_text("", encoding="utf-8")
    config.data.cache = str(tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"cannot be written.*set data.cache"):
        open_spikes(spike_files["train"], config)


def test_many_spikes_in_a_frame_are_all_counted(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0] * 300, [0.0]], [[1] * 300, [1]], [0, 0])
    store = open_spikes(path, small_config())
    assert [store.frames(i)[0, 0] for i in (0, 1)] == [300, 1]
    assert [store.frames(i).dtype for i in (0, 1)] == [np.uint16, np.uint8]
    assert Samples.of(store).frames(0).sum() == 300


@pytest.mark.parametrize("letter", ["a", "\u00e4", "\U0001f600"])
def test_long_names_of_files_are_cut_in_the_cache(letter, tmp_path, small_config) -> None:
    name = letter * (250 // len(letter.encode())) + ".h5"
    path = random_spikes(tmp_path / name, 20, 0)
    assert len(open_spikes(path, small_config())) == 20
    assert not list(cache_folder(small_config().data).glob(".*"))


def test_channels_with_a_spike_are_noted(tmp_path, small_config) -> None:
    path = write_spikes(tmp_path / "a.h5", [[0.0, 0.1], [0.0]], [[0, 120], [399]], [0, 0])
    used = open_spikes(path, small_config()).file.used
    assert np.flatnonzero(used).tolist() == [0, 2, 7]
    assert used.shape == (14,)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.pop("steps"),
        lambda index: index.update(steps=index["steps"] * 100),
        lambda index: index.update(offset=index["offset"] + 1),
        lambda index: index.update(offset=index["offset"] * 1000),
        lambda index: index.update(labels=index["labels"] + 3),
        lambda index: index.update(labels=index["labels"][:5]),
        lambda index: index.update(kind=index["kind"] + 200),
        lambda index: index.update(classes=np.array([{}], object)),
        lambda index: index.clear(),
    ],
)
def test_an_index_that_something_else_wrote_is_damaged(change, spike_files, small_config) -> None:
    config = small_config()
    expected = all_frames(open_spikes(spike_files["train"], config))
    (cached,) = made(config)
    whole = cached.read_bytes()
    _, start, length, _ = frame_file.HEAD.unpack(whole[: frame_file.HEAD.size])
    with np.load(io.BytesIO(whole[start : start + length])) as read:
        index = dict(read)
    change(index)
    buffer = io.BytesIO()
    np.savez(buffer, **index)
    data = buffer.getvalue()
    head = frame_file.HEAD.pack(frame_file.MAGIC, start, len(data), zlib.crc32(data))
    cached.write_bytes(head + whole[len(head) : start] + data)
    opened = open_spikes(spike_files["train"], config)
    assert opened.status == "damaged (its index is damaged), made anew"
    assert same(all_frames(opened), expected)


def test_a_source_that_vanishes_while_it_is_read_is_named(tmp_path) -> None:
    words = tmp_path / "words"
    (words / "yes").mkdir(parents=True)
    for name in ("a", "b"):
        wavfile.write(words / "yes" / f"{name}.wav", 16000, np.ones(1600, np.int16))

    @dataclass(frozen=True)
    class Vanishing(WordSource):
        def again(self):
            (words / "yes" / "b.wav").unlink()
            return super().again()

    source = Vanishing(list_words(words), "train", DataConfig(name="audio_folder"))
    with pytest.raises(UserError, match=r"b\.wav cannot be read \(No such file or directory\)"):
        open_frames(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.frames"))


def test_a_word_that_would_mislead_makes_no_frames(tmp_path) -> None:
    word = tmp_path / "words" / "yes\x1b[31m"
    word.mkdir(parents=True)
    wavfile.write(word / "a.wav", 16000, np.ones(1600, np.int16))
    data = DataConfig(name="audio_folder")
    with pytest.raises(UserError) as refused:
        open_frames(WordSource(list_words(tmp_path / "words"), "train", data), tmp_path / "cache")
    assert str(refused.value).isprintable()
    assert not list((tmp_path / "cache").glob("*.frames"))


def test_names_of_classes_are_kept_in_their_composed_form(tmp_path) -> None:
    (tmp_path / "words" / "yes").mkdir(parents=True)
    wavfile.write(tmp_path / "words" / "yes" / "a.wav", 16000, np.ones(1600, np.int16))
    words = replace(list_words(tmp_path / "words"), classes=["yes", "no\u0308"])
    source = WordSource(words, "train", DataConfig(name="audio_folder"))
    assert open_frames(source, tmp_path / "cache").classes == ["yes", "n\u00f6"]


def _open_in_child(path, config, results) -> None:
    results.put([f.tobytes() for f in all_frames(open_spikes(path, config))])


def test_two_processes_may_prepare_at_once(spike_files, small_config) -> None:
    config = small_config()
    results = CONTEXT.Queue()
    arguments = (spike_files["train"], config, results)
    workers = [fork(_open_in_child, *arguments) for _ in range(2)]
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    expected = [f.tobytes() for f in all_frames(open_spikes(spike_files["train"], config))]
    assert all(answer == expected for answer in answers)
    assert len(made(config)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32])
def test_every_type_of_value_comes_back(dtype, tmp_path) -> None:
    rng = np.random.default_rng(0)
    high = 255 if dtype == np.float32 else np.iinfo(dtype).max
    given = [(rng.random((n, 3)) * high).astype(dtype) for n in (1, 7, 2)]
    write_frame_file(tmp_path / "a", Recordings(given, np.arange(3), None, ["x", "y", "z"]))
    file = FrameFile(tmp_path / "a")
    for i, frames in enumerate(given):
        np.testing.assert_array_equal(file.frames(i), frames)
    assert file.speakers is None
    assert file.classes == ["x", "y", "z"]
    assert file.totals.tolist() == pytest.approx([f.sum(dtype=np.float64) for f in given])
    with pytest.raises(ValueError, match="read-only"):
        file.frames(0)[:] = 0


def test_an_older_format_is_damaged(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"\x93NUMPY" + bytes(200))
    with pytest.raises(Damaged, match="this version"):
        FrameFile(tmp_path / "a")


# ---- digests -----------------------------------------------------------------------------------


def age(path: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_digests_are_noted_and_taken_anew_when_a_file_changes(tmp_path, monkeypatch) -> None:
    path, memo, taken = tmp_path / "a", tmp_path / "memo", []
    monkeypatch.setattr(
        checksums, "_digest", lambda *a, real=checksums._digest: (taken.append(a[0]), real(*a))[1]
    )
    path.write_text("one", encoding="utf-8")
    first = content_digest(path, memo)
    assert content_digest(path, memo) == first
    assert len(taken) == 2  # too new to be trusted to show another change
    age(path)
    assert [content_digest(path, memo) for _ in range(3)] == [first] * 3
    assert len(taken) == 3
    assert content_digest(path, memo, fresh=True) == first
    assert content_digest(path, memo, algorithms=("md5",)) != first
    assert len(taken) == 5
    path.write_text("two", encoding="utf-8")
    age(path, 50)
    assert content_digest(path, memo) != first
    with pytest.raises(UserError, match="none cannot be read"):
        content_digest(tmp_path / "none", memo)


def test_a_folders_digest_covers_names_and_content(tmp_path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    memo = tmp_path / "memo"

    def digest(*names: str) -> str:
        stamps = [checksums.stamp(os.stat(tmp_path / name)) for name in names]
        return content_digest(tmp_path, memo, files=FileList(names, str(stamps), time.time()))

    whole = digest("a", "b")
    assert digest("a", "c") != whole
    (tmp_path / "b").write_text("B", encoding="utf-8")
    assert digest("a", "b") != whole
    (tmp_path / "b").write_text("b", encoding="utf-8")
    assert digest("a", "b") == whole


def test_a_note_that_is_no_digest_is_not_believed(tmp_path) -> None:
    path, memo = tmp_path / "a", tmp_path / "memo"
    path.write_text("one", encoding="utf-8")
    age(path)
    digest = content_digest(path, memo)
    (note,) = (memo / "digests").iterdir()
    written = note.read_text("utf-8")
    other = written.translate(str.maketrans("0123", "1032"))
    for content in (b"", b"\xff\xfe", b"0" * 63, digest[:-1].encode() + b"x", other.encode()):
        note.write_bytes(content)
        assert content_digest(path, memo) == digest
        assert note.read_text("utf-8") == written
    assert written.startswith(f"{digest} ")


def test_two_digests_are_taken_in_one_reading(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(3_000_000))
    age(path)
    md5 = content_digest(path, tmp_path / "memo", algorithms=("md5", "sha256"))
    assert md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert len(list((tmp_path / "memo" / "digests").iterdir())) == 2
    sha256 = content_digest(path, tmp_path / "memo")
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_frames_of_another_content_never_bear_its_key(spike_files, small_config, tmp_path) -> None:
    config, path = small_config(), spike_files["train"]
    first = path.read_bytes()
    store = open_spikes(path, config)
    expected = all_frames(open_spikes(path, config))
    random_spikes(path, 48, 9)
    (cached,) = made(config)
    whole = cached.read_bytes()
    cached.write_bytes(whole[:70] + b"\xff" + whole[71:])
    with pytest.raises(UserError, match="changed while it was read"):
        open_spikes(tmp_path / "train.h5", config) and all_frames(store)
    path.write_bytes(first)
    assert same(all_frames(open_spikes(path, config)), expected)
    assert not list(cache_folder(config.data).glob(".*"))


def test_what_killed_processes_left_is_removed_in_time(spike_files, small_config) -> None:
    config = small_config()
    open_spikes(spike_files["train"], config)
    (cached,) = made(config)
    old, new = (cached.with_name(f".{cached.name}-{n}.part") for n in ("old", "new"))
    for part in (old, new):
        part.write_text("half", encoding="utf-8")
    age(old, 2 * 24 * 3600)
    cached.unlink()
    open_spikes(spike_files["train"], config)
    assert not old.exists()
    assert new.exists()


def test_caches_may_be_shared(spike_files, small_config) -> None:
    config = small_config()
    before = os.umask(0o022)
    try:
        open_spikes(spike_files["train"], config)
    finally:
        os.umask(before)
    assert made(config)[0].stat().st_mode & 0o777 == 0o644


def test_a_warm_start_reads_neither_source_nor_frames(
    spike_files, small_config, monkeypatch
) -> None:
    config = small_config()
    age(spike_files["train"])
    open_spikes(spike_files["train"], config)
    for module, name in ((checksums, "_digest"), (frame_cache, "_make")):
        monkeypatch.setattr(module, name, lambda *a, name=name: pytest.fail(name))
    assert len(open_spikes(spike_files["train"], config)) == 48
