"""A folder of words to a file of SHD's format."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from snn_delays.data import encode
from snn_delays.data.cochlea import STEP_RATE
from snn_delays.data.encode import encode_words
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.data.formats.words import list_words
from snn_delays.errors import UserError
from tests.cli.test_cli import run
from tests.conftest import FSDD, needs_fsdd

soundfile = pytest.importorskip("soundfile")

RATE = 8000
LISTS = Path(__file__).parents[2] / "datasets" / "fsdd"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


@pytest.fixture
def words(tmp_path):
    """Two words, two speakers."""
    folder = tmp_path / "words"
    for k, word in enumerate(("high", "low")):
        (folder / word).mkdir(parents=True)
        for speaker in ("10", "2"):
            t = np.arange(RATE // 5) / RATE
            wave = np.sin(2 * np.pi * (1600 / (1 + 7 * k) + int(speaker)) * t)
            soundfile.write(folder / word / f"{speaker}-a.wav", wave, RATE)
    return folder


PATTERN = "/(.*)-"


def test_the_file_is_read_like_any_other(words, tmp_path) -> None:
    seconds = encode_words(list_words(words, PATTERN), tmp_path / "a.h5", channels=80)
    assert seconds == pytest.approx(0.8)
    dataset = SpikeFile(tmp_path / "a.h5", units=80)
    assert dataset.classes == ["high", "low"]
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.speakers.tolist() == ["10", "2", "10", "2"]
    assert dataset.speaker.tolist() == [1, 0, 1, 0]  # in order of name: 2, 10
    units = [np.median(units) for _, units in dataset.spikes()]
    assert max(units[:2]) < min(units[2:])  # high tones excite low units
    for times, _ in dataset.spikes():
        assert 0 <= times.min() <= times.max() < 0.25
        assert (np.diff(times) >= 0).all()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["spikes/times"][0].dtype == np.float16


def test_a_recording_is_encoded_alike_whatever_is_beside_it(words, tmp_path) -> None:
    whole = list_words(words, PATTERN)
    encode_words(whole, tmp_path / "a.h5", channels=40)
    encode_words(whole.where(np.array([False, False, True, False])), tmp_path / "b.h5", channels=40)
    encode_words(whole, tmp_path / "c.h5", channels=40, seed=1)
    a, b, c = (list(SpikeFile(tmp_path / f"{n}.h5", units=40).spikes()) for n in "abc")
    for i in (0, 1):
        np.testing.assert_array_equal(a[2][i], b[0][i])
    assert len(a[2][0]) != len(c[2][0]) or (a[2][0] != c[2][0]).any()
    assert SpikeFile(tmp_path / "b.h5", units=40).classes == ["high", "low"]


def test_processes_change_nothing(words, tmp_path, monkeypatch) -> None:
    encode_words(list_words(words, PATTERN), tmp_path / "a.h5", channels=40)
    used = []
    parallel = encode.joblib.Parallel
    monkeypatch.setattr(encode, "ALONE_S", 0)
    monkeypatch.setattr(encode.joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(
        encode.joblib, "Parallel", lambda n, **kw: used.append(n) or parallel(n, **kw)
    )
    encode_words(list_words(words, PATTERN), tmp_path / "b.h5", channels=40)
    assert used == [2]
    a, b = (list(SpikeFile(tmp_path / f"{n}.h5", units=40).spikes()) for n in "ab")
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    soundfile.write(words / "low" / "3-a.wav", np.zeros(1000), RATE)
    monkeypatch.setattr(encode, "check_audio", lambda *audio: None)
    with pytest.raises(UserError, match="The audio is silent"):  # found by another process
        encode_words(list_words(words, PATTERN), tmp_path / "c.h5", channels=40)
    assert not (tmp_path / "c.h5").exists()


def test_a_channel_of_recordings_with_two(words, tmp_path, capsys, monkeypatch) -> None:
    path = words / "low" / "2-a.wav"
    wave, rate = soundfile.read(path)
    soundfile.write(path, np.stack([0 * wave, wave], axis=1), rate)
    (words / "low" / "notes.txt").touch()
    encode = ["data", "encode", f"in={words}", "channels=4"]
    code, _, error = run(capsys, monkeypatch, *encode, f"out={tmp_path}/a.h5")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "low/2-a.wav has 2 channels: choose one" in error
    code, printed, error = run(capsys, monkeypatch, *encode, f"out={tmp_path}/a.h5", "channel=1")
    assert code == 0, error
    assert "1 file left out as no audio: low/notes.txt." in printed
    found = [times for times, _ in SpikeFile(tmp_path / "a.h5", units=4).spikes()]
    soundfile.write(path, wave, rate)
    encode_words(list_words(words), tmp_path / "b.h5", channels=4)
    for one, two in zip(found, SpikeFile(tmp_path / "b.h5", units=4).spikes(), strict=True):
        np.testing.assert_array_equal(one, two[0])


@pytest.fixture
def digits(tmp_path):
    """The 3,000 names of spoken digits, empty files."""
    for digit, word in enumerate(DIGITS):
        (tmp_path / "digits" / word).mkdir(parents=True)
        for speaker in SPEAKERS:
            for take in range(50):
                (tmp_path / "digits" / word / f"{digit}_{speaker}_{take}.wav").touch()
    return list_words(tmp_path / "digits", r"_(\w+)_")


def test_lists_of_spoken_digits_share_no_recording(digits) -> None:
    train, test = (digits.listed(LISTS / f"{name}.txt") for name in ("train", "test"))
    assert (train.sum(), test.sum()) == (1800, 1200)
    assert not (train & test).any()
    assert set(digits.speakers[train]) == set(SPEAKERS) - {"nicolas", "yweweler"}


@needs_fsdd
@pytest.mark.parametrize("name", ["train", "test"])
def test_lists_of_spoken_digits_are_those_of_the_encoded_files(digits, name) -> None:
    words = digits.where(digits.listed(LISTS / f"{name}.txt"))
    listed = [(words.classes[k], s) for k, s in zip(words.labels, words.speakers, strict=True)]
    with h5py.File(FSDD / f"fsdd_{name}.h5") as file:
        labels, speakers = file["labels"][:], file["extra/speaker"][:]
    encoded = [(DIGITS[k], SPEAKERS[s]) for k, s in zip(labels, speakers, strict=True)]
    assert Counter(listed) == Counter(encoded)


def test_times_of_long_recordings_keep_their_milliseconds(words, tmp_path) -> None:
    t = np.arange(3 * RATE) / RATE
    soundfile.write(words / "low" / "2-a.wav", np.sin(2 * np.pi * 800 * t), RATE)
    encode_words(list_words(words), tmp_path / "a.h5", channels=4)
    long = list(SpikeFile(tmp_path / "a.h5", units=4).spikes())[-1][0]
    assert 2 < long.max() < 3.1
    steps = long * STEP_RATE  # whole numbers, which float16 moves by up to 24 here
    np.testing.assert_allclose(steps, steps.round(), atol=0.01)


def test_recordings_longer_than_a_minute_are_refused(words, tmp_path) -> None:
    soundfile.write(words / "low" / "3-a.wav", np.ones(61 * 4000), 4000)
    with pytest.raises(UserError, match=r"low/3-a\.wav lasts 61 s; a recording may last 60 s"):
        encode_words(list_words(words), tmp_path / "a.h5")


def test_spikes_do_not_depend_on_the_form_of_a_name(words, tmp_path) -> None:
    found = []
    for form in ("NFC", "NFD"):
        (path,) = (words / "high").glob("[!1]*")
        path.rename(path.with_name(unicodedata.normalize(form, "\u00e9.wav")))
        encode_words(list_words(words), tmp_path / f"{form}.h5", channels=4)
        found.append(list(SpikeFile(tmp_path / f"{form}.h5", units=4).spikes())[1][0])
    np.testing.assert_array_equal(*found)


def test_what_cannot_be_encoded_is_named_and_leaves_nothing(words, tmp_path) -> None:
    soundfile.write(words / "low" / "3-a.wav", np.zeros(1000), RATE)
    soundfile.write(words / "high" / "4-a.wav", np.ones(9), RATE)
    with pytest.raises(UserError, match=r"high/4-a\.wav: .* And 1 more\. Mend or remove them"):
        encode_words(list_words(words), tmp_path / "a.h5", channels=40)
    (words / "high" / "4-a.wav").unlink()
    with pytest.raises(UserError, match=r"low/3-a\.wav: The audio is silent"):
        encode_words(list_words(words), tmp_path / "a.h5", channels=40)
    soundfile.write(words / "low" / "3-a.wav", np.full(9, np.nan), RATE, "FLOAT")
    with pytest.raises(UserError, match=r"^[^:]*low/3-a\.wav: sample 0 is nan; [^:]*$"):
        encode_words(list_words(words), tmp_path / "a.h5", channels=40)
    (words / "low" / "3-a.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"low/3-a\.wav is "):
        encode_words(list_words(words), tmp_path / "a.h5", channels=40)
    (tmp_path / "b.h5").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is there already"):
        encode_words(list_words(words), tmp_path / "b.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.h5", "words"]


def test_encode_then_train(words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.txt").write_text("high/2-a.wav\nlow/2-a.wav\n", encoding="utf-8")
    encode = ["data", "encode", "in=words", f"speaker_pattern={PATTERN!r}", "channels=80"]
    code, printed, error = run(capsys, monkeypatch, *encode, "out=train.h5")
    assert code == 0, error
    assert "4 recordings, 0.8 s of audio" in printed
    code, _, error = run(capsys, monkeypatch, *encode, "out=test.h5", "only=test.txt")
    assert code == 0, error
    assert len(SpikeFile("test.h5", units=80)) == 2
    code, printed, error = run(
        capsys, monkeypatch, "train", "data=spikes", "data.train_file=train.h5",
        "data.test_file=test.h5", "data.units=80", "model.hidden=[4]", "model.taps=3",
        "train.epochs=1", "data.cache=cache", "out=run", "device=cpu",
    )  # fmt: skip
    assert code == 0, error
    assert "n = 2" in printed
    code, printed, error = run(
        capsys, monkeypatch, "train", "experiment=own/words_spikes", "data.train_file=train.h5",
        "data.valid_file=test.h5", "data.test_file=test.h5", "data.units=80", "model.hidden=[4]",
        "train.epochs=1", "data.cache=cache", "out=own", "device=cpu",
    )  # fmt: skip
    assert code == 0, error
    assert "protocol refit" in printed
