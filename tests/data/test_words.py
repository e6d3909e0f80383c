"""Spoken words in folders: Speech Commands with its lists, and words of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import tonic
import torch

from snn_delays.config import Config
from snn_delays.data.audio import read_waveform
from snn_delays.data.dataset import load_data
from snn_delays.data.datasets import find_sources
from snn_delays.data.datasets import gsc as speech_commands
from snn_delays.data.datasets.gsc import GSC_SPEAKER
from snn_delays.data.formats import speakers
from snn_delays.data.formats.word_recordings import Words
from snn_delays.data.formats.words import list_words
from snn_delays.data.loaders import Loader
from snn_delays.data.speech import fit_length, log_mel
from snn_delays.errors import UserError
from snn_delays.training.loop import build_loader
from tests.cli.test_cli import run

soundfile = pytest.importorskip("soundfile")

SPEAKERS = ("0a1b", "77ff", "c3d4", "e5f6")


def write_words(folder: Path, words=("no", "yes", "go"), speakers=SPEAKERS, takes=2) -> Path:
    """A tree as Speech Commands has it: a tone a word, a little off for every speaker."""
    rng = np.random.default_rng(0)
    for k, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for s, speaker in enumerate(speakers):
            for take in range(takes):
                t = np.arange(16000 - 1000 * take) / 16000
                wave = 0.3 * np.sin(2 * np.pi * (300 * (k + 1) + 10 * s) * t)
                wave += 0.01 * rng.standard_normal(len(t))
                path = folder / word / f"{speaker}_nohash_{take}.wav"
                soundfile.write(path, wave, 16000, subtype="PCM_16")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The above, with Speech Commands' lists and the folders that are no words."""
    folder = write_words(tmp_path / "words")
    for other in ("_background_noise_", "_silence_", "_unknown_", "empty"):
        (folder / other).mkdir()
    soundfile.write(folder / "_background_noise_" / "hum.wav", np.zeros(50000), 16000)
    (folder / "README.md").write_text("what this is", encoding="utf-8")
    for name, speaker in (("testing_list.txt", "c3d4"), ("validation_list.txt", "e5f6")):
        lines = [f"{w}/{speaker}_nohash_{t}.wav" for w in ("no", "yes", "go") for t in (0, 1)]
        (folder / name).write_text(
            "\n".join([*lines, "", "_silence_/x.wav"]) + "\n", encoding="utf-8"
        )
    return folder


@pytest.fixture
def words_config(tmp_path: Path, tree: Path) -> Callable[..., Config]:
    def make(**data) -> Config:
        config = Config(device="cpu")
        config.data.name, config.data.folder = "audio_folder", str(tree)
        config.data.cache = str(tmp_path / "cache")
        config.data.speaker_pattern = GSC_SPEAKER
        for key, value in data.items():
            setattr(config.data, key, value)
        return config

    return make


def gsc(config: Config, monkeypatch) -> Config:
    config.data.name, config.data.speaker_pattern = "gsc", None
    monkeypatch.setattr(speech_commands, "GSC_RECORDINGS", {"train": 12, "valid": 6, "test": 6})
    return config


def test_words_are_a_tonic_dataset(tree) -> None:
    words = list_words(tree, GSC_SPEAKER)
    dataset = Words(words, transform=len, target_transform=lambda y: -y)
    assert isinstance(dataset, tonic.Dataset)
    assert len(dataset) == 24
    assert dataset.classes == ["go", "no", "yes"]
    assert [dataset[i] for i in (0, 9)] == [(16000, 0), (15000, -1)]
    assert words.files[9] == "no/0a1b_nohash_1.wav"
    assert set(words.speakers) == set(SPEAKERS)


