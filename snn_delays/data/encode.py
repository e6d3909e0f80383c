"""Encode a folder of spoken words as a file of SHD's format, by the cochlea model."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.data.audio import read_audio
from snn_delays.data.cochlea import check_audio, encode
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.formats.words import WordList
from snn_delays.data.progress import progress
from snn_delays.data.splits import sort_names
from snn_delays.errors import UserError, message_of

FLOAT16_SECONDS = 2.0  # up to here float16, the type of SHD's times, is exact to a millisecond
ALONE_S = 20.0  # seconds of audio that one process encodes before others have started

Spikes = tuple[NDArray[np.floating], NDArray[np.integer]]


def encode_words(
    words: WordList, out: Path, *, channel: str | None = None, channels: int = 700, seed: int = 0
) -> float:
    """Encode recordings and write them with their words and speakers.

    A recording's spikes depend on its content, its name and ``seed`` alone, not on the number of
    processes, one per core. Times are float16 as in SHD, or float32 if a recording is longer than
    2 s. The file is written under a temporary name and renamed at the end.

    Args:
        words: recordings.
        out: file to write.
        channel: of recordings with several channels (``audio.read_waveform``).
        channels: number of cochlea channels.
        seed: of the fibres' random spikes.

    Returns:
        Seconds of audio.

    Raises:
        UserError: ``out`` exists or cannot be written, or a recording cannot be read or gives no
            spike.
    """
    if out.exists():
        raise UserError(f"out={out} is there already; choose another name or remove it.")
    seconds = _listen(words, channel)
    names = None if words.speakers is None else sort_names(np.unique(words.speakers))
    number = {} if names is None else {name: k for k, name in enumerate(names)}
    speaker = None if words.speakers is None else np.array([number[s] for s in words.speakers])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".encoding-") as scratch:
            temporary = Path(scratch) / out.name
            spikes = _spikes(words, sum(seconds), channel, channels, seed)
            write_spikes(
                temporary,
                spikes,
                words.labels,
                words.classes,
                speaker,
                names,
                times=stored_times(max(seconds)),
            )
            os.replace(temporary, out)
    except (OSError, RuntimeError) as error:  # h5py, where the disk is full
        raise UserError(f"out={out} cannot be written: {message_of(error)}.") from error
    return sum(seconds)


def _listen(words: WordList, channel: str | None) -> list[float]:
    """Seconds of each recording; all are checked here, so that errors are found before the work."""
    seconds, wrong = [], []
    for name in progress(words.files, "reading", len(words.files), "files"):
        try:
            audio, rate = read_audio(words.folder / name, channel)
            check_audio(audio, rate)
            seconds.append(len(audio) / rate)
        except UserError as error:
            reason = str(error)
            path = f"{words.folder / name}"
            wrong.append(reason if path in reason else f"{path}: {reason}")
    if wrong:
        more = f"And {len(wrong) - 1} more. Mend or remove them, or" if len(wrong) > 1 else "Or"
        raise UserError(f"{wrong[0]} {more} name the other recordings in a list (only=<list>).")
    return seconds


def _spikes(
    words: WordList, seconds: float, channel: str | None, channels: int, seed: int
) -> Iterator[Spikes]:
    """Spikes of each recording, in order; every core encodes recordings of its own."""
    processes = joblib.cpu_count() if seconds > ALONE_S else 1
    threads = 1 if processes > 1 else None
    call = joblib.delayed(_encode_file)
    calls = (
        call(words.folder / file, channel, f"{seed}/{name}", channels, threads)
        for file, name in zip(words.files, words.names, strict=True)
    )
    encoded = joblib.Parallel(processes, return_as="generator")(calls)
    yield from progress(encoded, "encoding", len(words.files), "files")


def _encode_file(
    path: Path, channel: str | None, source: str, channels: int, threads: int | None
) -> Spikes:
    if threads is not None:
        torch.set_num_threads(threads)
    times, units = encode_file(path, channel, source, channels)
    if not len(times):
        raise UserError(f"{path} gives no spike; leave it out by a list (only=<list>).")
    return times, units


def encode_file(path: Path, channel: str | None, source: str, channels: int) -> Spikes:
    """Spikes of one recording: times in seconds, sorted, and units, each [spikes].

    Args:
        path: of the recording.
        channel: of a recording with several.
        source: text from which the seed of the recording is made: ``<seed>/<word>/<name>.wav``.
        channels: of the cochlea.

    Raises:
        UserError: the recording cannot be read, is silent or too short.
    """
    audio, rate = read_audio(path, channel)
    number = int.from_bytes(hashlib.sha256(source.encode()).digest()[:7], "little")
    return encode(audio, rate, channels=channels, seed=number)


def stored_times(seconds: float) -> type[np.floating]:
    """The type of the times in a file whose longest recording is so long."""
    return np.float16 if seconds <= FLOAT16_SECONDS else np.float32
