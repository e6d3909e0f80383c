"""Sound localisation: from which side a sound comes, by the time between its arrivals at two ears.

The task of delay lines, after Jeffress, "A place theory of sound localization", J. Comp. Physiol.
Psychol. 41, 1948: a neuron that hears each ear with a delay of its own fires most where both
delays make up for the difference of the arrivals.

A sound is a random train of clicks in every frequency band. Both ears hear the same clicks, one ear
later, by the interaural time difference (ITD) of the sound's direction; a class is an ITD. Clicks
are jittered, some are lost in one ear, and further ones are added. Numbers of spikes thus are alike
in all classes and both ears: the time difference alone tells the class.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import Config, DataConfig, LocalisationConfig
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.frame_cache import cache_folder
from snn_delays.data.made import SPLITS, made_files
from snn_delays.data.sources import Source, spike_sources
from snn_delays.errors import UserError

VERSION = 1
EARS = 2
LOST = 0.2  # share of the clicks that an ear does not hear
NOISE = 0.2  # further clicks of an ear, as a share of the sound's


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training, validation and test data, made where they are not there yet.

    Raises:
        UserError: ``data.units`` is odd: both ears have as many.
    """
    data = config.data
    if data.units % EARS:
        raise UserError(f"data.units={data.units} must be even: half of the units are of each ear.")
    settings = {"units": data.units, **asdict(data.localisation)}
    files = made_files(
        "localisation",
        settings,
        VERSION,
        cache_folder(data),
        lambda path, split: _write(path, split, data),
    )
    return spike_sources(files, config)


def time_differences(settings: LocalisationConfig) -> NDArray[np.float64]:
    """The ITD of each class, ms: the time from the left ear's to the right ear's clicks."""
    return np.linspace(-settings.itd_ms, settings.itd_ms, settings.classes)


def _write(path: Path, split: str, data: DataConfig) -> None:
    settings, samples = data.localisation, getattr(data.localisation, f"{split}_samples")
    rng = np.random.default_rng([settings.seed, SPLITS.index(split)])
    labels, differences = rng.permutation(samples) % settings.classes, time_differences(settings)
    recordings = (_recording(differences[k], settings, data.units // EARS, rng) for k in labels)
    classes = [f"{ms:+.3f} ms" for ms in differences]
    write_spikes(path, recordings, labels, classes, None, times=np.float32)


def _recording(
    difference_ms: float, settings: LocalisationConfig, bands: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times in seconds and units of one sound, in order of time; the left ear's units come first.

    The times begin late enough for none to be below 0.
    """
    mean = settings.clicks_per_ms * settings.length_ms
    start = settings.itd_ms + 10 * settings.jitter_ms
    clicks = rng.uniform(start, start + settings.length_ms, (bands, rng.poisson(mean) + 1))
    ears = (clicks - difference_ms / 2, clicks + difference_ms / 2)
    times, units = [], []
    for ear, heard in enumerate(ears):
        for band, sound in enumerate(heard):
            kept = sound[rng.random(sound.size) >= LOST]
            kept = kept + settings.jitter_ms * rng.normal(size=kept.size).clip(-9, 9)
            noise = rng.uniform(start, start + settings.length_ms, rng.poisson(NOISE * mean))
            times += [kept, noise]
            units.append(np.full(kept.size + noise.size, ear * bands + band))
    every, unit = np.concatenate(times) / 1000, np.concatenate(units)
    order = np.argsort(every, kind="stable")
    return every[order], unit[order]