def test_speech_commands_by_its_own_lists(words_config, monkeypatch) -> None:
    config = gsc(words_config(), monkeypatch)
    data = load_data(config)
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 6)
    assert set(data.train.speakers) == {"0a1b", "77ff"}
    assert set(data.valid.speakers) == {"e5f6"}
    assert set(data.test.speakers) == {"c3d4"}
    assert data.split == "official validation split words"
    assert data.classes == ["go", "no", "yes"]
    for split, store in data.stores.items():
        source = find_sources(config)[split]
        for i, name in enumerate(source.words.files):
            wave = fit_length(read_waveform(source.path / name), 16000)
            expected = log_mel(torch.from_numpy(wave)[None].float() / 32768)[0].numpy()
            np.testing.assert_allclose(store.frames(i), expected, atol=1e-3)
            assert store.frames(i).shape == (101, 140)
            assert data.classes[store.labels[i]] == name.partition("/")[0]


def test_a_tree_that_is_not_whole_is_refused(words_config, tree, monkeypatch) -> None:
    config = gsc(words_config(), monkeypatch)
    (tree / "no" / "0a1b_nohash_0.wav").unlink()
    with pytest.raises(UserError, match="11 recordings for split train, Speech"):
        load_data(config)
    (tree / "no" / "c3d4_nohash_0.wav").unlink()
    with pytest.raises(UserError, match=r"testing_list.txt names no/c3d4_nohash_0.wav, which is"):
        load_data(config)


def test_own_words_by_lists(words_config, tree, tmp_path) -> None:
    data = load_data(words_config())  # the lists in the folder
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 6)
    mine = tmp_path / "mine.txt"
    mine.write_text("no/77ff_nohash_0.wav\nyes/77ff_nohash_0.wav\n", encoding="utf-8")
    data = load_data(words_config(test_list=str(mine)))
    assert (len(data.train), len(data.valid), len(data.test)) == (16, 6, 2)
    for void in ({"split": "fold"}, {"valid_speakers": ["0a1b"]}, {"test_speakers": ["0a1b"]}):
        with pytest.raises(UserError, match="has no use beside the list"):
            load_data(words_config(**void))
    mine.write_text("no/e5f6_nohash_0.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match="name the same recordings"):
        load_data(words_config(test_list=str(mine)))
    with pytest.raises(UserError, match=r"The list .*none.txt cannot be read"):
        load_data(words_config(test_list=str(tmp_path / "none.txt")))


@pytest.fixture
def listless(tree) -> None:
    for name in ("testing_list.txt", "validation_list.txt"):
        (tree / name).unlink()


def test_own_words_by_speakers(words_config, listless) -> None:
    data = load_data(words_config(test_speakers=["77ff"], valid_speakers=["0a1b"]))
    assert set(data.test.speakers) == {"77ff"}
    assert set(data.valid.speakers) == {"0a1b"}
    assert set(data.train.speakers) == {"c3d4", "e5f6"}
    data = load_data(words_config(test_fold=2))
    assert set(data.test.speakers) == {"c3d4"}
    assert data.split.endswith("test: held-out speakers c3d4, fold 3 of 4")
    data = load_data(words_config())  # a share of them, drawn
    groups = [set(s.speakers) for s in (data.train, data.valid, data.test)]
    assert [len(g) for g in groups] == [2, 1, 1]
    assert set.union(*groups) == set(SPEAKERS)
    with pytest.raises(UserError, match=r"data.test_speakers=\[anna\] must name speakers of"):
        load_data(words_config(test_speakers=["anna"]))


def test_of_many_speakers_a_message_names_a_dozen(words_config, listless, tree) -> None:
    for number in range(20):
        copy(tree / "yes" / "0a1b_nohash_0.wav", tree / "yes" / f"{number}_nohash_0.wav")
    with pytest.raises(UserError, match=r"which has \[0, 1, 2, .*, 10, 11, \.\.\.\]\."):
        load_data(words_config(test_speakers=["anna"]))


def test_own_words_by_chance(words_config, listless) -> None:
    data = load_data(words_config(speaker_pattern=None, test_share=0.25, valid_share=0.34))
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 6)
    for samples in (data.train, data.valid, data.test):
        assert len(set(np.bincount(samples.labels))) == 1
        assert samples.speakers is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "cannot be read"),
        ("nohash", "must have one group"),
        ("([0-9]x)", "finds no speaker in go/0a1b_nohash_0.wav"),
    ],
)
def test_patterns_that_find_no_speaker_are_refused(pattern, words, tree) -> None:
    with pytest.raises(UserError, match=words):
        list_words(tree, pattern)


