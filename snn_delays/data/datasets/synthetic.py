"""A small synthetic task, similar to spoken digits, in which classes differ in timing alone.

A word has the same three syllables in every class, each a burst of spikes over a third of the
channels; classes differ in the times between syllables. Words start at random times, syllables vary
in loudness, and noise is added. Coincidences of delayed syllables thus identify a class; spike
counts, positions in the recording and the decaying trace of a syllable do not.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import Config, SyntheticConfig
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.frame_cache import cache_folder
from snn_delays.data.made import SPLITS, made_files
from snn_delays.data.sources import Source, spike_sources

VERSION = 1
UNITS = 700
SYLLABLES = 3  # each a burst over a third of the channels
LAGS_MS = (40.0, 100.0, 160.0, 220.0)  # possible times between syllables
LENGTH_MS = 500.0  # of a recording; the word starts at a random time in it
SPIKES = 60  # per syllable, times its loudness
LOUDNESS = 0.7  # largest |log loudness|
NOISE_SPIKES = 100  # anywhere in the recording
SPEAKERS = 8


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training, validation and test data, made where they are not there yet."""
    data = config.data
    return spike_sources(synthetic_files(data.synthetic, cache_folder(data)), config)


def synthetic_files(settings: SyntheticConfig, folder: Path) -> dict[str, Path]:
    """Files of SHD's format for the three splits, written at the first call.

    Args:
        settings: size, seed and difficulty.
        folder: cache folder; the files get a folder in it whose name contains a digest of settings.

    Raises:
        UserError: the folder cannot be written.
    """
    return made_files(
        "synthetic",
        asdict(settings),
        VERSION,
        folder,
        lambda path, split: _write(path, split, settings),
    )


def _write(path: Path, split: str, settings: SyntheticConfig) -> None:
    words = _words(settings)
    samples = getattr(settings, f"{split}_samples")
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), 1])
    labels = rng.permutation(np.arange(samples) % settings.classes)
    speakers = rng.integers(SPEAKERS, size=samples)
    recordings = [
        _recording(words[label], speaker, settings.jitter_ms, rng)
        for label, speaker in zip(labels, speakers, strict=True)
    ]
    classes = [f"word {k}" for k in range(settings.classes)]
    write_spikes(path, recordings, labels, classes, speakers)


def _words(settings: SyntheticConfig) -> NDArray[np.float64]:
    """Times between syllables in ms, [classes, SYLLABLES - 1]; different for each word."""
    rng = np.random.default_rng([settings.seed, 0, 0])
    every = np.array(list(itertools.product(LAGS_MS, repeat=SYLLABLES - 1)))
    return every[rng.permutation(len(every))[: settings.classes]]


def _recording(
    lags: NDArray[np.float64], speaker: int, jitter_ms: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times in seconds and units of one word by one speaker, in order of time."""
    tempo = 0.97 + 0.06 * speaker / (SPEAKERS - 1)
    onset = rng.uniform(0, LENGTH_MS - tempo * lags.sum())
    onsets = onset + tempo * np.concatenate([[0.0], np.cumsum(lags)])
    loudness = np.exp(rng.uniform(-LOUDNESS, LOUDNESS, SYLLABLES))
    band = np.repeat(np.arange(SYLLABLES), rng.poisson(SPIKES * loudness))
    times = onsets[band] + rng.normal(0, jitter_ms, band.size)
    units = (band + rng.uniform(0, 1, band.size)) * (UNITS / SYLLABLES)
    noise = rng.poisson(NOISE_SPIKES)
    times = np.concatenate([times, rng.uniform(0, LENGTH_MS, noise)])
    units = np.concatenate([units, rng.uniform(0, UNITS, noise)])
    times = (times - times.min()) / 1000
    order = np.argsort(times, kind="stable")
    return times[order], units.astype(np.int64)[order]
