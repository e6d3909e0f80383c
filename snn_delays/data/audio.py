"""Reads audio files (wav, FLAC, MP3, Ogg Vorbis, Opus) through libsndfile.

libsndfile accepts some truncated files, clips floats of another scale, and allocates as much memory
as a header claims; this module refuses such files with a sentence.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import LONGEST_S
from snn_delays.data.speech import RATE
from snn_delays.errors import UserError

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")  # of supported files

_FULL_SCALE = 32768  # int16 of 1.0
_MOST_CHANNELS = 8  # a file with more would take too much memory
_RATES = (4_000, 192_000)  # Hz; a file with another rate is damaged or a mistake
LARGEST = LONGEST_S * _RATES[1] * 8 + (1 << 24)  # bytes of a file: float64 samples and tags
_AGAIN = "; fetch it again or remove it"
_UNKNOWN = 2**63 - 1  # libsndfile's number of samples if the header has none
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MP3_FRAME = 2048  # bytes, more than the first one has


def read_waveform(path: Path, channel: str | None = None) -> NDArray[np.int16]:
    """The samples of one channel of an audio file, at 16 kHz.

    Samples of a 16-bit file at 16 kHz are returned unchanged: divided by 32768, they equal the
    floats of soundfile and torchaudio. Samples of other files are scaled to [-1, 1] and clipped,
    resampled to 16 kHz if needed (``scipy.signal.resample_poly``), multiplied by 32768, rounded,
    and clipped to int16.

    Args:
        path: the file; wav (PCM of 8 to 32 bits, float in [-1, 1], or another encoding that
            libsndfile decodes), FLAC, MP3, Ogg Vorbis or Opus.
        channel: of a file with several channels: "left", "right", "mean" of all, or a number from
            0; None refuses such a file. A file of one channel is read whatever is given.

    Returns:
        [N], as long as the file; N is rounded up by resampling.

    Raises:
        UserError: the file is missing, truncated, of another kind, empty, or longer than 60 s; it
            has more than 8 channels or not the chosen one, a rate outside 4 to 192 kHz, samples
            that are not finite, or samples of another scale.
    """
    samples, rate = read_audio(path, channel)
    if rate != RATE:
        from scipy.signal import resample_poly  # imported late: slow, and seldom needed

        samples = resample_poly(samples, RATE, rate)
    scaled = np.rint(samples * _FULL_SCALE)
    if samples.any() and not scaled.any():
        raise UserError(
            f"{path} would become silence, since its largest sample is {np.abs(samples).max():.1g}"
            " of full scale (32-bit integers of 16-bit scale?): multiply its samples by 65536."
        )
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def read_audio(path: Path, channel: str | None = None) -> tuple[NDArray[np.float64], int]:
    """The samples of one channel of an audio file, [N] in [-1, 1], and its rate in Hz.

    Args:
        path: the file.
        channel: as in ``read_waveform``.

    Raises:
        UserError: as ``read_waveform``, except for samples too small for 16 bits.
    """
    _check_whole(path)
    return _decode(path, channel)


def _check_whole(path: Path) -> None:
    """Refuse an incomplete file that libsndfile would partly read without an error."""
    if not path.is_file():
        raise UserError(_no_file(path))
    try:
        with open(path, "rb") as file:
            wrong = _wrong_head(file, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its permissions and the disk."
        ) from error
    if wrong is not None:
        raise UserError(f"{path} {wrong}.")


def _no_file(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder; name an audio file."
    if path.exists():
        return f"{path} is a pipe or a device; name an audio file."
    return f"There is no file {path}."


def _wrong_head(file: BinaryIO, path: Path) -> str | None:
    """What is wrong with a file according to its first bytes and its size, or None."""
    head, size = file.read(12), path.stat().st_size
    if not head:
        return "is empty" + _AGAIN
    if size > LARGEST:
        return f"has {size:,} bytes, more than {LONGEST_S} s of sound fill: cut it into words"
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return _wrong_chunks(file, size)
    kind = path.suffix.lower()
    if kind == ".wav" or kind not in SUFFIXES:
        return "is not a wav file; convert it to one of one channel, 16 bits and 16 kHz"
    if head[:4] == b"OggS":
        return _wrong_pages(head + file.read())
    return _wrong_mp3(file, head) if kind == ".mp3" else None


def _wrong_chunks(file: BinaryIO, size: int) -> str | None:
    wide = None  # size of the sound in RF64, for which a chunk's own 32 bits do not suffice
    while len(chunk := file.read(8)) == 8:
        start, length = file.tell(), int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return _wrong_size(length if wide is None else wide, size - start)
        if chunk[:4] == b"ds64":
            wide = int.from_bytes(file.read(16)[8:], "little")
        file.seek(start + length + length % 2)
    return "is truncated: it ends before its sound" + _AGAIN


def _wrong_size(length: int, behind: int) -> str | None:
    """What is wrong with the header's size of the sound, if ``behind`` bytes follow; or None."""
    if not length and behind:
        return (
            f"says that it holds no sound, though {behind} bytes follow (was writing cut short?):"
            " repair it (sox --ignore-length) or remove it"
        )
    # programs that write to a pipe set a size larger than any file
    if length > LARGEST or length <= behind:
        return None
    return f"is truncated: {length - behind} of its {length} bytes of sound are missing" + _AGAIN


