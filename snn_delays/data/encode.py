"""A folder of spoken words to a file of SHD's format, through the cochlea."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from snn_delays.data.audio import read_audio
from snn_delays.data.cochlea import check_audio, encode
from snn_delays.data.datasets.spikes import write_spikes
from snn_delays.data.datasets.words import WordList
from snn_delays.data.splits import sort_names
from snn_delays.errors import UserError


def encode_words(words: WordList, out: Path, *, channels: int = 700, seed: int = 0) -> float:
    """Encode recordings and write them, with words and speakers, under a temporary name first.

    A recording's spikes depend on its content, its name and ``seed`` alone.

    Args:
        words: recordings.
        out: file to write.
        channels: of the cochlea.
        seed: of the fibres' spikes.

    Returns:
        Seconds of audio.

    Raises:
        UserError: ``out`` is there already or cannot be written, or a recording cannot be read or
            gives no spike.
    """
    if out.exists():
        raise UserError(f"out={out} is there already; choose another name or remove it.")
    seconds = _listen(words)
    names = None if words.speakers is None else sort_names(np.unique(words.speakers))
    number = {} if names is None else {name: k for k, name in enumerate(names)}
    speaker = None if words.speakers is None else np.array([number[s] for s in words.speakers])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".encoding-") as scratch:
            part = Path(scratch) / out.name
            spikes = _spikes(words, channels, seed)
            write_spikes(part, spikes, words.labels, words.classes, speaker, names)
            os.replace(part, out)
    except (OSError, RuntimeError) as error:  # h5py, where the disk is full
        reason = str(error).splitlines()[0]
        raise UserError(f"out={out} cannot be written: {reason}.") from error
    return seconds


def _listen(words: WordList) -> float:
    """Seconds of all recordings, each checked, so that mistakes are found before hours of work."""
    seconds, wrong = 0.0, []
    for name in tqdm(words.files, "reading", unit=" files", disable=None, leave=False):
        try:
            audio, rate = read_audio(words.folder / name)
            check_audio(audio, rate)
            seconds += len(audio) / rate
        except UserError as error:
            wrong.append(f"{name}: {str(error).removeprefix(f'{words.folder / name} ')}")
    if wrong:
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0]}{more} Mend or remove them, or name the others in a list (only=<list>)."
        )
    return seconds


def _spikes(
    words: WordList, channels: int, seed: int
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer]]]:
    files: Any = tqdm(words.files, "encoding", unit=" files", disable=None, leave=False)
    for name in files:
        audio, rate = read_audio(words.folder / name)
        own = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        number = int.from_bytes(own[:7], "little")
        times, units = encode(audio, rate, channels=channels, seed=number)
        if not len(times):
            raise UserError(
                f"{words.folder / name} gives no spike; leave it out by a list (only=<list>)."
            )
        yield times, units
