"""Audio files: whole, damaged, of another scale, or with headers that are not true."""

from __future__ import annotations

import io
import math
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delays.config import LONGEST_S
from snn_delays.data.audio import LARGEST, SUFFIXES, read_audio, read_waveform
from snn_delays.data.speech import RATE
from snn_delays.errors import UserError
from tests.data.test_speech import frequency, tone

Factory = pytest.TempPathFactory


def write_pcm(path: Path, samples: np.ndarray, rate: int = RATE, channels: int = 1) -> Path:
    """Write with Python's own module."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


EVERY = np.arange(-32768, 32768).astype(np.int16)


def test_16_bits_at_16_khz_are_read_exactly(tmp_path: Path) -> None:
    for path in (write_pcm(tmp_path / "a.wav", EVERY), tmp_path / "b.wav"):
        soundfile.write(tmp_path / "b.wav", EVERY, RATE, subtype="PCM_16")
        samples = read_waveform(path)
        assert samples.dtype == np.int16
        np.testing.assert_array_equal(samples, EVERY)
        as_float, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(samples.astype(np.float32) / 32768, as_float)


def test_8_bits_are_scaled(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", np.array([0, 1, 128, 255], np.uint8))
    assert read_waveform(path).tolist() == [-32768, -32512, 0, 32512]


def test_24_bits_are_rounded_and_clipped(tmp_path: Path) -> None:
    values = np.array([256, 100, 200, -(2**23), 2**23 - 1]) * 256  # soundfile wants 32 bits
    soundfile.write(tmp_path / "a.wav", values.astype(np.int32), RATE, subtype="PCM_24")
    assert read_waveform(tmp_path / "a.wav").tolist() == [1, 0, 1, -32768, 32767]


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_scaled_and_clipped(tmp_path: Path, subtype: str) -> None:
    values = np.array([0.0, 0.5, -1.0, 1.0, 3.0, -1e38])
    soundfile.write(tmp_path / "a.wav", values, RATE, subtype=subtype)
    assert read_waveform(tmp_path / "a.wav").tolist() == [0, 16384, -32768, 32767, 32767, -32768]


@pytest.mark.parametrize("subtype", ["ULAW", "IMA_ADPCM", "GSM610"])
def test_telephones_codings_are_decoded(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440), RATE, subtype=subtype)
    found = read_waveform(tmp_path / "a.wav")
    assert RATE <= len(found) < RATE + 1100  # whole blocks
    assert frequency(found) == pytest.approx(440, rel=0.001)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    written = tone(1000, 1.0, rate)
    path = write_pcm(tmp_path / "a.wav", np.rint(written * 32767).astype(np.int16), rate)
    found = read_waveform(path) / 32768
    assert len(found) == RATE
    assert frequency(found) == pytest.approx(1000, abs=0.1)
    inner = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(found[inner], tone(1000)[inner], atol=0.005)


def test_a_recording_without_its_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", EVERY)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # as programs write that stream it
    path.write_bytes(content)
    np.testing.assert_array_equal(read_waveform(path), EVERY)


def test_other_chunks_are_passed_over(tmp_path: Path) -> None:
    content = write_pcm(tmp_path / "a.wav", EVERY).read_bytes()
    odd = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"
    (tmp_path / "b.wav").write_bytes(content[:36] + odd + content[36:] + odd)
    np.testing.assert_array_equal(read_waveform(tmp_path / "b.wav"), EVERY)


WAV = io.BytesIO()
soundfile.write(WAV, np.rint(tone(440, 0.02) * 32767).astype(np.int16), RATE, format="WAV")
WHOLE = WAV.getvalue()
assert len(WHOLE) == 44 + 2 * 320


def changed(place: int, value: bytes) -> bytes:
    return WHOLE[:place] + value + WHOLE[place + len(value) :]


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"house\t3\n" * 20, "is not a wav file"),
    "flac": (b"fLaC" + bytes(100), "is not a wav file"),
    "header cut": (WHOLE[:20], "is truncated: it ends before its sound"),
    "header alone": (WHOLE[:44], "is truncated: 640 of its 640 bytes"),
    "sound cut": (WHOLE[:-100], "is truncated: 100 of its 640 bytes"),
    "no sample": (changed(40, bytes(4))[:44], "holds no sample"),
    "rate 0": (changed(24, bytes(4)), "damaged|outside 4000 to 192000"),
    "rate 1": (changed(24, b"\1\0\0\0"), "outside 4000 to 192000"),
    "rate of 2 GHz": (changed(24, b"\xff\xff\xff\x7f"), "outside 4000 to 192000"),
    "no such coding": (changed(20, b"\xee\xee"), "is damaged or of an unknown kind"),
}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_waveform(path)
    sentence = str(refused.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ". " not in sentence  # one sentence
    return sentence


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / "word.wav"
    path.write_bytes(content)
    sentence = refusal(path)
    assert any(part in sentence for part in message.split("|"))


def test_several_channels_are_refused(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", EVERY, channels=2)
    assert "has 2 channels" in refusal(path)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_one_of_several_channels_is_read(tmp_path: Path, kind: str) -> None:
    every = np.stack([EVERY, EVERY // 2, EVERY[::-1]], axis=1)
    soundfile.write(tmp_path / f"a.{kind}", every, RATE, subtype="PCM_16")
    expected = {"left": every[:, 0], "right": every[:, 1], "2": every[:, 2]}
    expected["mean"] = np.rint(every.mean(axis=1)).astype(np.int16)
    for channel, samples in expected.items():
        np.testing.assert_array_equal(read_waveform(tmp_path / f"a.{kind}", channel), samples)
    with pytest.raises(UserError, match=r"has 3 channels, from 0: there is no channel 3\.$"):
        read_waveform(tmp_path / f"a.{kind}", "3")


def test_one_channel_is_read_whatever_is_chosen(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", EVERY)
    for channel in ("right", "mean", "7"):
        np.testing.assert_array_equal(read_waveform(path, channel), EVERY)


def test_more_channels_than_memory_should_hold_are_refused(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", EVERY[:90], channels=9)
    with pytest.raises(UserError, match="has 9 channels, more than 8"):
        read_audio(path, "left")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, value]), RATE, subtype="FLOAT")
    assert f"sample 1 is {value}" in refusal(tmp_path / "a.wav")


def test_places_without_a_file_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "There is no file" in refusal(tmp_path / "absent.wav")


def test_a_file_named_raw_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(WHOLE)
    refusal(tmp_path / "a.raw")


def test_without_soundfile_the_extra_is_named(tmp_path, monkeypatch) -> None:
    path = write_pcm(tmp_path / "a.wav", np.zeros(800, np.int16))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"pip install 'snn-delays\[audio\]'\.$"):
        read_audio(path)


def samples_or_refusal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        samples = read_waveform(path)
    except UserError:
        return
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert len(samples)


@given(length=st.integers(0, len(WHOLE) - 1))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_any_truncation_is_refused(length: int, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated.wav"
    path.write_bytes(WHOLE[:length])
    refusal(path)


@given(flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 7)), min_size=1, max_size=4))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_flipped_bits_give_samples_or_a_refusal(
    flips: list[tuple[int, int]], tmp_path_factory: Factory
) -> None:
    content = bytearray(WHOLE)
    for place, bit in flips:
        content[place] ^= 1 << bit
    samples_or_refusal(tmp_path_factory.getbasetemp() / "flipped.wav", bytes(content))


@given(header=st.binary(min_size=0, max_size=60))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_any_bytes_give_samples_or_a_refusal(header: bytes, tmp_path_factory: Factory) -> None:
    content = WHOLE[:12] + header + WHOLE[12 + len(header) :]
    samples_or_refusal(tmp_path_factory.getbasetemp() / "random.wav", content)


# ---- wav: sizes that are not true ---------------------------------------------------------------


def sized(size: int, content: bytes = WHOLE) -> bytes:
    return content[:40] + size.to_bytes(4, "little") + content[44:]


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
def test_sizes_that_no_file_reaches_mean_its_end(tmp_path: Path, size: int) -> None:
    expected = read_waveform(write(tmp_path / "a.wav", WHOLE))
    found = read_waveform(write(tmp_path / "b.wav", sized(size)))
    np.testing.assert_array_equal(found, expected)


def test_a_size_of_0_before_sound_is_refused(tmp_path: Path) -> None:
    sentence = refusal(write(tmp_path / "a.wav", sized(0)))
    assert "says that it holds no sound, though 640 bytes follow" in sentence


def rf64(sound: int) -> bytes:
    sizes = b"ds64" + (28).to_bytes(4, "little") + (sound + 80).to_bytes(8, "little")
    sizes += sound.to_bytes(8, "little") + (sound // 2).to_bytes(8, "little") + bytes(4)
    content = sized(0xFFFFFFFF)
    return b"RF64" + b"\xff" * 4 + content[8:12] + sizes + content[12:]


def test_rf64_is_read_and_its_truncation_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", rf64(640))
    np.testing.assert_array_equal(read_waveform(path), read_waveform(write(tmp_path / "b", WHOLE)))
    assert "is truncated: 100 of its 640 bytes" in refusal(write(path, rf64(640)[:-100]))


# ---- scale and length ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "subtype"), [(32768, "FLOAT"), (4, "DOUBLE"), (2.0**31, "FLOAT")]
)
def test_floats_of_another_scale_are_refused(tmp_path: Path, level: float, subtype: str) -> None:
    whole = np.rint(level * tone(440))
    soundfile.write(tmp_path / "a.wav", whole, RATE, subtype=subtype)
    assert "most lie beyond 1, where floats must be in [-1, 1]" in refusal(tmp_path / "a.wav")


def test_a_few_peaks_beyond_1_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, level=1.2), RATE, subtype="FLOAT")
    samples = read_waveform(tmp_path / "a.wav")
    assert (samples.min(), samples.max()) == (-32768, 32767)


def test_sound_that_would_become_silence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, EVERY.astype(np.int32), RATE, subtype="PCM_32")
    assert "would become silence" in refusal(path)
    assert read_audio(path)[0].any()  # the cochlea takes any level
    soundfile.write(path, EVERY.astype(np.int32) * 65536, RATE, subtype="PCM_32")
    np.testing.assert_array_equal(read_waveform(path), EVERY)
    soundfile.write(path, np.zeros(100), RATE)
    assert not read_waveform(path).any()


def test_long_recordings_are_refused_unread(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", np.zeros(4000 * LONGEST_S, np.uint8), 4000)
    assert len(read_waveform(path)) == LONGEST_S * RATE
    write_pcm(path, np.zeros(4000 * LONGEST_S + 1, np.uint8), 4000)
    assert f"a recording may last {LONGEST_S} s: cut it into words" in refusal(path)
    with open(path, "r+b") as file:
        file.truncate(LARGEST + 1)  # sparse
    assert "bytes, more than 60 s of sound fill" in refusal(path)


# ---- other kinds of files -----------------------------------------------------------------------

KINDS = {"flac": "PCM_16", "mp3": None, "ogg": "VORBIS", "oga": "VORBIS", "opus": "OPUS"}


def encoded(path: Path, seconds: float = 1.0) -> Path:
    wave = tone(440, seconds) + 0.01 * np.random.default_rng(0).standard_normal(
        len(tone(1, seconds))
    )
    kind = {"oga": "OGG", "opus": "OGG"}.get(path.suffix[1:])
    soundfile.write(path, wave, RATE, subtype=KINDS[path.suffix[1:]], format=kind)
    return path


def test_every_kind_that_is_read_is_tried_here() -> None:
    assert set(SUFFIXES) == {".wav", *(f".{kind}" for kind in KINDS)}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_are_read(tmp_path: Path, kind: str) -> None:
    path = encoded(tmp_path / f"a.{kind}")
    samples = read_waveform(path)
    assert samples.shape == (RATE,)
    assert frequency(samples) == pytest.approx(440, rel=0.001)
    if kind == "flac":
        np.testing.assert_array_equal(samples, soundfile.read(path, dtype="int16")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_cut_short_are_refused(tmp_path: Path, kind: str) -> None:
    path = encoded(tmp_path / f"a.{kind}", 4.0)
    content = path.read_bytes()
    pages = [i for i in range(len(content)) if content.startswith(b"OggS", i)][1:]
    assert len(pages) > 3 or kind in ("flac", "mp3")
    for length in (len(content) - 1, len(content) * 2 // 3, 40, *pages):
        refusal(write(path, content[:length]))


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_any_flipped_bit_of_ogg_is_refused(tmp_path: Path, kind: str) -> None:
    content = encoded(tmp_path / f"a.{kind}", 0.2).read_bytes()
    for place in range(0, len(content), len(content) // 60):
        broken = bytearray(content)
        broken[place] ^= 1 << place % 8
        refusal(write(tmp_path / f"a.{kind}", broken))


def test_flac_that_does_not_say_how_long_it_is_is_refused(tmp_path: Path) -> None:
    content = bytearray(encoded(tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits
    content[22:26] = bytes(4)
    assert "does not say how long it is" in refusal(write(tmp_path / "a.flac", content))


def test_mp3_that_does_not_say_how_long_it_is_is_refused(tmp_path: Path) -> None:
    content = encoded(tmp_path / "a.mp3").read_bytes()
    tag = b"ID3\4\0\0" + bytes([0, 0, 1, 0]) + bytes(128)  # its length has 7 bits a byte
    assert len(read_waveform(write(tmp_path / "a.mp3", tag + content))) == RATE
    without = content.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))
    assert "has no Xing header" in refusal(write(tmp_path / "a.mp3", without))


@pytest.mark.parametrize("name", ["a.aiff", "a.m4a", "a.raw", "a"])
def test_kinds_that_are_not_read_are_refused(tmp_path: Path, name: str) -> None:
    assert "is not a wav file" in refusal(write(tmp_path / name, b"FORM" + bytes(99)))