@pytest.mark.parametrize("pattern", ["(a{99999999999})", "(?:" * 2000 + "(a)" + ")" * 2000])
def test_patterns_beyond_what_python_compiles_are_refused(pattern, tree) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        list_words(tree, pattern)


@pytest.mark.parametrize("pattern", ["/((?:a+)+)-", "/(.*.*.*.*.*.*-)"])
def test_patterns_that_take_for_ever_are_refused(pattern, tree, monkeypatch) -> None:
    monkeypatch.setattr(speakers, "PATIENCE", 1)
    copy(tree / "yes" / "0a1b_nohash_0.wav", tree / "yes" / f"{'a' * 200}.wav")
    with pytest.raises(UserError, match="takes longer than 1 s for 25 names"):
        list_words(tree, pattern)


def test_folders_without_words_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        list_words(tmp_path / "none")
    (tmp_path / "yes").mkdir()
    with pytest.raises(UserError, match=r"holds no recording; they belong into .*<word>/\*\.wav"):
        list_words(tmp_path)


def test_files_that_are_no_audio_are_named(words_config, tree) -> None:
    assert load_data(words_config()).remarks == []
    (tree / "yes" / "notes.txt").write_text("loud", encoding="utf-8")
    (tree / "go" / "a\nb").touch()
    (tree / "go" / ".hidden").touch()
    said = f"{tree}: 2 files left out as no audio: 'go/a\\nb', yes/notes.txt."
    assert load_data(words_config()).remarks == [said]


def test_a_channel_of_recordings_with_two(words_config, tree) -> None:
    path = tree / "yes" / "0a1b_nohash_1.wav"
    wave, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, np.stack([wave, wave[::-1]], axis=1), rate)
    with pytest.raises(UserError, match=r"has 2 channels: choose one by data\.channel=left"):
        load_data(words_config())
    frames = []
    for channel in ("left", "0", "right"):
        data = load_data(words_config(channel=channel))
        number = find_sources(words_config())["train"].words.files.index("yes/0a1b_nohash_1.wav")
        frames.append(data.stores["train"].frames(number))
    np.testing.assert_array_equal(frames[0], frames[1])
    assert abs(frames[0] - frames[2]).max() > 1  # dB


