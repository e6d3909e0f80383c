"""Encode a folder of spoken words as a file of SHD's format, by the cochlea model."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_delays.data.audio import read_audio
from snn_delays.data.cochlea import check_audio, encode
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.formats.words import WordList
from snn_delays.data.progress import progress
from snn_delays.data.splits import sort_names
from snn_delays.errors import UserError, message_of

FLOAT16_SECONDS = 2.0  # up to here float16, the type of SHD's times, is exact to a millisecond


def encode_words(words: WordList, out: Path, *, channels: int = 700, seed: int = 0) -> float:
    """Encode recordings and write them with their words and speakers.

    A recording's spikes depend on its content, its name and ``seed`` alone. Times are float16 as in
    SHD, or float32 if a recording is longer than 2 s. The file is written under a temporary name
    and renamed at the end.

    Args:
        words: recordings.
        out: file to write.
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
    seconds = _listen(words)
    kind = np.float16 if max(seconds) <= FLOAT16_SECONDS else np.float32
    names = None if words.speakers is None else sort_names(np.unique(words.speakers))
    number = {} if names is None else {name: k for k, name in enumerate(names)}
    speaker = None if words.speakers is None else np.array([number[s] for s in words.speakers])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".encoding-") as scratch:
            temporary = Path(scratch) / out.name
            spikes = _spikes(words, channels, seed)
            write_spikes(temporary, spikes, words.labels, words.classes, speaker, names, times=kind)
            os.replace(temporary, out)
    except (OSError, RuntimeError) as error:  # h5py, where the disk is full
        raise UserError(f"out={out} cannot be written: {message_of(error)}.") from error
    return sum(seconds)


def _listen(words: WordList) -> list[float]:
    """Seconds of each recording; all are checked here, so that errors are found before the work."""
    seconds, wrong = [], []
    for name in progress(words.files, "reading", len(words.files), "files"):
        try:
            audio, rate = read_audio(words.folder / name)
            check_audio(audio, rate)
            seconds.append(len(audio) / rate)
        except UserError as error:
            reason = str(error)
            path = f"{words.folder / name}"
            wrong.append(reason if path in reason else f"{path}: {reason}")
    if wrong:
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0]}{more} Mend or remove them, or name the others in a list (only=<list>)."
        )
    return seconds


def _spikes(
    words: WordList, channels: int, seed: int
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer]]]:
    files = zip(words.files, words.names, strict=True)
    for file, name in progress(files, "encoding", len(words.files), "files"):
        audio, rate = read_audio(words.folder / file)
        own = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        number = int.from_bytes(own[:7], "little")
        times, units = encode(audio, rate, channels=channels, seed=number)
        if not len(times):
            raise UserError(
                f"{words.folder / file} gives no spike; leave it out by a list (only=<list>)."
            )
        yield times, units
