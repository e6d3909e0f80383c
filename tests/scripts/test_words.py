"""Synthetic spoken words, on which the recipe for own recordings was measured."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from scripts import words
from snn_delays.data.audio import read_waveform
from snn_delays.data.formats.words import list_words
from snn_delays.data.speech import RATE


@pytest.fixture
def two_voices(monkeypatch) -> None:
    monkeypatch.setattr(words, "VOICES", ("anna", "bob"))
    monkeypatch.setattr(words, "TAKES", 2)


def test_a_folder_of_words_is_written_once(two_voices, tmp_path, capsys) -> None:
    assert words.main([str(tmp_path / "a"), "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"24 recordings written to {tmp_path}/a\n"
    found = list_words(tmp_path / "a", "/(.*)_")
    assert found.classes == sorted(words.WORDS)
    assert Counter(found.speakers) == {"anna": 12, "bob": 12}
    for name in found.files:
        wave = read_waveform(found.folder / name)
        assert RATE * 0.2 < len(wave) < RATE
        assert 1000 < abs(wave.astype(int)).max() < 32767  # heard, and not clipped
    assert words.main([str(tmp_path / "a")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_recordings_depend_on_the_seed_alone(two_voices) -> None:
    one, same, other = (dict(words.takes(seed)) for seed in (0, 0, 1))
    assert len({wave.tobytes() for wave in one.values()}) == 24
    for name, wave in one.items():
        np.testing.assert_array_equal(wave, same[name])
        assert len(wave) != len(other[name]) or (wave != other[name]).any()