def _wrong_pages(content: bytes) -> str | None:
    """Check the checksum of every Ogg page, and that the last has the end-of-stream flag, 4."""
    start, flags = 0, 0
    while start < len(content):
        page = content[start : start + 27 + 255]
        head = 27 + page[26] if len(page) > 26 else len(page)
        page = content[start : start + head + sum(page[27:head])]
        if page[:4] != b"OggS" or _ogg_checksum(page) != page[22:26]:
            return f"is truncated or damaged behind byte {start} of {len(content)}" + _AGAIN
        start, flags = start + len(page), page[5]
    return None if flags & 4 else "is truncated: the end of its stream is missing" + _AGAIN


def _ogg_checksum(page: bytes) -> bytes:
    """Checksum of a page without its own. Ogg's polynomial is zlib's in reversed bit order."""
    bare = (page[:22] + bytes(4) + page[26:]).translate(_MIRRORED)
    crc = zlib.crc32(bare, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_MIRRORED)


def _wrong_mp3(file: BinaryIO, head: bytes) -> str | None:
    """Refuse MP3 files whose header lacks the number of frames, since their length is a guess."""
    tag = sum((byte & 127) << 7 * n for n, byte in enumerate(reversed(head[6:10])))
    file.seek(10 + tag if head[:3] == b"ID3" else 0)
    first = file.read(_MP3_FRAME)
    if any(name in first for name in (b"Xing", b"Info", b"VBRI")):
        return None
    return "has no Xing header, which says how long an MP3 file is: convert it to wav or FLAC"


def _decode(path: Path, channel: str | None) -> tuple[NDArray[np.float64], int]:
    """Samples in [-1, 1] and their rate in Hz."""
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise UserError(
            "Reading audio needs the package soundfile: pip install 'snn-delays[audio]'."
        ) from error
    try:
        with soundfile.SoundFile(str(path)) as file:
            _check_format(path, file.samplerate, file.frames)
            number = _channel_number(path, channel, file.channels)
            frames, rate = file.frames, file.samplerate
            every = file.read(frames, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: named *.raw
        reason = str(getattr(error, "error_string", error)).strip(" .").replace(". ", ": ")
        raise UserError(
            f"{path} is damaged or of an unknown kind ({reason}); fetch it again or convert it to"
            " 16-bit PCM."
        ) from error
    samples = every.mean(axis=1) if number is None else every[:, number]
    _check_samples(path, samples, frames)
    return np.clip(samples, -1, 1), rate


def _check_samples(path: Path, samples: NDArray[np.float64], frames: int) -> None:
    if not len(samples):
        raise UserError(f"{path} holds no sample{_AGAIN}.")
    if len(samples) < frames:
        raise UserError(f"{path} is damaged after sample {len(samples)} of {frames}{_AGAIN}.")
    if not np.isfinite(samples).all():
        wrong = np.flatnonzero(~np.isfinite(samples))[0]
        raise UserError(f"{path}: sample {wrong} is {samples[wrong]}; repair or remove the file.")
    # a few peaks above 1 are clipped; in a sound of another scale, nearly all samples are above 1
    if 2 * np.count_nonzero(np.abs(samples) > 1) > np.count_nonzero(samples):
        raise UserError(
            f"{path} has samples up to {np.abs(samples).max():g}, and most lie beyond 1, where"
            " floats must be in [-1, 1]: divide them by their full scale, 32768 for 16 bits."
        )


def _channel_number(path: Path, channel: str | None, channels: int) -> int | None:
    """The number of the channel to read, from 0; None: the mean of all."""
    if channels == 1:
        return 0
    if channels > _MOST_CHANNELS:
        raise UserError(f"{path} has {channels} channels, more than {_MOST_CHANNELS}: mix it down.")
    if channel is None:
        raise UserError(
            f"{path} has {channels} channels: choose one by data.channel=left, right, mean or its"
            " number from 0 (in data encode and predict: channel=)."
        )
    if channel == "mean":
        return None
    number = int({"left": "0", "right": "1"}.get(channel, channel))
    if number >= channels:
        raise UserError(f"{path} has {channels} channels, from 0: there is no channel {channel}.")
    return number


def _check_format(path: Path, rate: int, frames: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(
            f"{path} says that it has {rate} samples per second, outside {_RATES[0]} to"
            f" {_RATES[1]}; convert it to {RATE}."
        )
    if frames >= _UNKNOWN:
        raise UserError(f"{path} does not say how long it is; convert it to wav.")
    if frames > LONGEST_S * rate:
        raise UserError(
            f"{path} lasts {frames / rate:g} s; a recording may last {LONGEST_S} s: cut it into"
            " words."
        )
