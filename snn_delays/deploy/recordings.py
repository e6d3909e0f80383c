"""From files of sound or spikes, or a pipe, to the frames that a deployed network takes."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import DataConfig
from snn_delays.data.audio import SUFFIXES, read_waveform
from snn_delays.data.encode import Spikes, encode_file, stored_times
from snn_delays.data.frames import to_frames
from snn_delays.data.progress import progress
from snn_delays.data.sources import SpikeSource
from snn_delays.data.speech import fit_length
from snn_delays.data.splits import first_names
from snn_delays.deploy.events import EventFrames
from snn_delays.deploy.frontend import log_mel_frames, samples_of
from snn_delays.deploy.network import FrontEnd
from snn_delays.errors import UserError, message_of
from snn_delays.output import one_line

HDF5 = (".h5", ".hdf5")
PIPE = "-"
SEED = 0  # of the cochlea's random spikes: that of ``snn-delays data encode``


@dataclass(frozen=True)
class Recording:
    """A recording as a network takes it.

    Attributes:
        file: the file, as it was named.
        sample: its number within the file, from 0.
        frames: [T, I], or frames [I] that come one after another.
    """

    file: str
    sample: int
    frames: NDArray[Any] | Iterable[NDArray[Any]]


def recordings(path: Path, front: FrontEnd) -> Generator[Recording, None, None]:
    """The recordings of an audio file, of a folder of them, or of a file of SHD's format, in order.

    Several files, and the samples of a file of spikes, show their progress on standard error. A
    file of a folder that cannot be read is left out, and an error at the end names it.

    Args:
        path: the file or folder; audio files lie anywhere in a folder, but not in one whose name
            begins with "_" or ".".
        front: the network's front end.

    Raises:
        UserError: there is nothing to read, or a file is damaged or not of the network's kind.
    """
    if path.is_dir():
        files = [*_audio_files(path)]
        if not files:
            raise UserError(f"{path} holds no audio file ({', '.join(SUFFIXES)}).")
        yield from _of_files(path, files, front)
    elif path.suffix.lower() in HDF5:
        yield from _samples(path, front)
    elif path.suffix.lower() in SUFFIXES:
        yield Recording(str(path), 0, audio_frames(path, front))
    else:
        kinds = ", ".join((*SUFFIXES, *HDF5))
        given = f"in={path}" if path.exists() else f"There is no file or folder {path}: in="
        raise UserError(f"{given} must be a folder, - or a file of one of the kinds {kinds}.")


def piped(pipe: BinaryIO, front: FrontEnd) -> Recording:
    """The recording that comes through a pipe: a wav file, or events as lines of text.

    A line is ``<time> <unit>`` or ``<time>,<unit>``, in the front end's unit of time and sorted by
    time; empty lines are skipped. Frames come as soon as later events do.

    Raises:
        UserError: what comes is neither, or not of the network's kind.
    """
    head = pipe.read(4)
    if head == b"RIFF":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "in.wav"
            path.write_bytes(head + pipe.read())
            return Recording(PIPE, 0, audio_frames(path, front, name=PIPE))
    if front.kind != "spikes":
        raise UserError("Standard input holds no wav file, which the network takes.")
    return Recording(PIPE, 0, _event_frames(_lines(head, pipe), front))


def audio_frames(path: Path, front: FrontEnd, name: str | None = None) -> NDArray[Any]:
    """The frames of an audio file, [T, I].

    A network of spikes hears it through the cochlea model, with the random numbers and the times of
    ``snn-delays data encode in=<folder>`` for a file <folder>/<word>/<name>.wav.

    Args:
        path: the file.
        front: the network's front end.
        name: the text that the random numbers depend on; None: ``<word>/<name>.wav`` of the path.

    Raises:
        UserError: the file cannot be read, or gives no spike.
    """
    if front.kind == "log_mel":
        wave = fit_length(read_waveform(path, front.channel), samples_of(front))
        return log_mel_frames(wave, front)
    place = path.absolute()
    times, units = _cochlea(path, front, name or f"{place.parent.name}/{place.name}")
    return to_frames(
        times,
        units,
        step_ms=front.step_ms,
        channels=front.channels,
        units_per_channel=front.units_per_channel,
        arithmetic=front.arithmetic,
    )


def _cochlea(path: Path, front: FrontEnd, name: str) -> Spikes:
    """Spikes as a file of them would hold them whose longest recording this one is."""
    source = unicodedata.normalize("NFC", f"{SEED}/{name}")
    try:
        times, units = encode_file(path, front.channel, source, front.units)
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    if not len(times):
        raise UserError(f"{path} gives no spike: there is nothing to predict from.")
    return times.astype(stored_times(times.max())), units


def _of_files(folder: Path, files: list[Path], front: FrontEnd) -> Iterator[Recording]:
    reasons = {}
    for file in progress(files, "predicting", len(files), "files"):
        try:
            frames = audio_frames(file, front)
        except UserError as error:
            reasons[str(file.relative_to(folder))] = str(error)
        else:
            yield Recording(str(file), 0, frames)
    if reasons:
        first, *others = reasons
        more = f" The others: {first_names(others)}." if others else ""
        raise UserError(
            f"{len(reasons)} of {len(files)} files in {folder} have no prediction."
            f" {reasons[first]}{more}"
        )


def _audio_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] not in "_.")
        for name in sorted(names):
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(place) / name


def _samples(path: Path, front: FrontEnd) -> Iterator[Recording]:
    if front.kind != "spikes":
        raise UserError(f"{path} holds spikes, and the network takes sound: name audio files.")
    data = DataConfig(
        name="spikes",
        step_ms=front.step_ms,
        units=front.units,
        units_per_channel=front.units_per_channel,
        time_unit=front.time_unit,
    )
    with SpikeSource(path, data, front.arithmetic).open() as opened:
        for number, frames in enumerate(opened.frames):
            yield Recording(str(path), number, frames)


def _lines(head: bytes, pipe: BinaryIO) -> Iterator[bytes]:
    """The lines of a pipe whose first bytes were read."""
    yield from (head + pipe.readline()).splitlines()
    yield from pipe


def _event_frames(lines: Iterable[bytes], front: FrontEnd) -> Iterator[NDArray[np.int64]]:
    events = EventFrames(front)
    for number, line in enumerate(lines, 1):
        if words := line.replace(b",", b" ").split():
            try:
                time, unit = words
                yield from events.add(float(time), int(unit))
            except UserError as error:
                raise UserError(f"Line {number} of standard input: {error}") from error
            except ValueError as error:
                text = one_line(line[:80].decode("utf-8", "replace").strip())
                raise UserError(
                    f"Line {number} of standard input is {text!r}, neither <time> <unit> nor the"
                    f" start of a wav file ({message_of(error)})."
                ) from error
    yield events.end()