def test_a_bad_recording_leaves_no_cache(words_config, tree, tmp_path) -> None:
    (tree / "yes" / "0a1b_nohash_1.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"0a1b_nohash_1.wav"):
        load_data(words_config())
    assert not list((tmp_path / "cache").glob("*train*"))
    assert not list((tmp_path / "cache").rglob(".*"))


def test_changed_recordings_make_other_frames(words_config, tree) -> None:
    first = load_data(words_config()).stores["train"]
    path = tree / "go" / "0a1b_nohash_0.wav"
    wave, rate = soundfile.read(path, dtype="int16")
    wave[100] += 1
    soundfile.write(path, wave, rate)
    second = load_data(words_config()).stores["train"]
    assert first.digest != second.digest
    assert first.file.path != second.file.path


def loader_of(config: Config, samples, training=True) -> Loader:
    config.train.batch_size = 5
    return build_loader(config, samples, samples.longest, torch.device("cpu"), training)


def test_waveforms_are_augmented_in_training_alone(words_config) -> None:
    config = words_config()
    data = load_data(config)
    plain = list(loader_of(config, data.everything).epoch(1))
    config.data.augment.roll_ms = 100.0
    config.data.augment.speed = 0.1
    changed = list(loader_of(config, data.everything).epoch(1))
    again = list(loader_of(config, data.everything).epoch(1))
    for a, b, c in zip(plain, changed, again, strict=True):
        assert a.indices.tolist() == b.indices.tolist()
        assert a.x.shape == b.x.shape
        assert not torch.allclose(a.x, b.x, atol=1.0)
        assert torch.equal(b.x, c.x)
    for batch in loader_of(config, data.valid, training=False).epoch():
        for b, number in enumerate(batch.indices):
            np.testing.assert_array_equal(batch.x[:, b].numpy(), data.valid.frames(number))


def test_waveforms_unchanged_give_the_cached_frames(words_config) -> None:
    config = words_config()
    data = load_data(config)
    for number in (0, 3):
        wave = torch.from_numpy(np.array(data.train.waveform(number)))[None].float() / 32768
        frames = log_mel(wave)[0].numpy()
        np.testing.assert_allclose(frames, data.train.frames(number), atol=1e-3)


def test_train_and_evaluate_on_own_words(tree, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, error = run(
        capsys, monkeypatch, "train", "data=audio_folder", "data.folder=words", "data.cache=cache",
        f"data.speaker_pattern={GSC_SPEAKER!r}", "model.hidden=[8]", "model.taps=3", "device=cpu",
        "train.epochs=2", "data.augment.roll_ms=20", "data.augment.cutmix=0.5", "out=run",
    )  # fmt: skip
    assert code == 0, error
    assert "validation file words" in printed
    for more in ("split=valid", "file=words"):
        code, printed, error = run(capsys, monkeypatch, "evaluate", "run=run", more)
        assert code == 0, error
        assert ("n = 6 " if more == "split=valid" else "n = 24") in printed


def test_the_recipe_holds_out_speakers_of_few_recordings(
    tree, listless, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, error = run(
        capsys, monkeypatch, "train", "experiment=own/words", "data.cache=cache", "device=cpu",
        f"data.speaker_pattern={GSC_SPEAKER!r}", "model.hidden=[8]", "train.epochs=1", "out=run",
    )  # fmt: skip
    assert code == 0, error
    assert "12 training, 6 validation (held-out speakers " in printed
    assert "and 6 test samples; protocol refit" in printed


def train_small(tmp_path, capsys, monkeypatch) -> None:
    """Train an epoch on the words in the working folder, into ``run``."""
    monkeypatch.chdir(tmp_path)
    code, _, error = run(
        capsys, monkeypatch, "train", "data=audio_folder", "data.folder=words", "data.cache=cache",
        "model.hidden=[8]", "model.taps=3", "device=cpu", "train.epochs=1", "out=run",
    )  # fmt: skip
    assert code == 0, error


def test_recordings_added_later_are_never_tested_on(
    tree, listless, tmp_path, capsys, monkeypatch
) -> None:
    train_small(tmp_path, capsys, monkeypatch)
    assert run(capsys, monkeypatch, "evaluate", "run=run")[0] == 0
    (tree / "yes" / "new.wav").write_bytes((tree / "yes" / "77ff_nohash_0.wav").read_bytes())
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=run")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "has changed since the run" in error


def test_other_recordings_are_matched_by_word(
    tree, listless, tmp_path, capsys, monkeypatch
) -> None:
    train_small(tmp_path, capsys, monkeypatch)
    write_words(tmp_path / "some", words=("yes",))
    code, printed, error = run(capsys, monkeypatch, "evaluate", "run=run", "file=some")
    assert code == 0, error
    assert "yes   " in printed
    assert "no   " not in printed
    write_words(tmp_path / "more", words=("maybe",))
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=run", "file=more")
    assert code == 2
    assert "has the word maybe, which the network does not know" in error


def test_waveforms_are_prepared_with_the_frames(tree, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["data=audio_folder", "data.folder=words", "data.cache=cache"]
    code, printed, error = run(
        capsys, monkeypatch, "data", "prepare", *options, "data.augment.speed=0.1"
    )
    assert code == 0, error
    names = [p.name.rpartition("-")[0] for p in sorted(Path("cache").glob("*.frames"))]
    assert names == [
        "words-test", "words-train", "words-train-waveforms", "words-valid",
        "words-valid-waveforms",
    ]  # fmt: skip
    assert "train waveforms" in printed


# ---- recordings that cannot be read, or lie where none belong -----------------------------------


@pytest.mark.parametrize(
    "name", [b"yes/\xff.wav", b"\xff/a.wav", b"yes/a\n.wav", b"y\x1b[31m/a.wav"]
)
def test_names_that_are_no_text_are_refused(name, tree) -> None:
    bad = bytes(tree) + b"/" + name
    os.makedirs(os.path.dirname(bad), exist_ok=True)
    with open(bad, "wb") as file:
        file.write(b"RIFF")
    with pytest.raises(UserError, match="whose name is not UTF-8") as refused:
        list_words(tree)
    assert str(refused.value).isascii()


def large(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 32)


REFUSED = {
    "dangling link": ("yes/x.wav", lambda p: p.symlink_to("/none"), "a link that leads nowhere"),
    "circular link": ("yes/x.wav", lambda p: p.symlink_to(p.name), "a link that leads nowhere"),
    "word that dangles": ("maybe", lambda p: p.symlink_to("/none"), "a link that leads nowhere"),
    "word in a circle": ("maybe", lambda p: p.symlink_to(p.name), "a link that leads nowhere"),
    "tree within itself": ("maybe", lambda p: p.symlink_to("."), "lies too deep"),
    "pipe": ("yes/x.wav", os.mkfifo, "is a folder, a pipe or a device"),
    "device": ("yes/x.wav", lambda p: p.symlink_to("/dev/zero"), "is a folder, a pipe or a device"),
    "folder": ("yes/x.wav", Path.mkdir, "is a folder, a pipe or a device"),
    "gigabytes": ("yes/x.wav", large, "has 4,294,967,296 bytes, more than 60 s of sound fill"),
    "other kind": ("yes/x.m4a", Path.touch, r"none of the kinds that are read \(.wav, .flac,"),
    "speakers' folder": ("yes/anna/deeper/x.wav", Path.touch, r"deeper/x.wav lies too deep: rec"),
    "no word": ("x.wav", Path.touch, r"x.wav lies beside the words: recordings belong into"),
    "same name": ("yes/0a1b_nohash_0.flac", Path.touch, "which are one name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_recording_is_left_out_in_silence(name, tree) -> None:
    place, make, message = REFUSED[name]
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    make(tree / place)
    with pytest.raises(UserError, match=message):
        list_words(tree)


def test_folders_that_cannot_be_read_are_refused(tree, monkeypatch) -> None:
    def scandir(path):
        if Path(path).name == "yes":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"yes cannot be read \(Permission denied\): mend"):
        list_words(tree)


def test_files_that_are_no_recordings_are_passed_over(tree) -> None:
    before = list_words(tree).files
    for name in ("._0a1b_nohash_0.wav", ".hidden.flac", "notes.txt", "labels.TextGrid"):
        (tree / "yes" / name).write_bytes(b"\0\5\x16\7")
    (tree / "yes" / "notes").mkdir()
    (tree / "yes" / "notes" / "a.txt").touch()
    assert list_words(tree).files == before


def test_recordings_are_in_order_of_their_whole_names(tree) -> None:
    for name in ("a.wav", "a-1.wav", "B.WAV", "a 2.wav"):
        copy(tree / "yes" / "0a1b_nohash_0.wav", tree / "yes" / name)
    found = [f for f in list_words(tree).files if "nohash" not in f]
    assert found == ["yes/B.WAV", "yes/a 2.wav", "yes/a-1.wav", "yes/a.wav"]


def test_a_recording_that_vanishes_is_named(tree) -> None:
    words = list_words(tree)
    (tree / "yes" / "0a1b_nohash_0.wav").unlink()
    with pytest.raises(UserError, match=r"yes/0a1b_nohash_0.wav cannot be read \(No such file"):
        words.again()


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg"])
def test_other_kinds_of_files_are_words_too(kind, words_config, tree) -> None:
    for path in tree.glob("*/0a1b_nohash_*.wav"):
        wave, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(f".{kind}"), wave, rate)
        path.unlink()
    data = load_data(words_config())
    assert (len(data.train), len(data.valid), len(data.test)) == (12, 6, 6)
    assert set(data.train.speakers) == {"0a1b", "77ff"}
    number = data.train.speakers.tolist().index("0a1b")
    assert data.train.frames(number).max() > -20  # dB


# ---- names and lists ----------------------------------------------------------------------------

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_names_are_one_in_every_form_of_unicode(words_config, tree, listless) -> None:
    (tree / "yes").rename(tree / DECOMPOSED)
    for take in (0, 1):
        (tree / "no" / f"c3d4_nohash_{take}.wav").rename(
            tree / "no" / f"{COMPOSED}_nohash_{take}.wav"
        )
        path = tree / DECOMPOSED / f"c3d4_nohash_{take}.wav"
        path.rename(tree / DECOMPOSED / f"{DECOMPOSED}_nohash_{take}.wav")
    words = list_words(tree, GSC_SPEAKER)
    assert words.classes == [COMPOSED, "go", "no"]
    assert set(words.speakers) == {COMPOSED, "0a1b", "77ff", "c3d4", "e5f6"}
    assert np.bincount(words.labels).tolist() == [8, 8, 8]
    mine = tree / "mine.txt"
    mine.write_text(
        f"{COMPOSED}/{DECOMPOSED}_nohash_0.wav\nno/{DECOMPOSED}_nohash_1.wav\n", "utf-8"
    )
    data = load_data(words_config(test_list=str(mine)))
    assert sorted(data.classes[k] for k in data.test.labels) == [COMPOSED, "no"]
    copy(tree / "no" / "0a1b_nohash_0.wav", tree / "go" / f"{COMPOSED}.wav")
    copy(tree / "no" / "0a1b_nohash_0.wav", tree / "go" / f"{DECOMPOSED}.wav")
    with pytest.raises(UserError, match="which are one name: rename or remove one"):
        list_words(tree)
    (tree / COMPOSED).mkdir()
    with pytest.raises(UserError, match="which are one name: rename or remove one"):
        list_words(tree)


def test_lists_as_other_systems_write_them(words_config, tree) -> None:
    text = b"\xef\xbb\xbfno/77ff_nohash_0.wav\r\nyes/77ff_nohash_0.wav\r\nno/77ff_nohash_0.wav\r\n"
    (tree / "testing_list.txt").write_bytes(text)
    assert len(load_data(words_config()).test) == 2


@pytest.mark.parametrize(
    "line", ["{0}/no/77ff_nohash_0.wav", "../words/no/77ff_nohash_0.wav", "no\\x"]
)
def test_lists_of_other_paths_are_refused(line, words_config, tree) -> None:
    (tree / "testing_list.txt").write_text(line.format(tree), "utf-8")
    with pytest.raises(UserError, match=r"; a line must be <word>/<name>\.wav"):
        load_data(words_config())


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/none")])
def test_lists_that_are_no_files_are_refused(make, words_config, tree) -> None:
    (tree / "testing_list.txt").unlink()
    make(tree / "testing_list.txt")
    with pytest.raises(UserError, match=r"testing_list.txt (cannot be read|is a link that leads)"):
        load_data(words_config())


def test_a_list_that_is_no_text_is_refused(words_config, tmp_path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read \\(it is not text\\)"):
        load_data(words_config(test_list=str(tmp_path / "list")))
