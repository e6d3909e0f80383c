"""Make a folder of synthetic spoken words: six words, six voices, eight takes, 288 wav files.

    python -m scripts.words words
    python -m scripts.words words --seed 1        # six other voices

A word is a sequence of phones; a phone has a duration, formants and a source: a voice's pulses,
noise, or silence. A voice has its own pitch, length of the vocal tract, tempo and accent (another
place of every formant of every phone). A take varies all of them, starts at another time and has
another level and background noise. The sounds are crude, but words differ between voices as spoken
words do: the same formants in the same order at other frequencies and times.

Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67, 1980, describes the method
and gives formants of phones, of which these are roundings.
"""

from __future__ import annotations

import argparse
import sys
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

RATE = 16_000  # Hz
FRAME = 80  # samples with constant formants, 5 ms
VOICES = ("anna", "bob", "carla", "dave", "emma", "fred")
TAKES = 8
BANDWIDTHS = (80.0, 110.0, 160.0)  # Hz, of the formants
GLIDE = 5  # frames over which formants and levels move from phone to phone

Waveform = NDArray[np.float64]


class Phone(NamedTuple):
    """A phone: duration in ms, three formants in Hz, level of the voice and of noise."""

    ms: float
    formants: tuple[float, float, float]
    voice: float
    noise: float = 0.0


PHONES = {
    "a": Phone(120, (700, 1220, 2600), 1.0),
    "e": Phone(110, (530, 1680, 2500), 1.0),
    "i": Phone(90, (300, 2200, 2950), 0.9),
    "o": Phone(120, (540, 1000, 2350), 1.0),
    "u": Phone(100, (320, 900, 2200), 0.9),
    "y": Phone(60, (260, 2070, 3020), 0.7),
    "l": Phone(70, (310, 1050, 2880), 0.6),
    "r": Phone(70, (310, 1060, 1380), 0.6),
    "n": Phone(80, (280, 1300, 2600), 0.4),
    "s": Phone(120, (3200, 4800, 6200), 0.0, 0.5),
    "f": Phone(100, (1400, 3500, 6500), 0.0, 0.2),
    "closure": Phone(60, (300, 1500, 2500), 0.0),
    "t": Phone(35, (2500, 4000, 5500), 0.0, 0.6),
    "p": Phone(30, (500, 1200, 2400), 0.0, 0.5),
    "g": Phone(40, (300, 1600, 2200), 0.3, 0.3),
    "d": Phone(30, (300, 1800, 2700), 0.4, 0.3),
}
WORDS = {
    "yes": ("y", "e", "s"),
    "no": ("n", "o", "u"),
    "stop": ("s", "closure", "t", "a", "closure", "p"),
    "go": ("closure", "g", "o", "u"),
    "left": ("l", "e", "f", "closure", "t"),
    "right": ("r", "a", "i", "closure", "t"),
}


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        pitch: mean pitch in Hz.
        tract: factor of all formants, from the length of the vocal tract.
        tempo: factor of all durations.
        accent: factors of the formants of each phone, [3].
    """

    pitch: float
    tract: float
    tempo: float
    accent: dict[str, NDArray[np.float64]]


def draw_voice(number: int, rng: np.random.Generator) -> Voice:
    """A voice, high for even numbers and low for odd ones."""
    high = number % 2 == 0
    return Voice(
        pitch=rng.uniform(165, 250) if high else rng.uniform(85, 150),
        tract=rng.uniform(1.02, 1.2) if high else rng.uniform(0.85, 1.02),
        tempo=rng.uniform(0.8, 1.3),
        accent={name: np.exp(rng.normal(0, 0.06, 3)) for name in PHONES},
    )


def speak(word: str, voice: Voice, rng: np.random.Generator) -> Waveform:
    """One take of a word, [samples] in [-1, 1], with silence before and behind it."""
    formants, levels = _tracks(word, voice, rng)
    pitch = voice.pitch * np.exp(rng.normal(0, 0.06)) * np.linspace(1.1, 0.85, len(levels))
    pulses = _pulses(pitch, rng)
    noise = rng.standard_normal(len(pulses))
    source = np.repeat(levels, FRAME, axis=0)
    sound = _resonate(source[:, 0] * pulses + source[:, 1] * noise, formants)
    sound *= rng.uniform(0.1, 0.6) / np.abs(sound).max()
    silence = rng.uniform(0.02, 0.2, 2) * RATE
    sound = np.pad(sound, (int(silence[0]), int(silence[1])))
    return sound + 10 ** rng.uniform(-4, -2.5) * rng.standard_normal(len(sound))


def _tracks(
    word: str, voice: Voice, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Formants in Hz, [frames, 3], and levels of voice and noise, [frames, 2]."""
    formants, levels = [], []
    tempo = voice.tempo * np.exp(rng.normal(0, 0.1))
    for name in WORDS[word]:
        phone = PHONES[name]
        frames = max(2, round(phone.ms * tempo * np.exp(rng.normal(0, 0.12)) * RATE / 1000 / FRAME))
        tract = voice.tract * voice.accent[name] * np.exp(rng.normal(0, 0.03, 3))
        formants += [np.minimum(phone.formants * tract, 0.47 * RATE)] * frames
        levels += [np.array([phone.voice, phone.noise])] * frames
    silent = [np.zeros(2)] * (GLIDE // 2)
    edges = [formants[0]] * (GLIDE // 2), [formants[-1]] * (GLIDE // 2)
    return _smooth(edges[0] + formants + edges[1]), _smooth(silent + levels + silent)


def _smooth(track: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over GLIDE frames of each column."""
    return np.lib.stride_tricks.sliding_window_view(np.array(track), GLIDE, axis=0).mean(2)


def _pulses(pitch: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
    """Glottal pulses: a falling ramp per period, whose spectrum falls by 6 dB per octave."""
    jittered = np.repeat(pitch * np.exp(rng.normal(0, 0.01, len(pitch))), FRAME)
    phase = np.cumsum(jittered) / RATE
    return 1 - 2 * (phase % 1)


def _resonate(sound: Waveform, formants: NDArray[np.float64]) -> Waveform:
    """The sound through three resonators in a row, which change from frame to frame."""
    for k, bandwidth in enumerate(BANDWIDTHS):
        state, frames = np.zeros(2), []
        radius = np.exp(-np.pi * bandwidth / RATE)
        for frame, hertz in zip(sound.reshape(-1, FRAME), formants[:, k], strict=True):
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2]
            frame, state = lfilter([sum(poles)], poles, frame, zi=state)
            frames.append(frame)
        sound = np.concatenate(frames)
    return sound


def takes(seed: int) -> Iterator[tuple[str, Waveform]]:
    """``<word>/<voice>_<take>.wav`` and waveform of each recording."""
    rng = np.random.default_rng(seed)
    voices = {name: draw_voice(number, rng) for number, name in enumerate(VOICES)}
    for word in WORDS:
        for name, voice in voices.items():
            for take in range(TAKES):
                yield f"{word}/{name}_{take}.wav", speak(word, voice, rng)


def write(path: Path, sound: Waveform) -> None:
    """Write a wav file of one channel and 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(sound.clip(-1, 1) * 32767).astype("<i2").tobytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.words", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to write, not there yet")
    parser.add_argument("--seed", type=int, default=0, help="seed of the voices and takes (0)")
    options = parser.parse_args(arguments)
    if options.folder.exists():
        print(f"{options.folder} is there already; name another folder.", file=sys.stderr)
        return 2
    for name, sound in takes(options.seed):
        write(options.folder / name, sound)
    print(f"{len(WORDS) * len(VOICES) * TAKES} recordings written to {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
