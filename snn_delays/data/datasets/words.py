"""Spoken words in folders of ``<word>/*.wav``, Speech Commands among them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tonic
from numpy.typing import NDArray

from snn_delays.data.audio import read_waveform
from snn_delays.data.digests import FileList, stamp
from snn_delays.errors import UserError

TEST_LIST, VALID_LIST = "testing_list.txt", "validation_list.txt"  # of Speech Commands
GSC_SPEAKER = r"/([^/]+)_nohash_"


@dataclass(frozen=True)
class WordList:
    """Recordings of a folder, by name.

    Attributes:
        folder: the folder.
        files: [N] ``<word>/<name>.wav``, sorted.
        classes: all words of the folder, sorted, whether they occur in ``files`` or not.
        speakers: [N], or None.
        stamps: [N] what changes when a file does.
        newest: newest time of a file of the folder, in seconds.
    """

    folder: Path
    files: list[str]
    classes: list[str]
    speakers: NDArray[np.str_] | None
    stamps: list[str]
    newest: float

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N]."""
        number = {word: k for k, word in enumerate(self.classes)}
        return np.array([number[f.partition("/")[0]] for f in self.files], np.int64)

    def where(self, mask: NDArray[np.bool_]) -> WordList:
        """The recordings where ``mask`` is True."""
        kept = np.flatnonzero(mask).tolist()
        return replace(
            self,
            files=[self.files[i] for i in kept],
            stamps=[self.stamps[i] for i in kept],
            speakers=None if self.speakers is None else self.speakers[mask],
        )

    def again(self) -> WordList:
        """The same recordings as they are now."""
        stats = [os.stat(self.folder / name) for name in self.files]
        newest = max(stat.st_mtime for stat in stats)
        return replace(self, stamps=[stamp(stat) for stat in stats], newest=newest)

    def as_files(self) -> FileList:
        """For their digest."""
        state = "\n".join(map(" ".join, zip(self.files, self.stamps, strict=True)))
        return FileList(self.files, state, self.newest)

    def listed(self, path: Path) -> NDArray[np.bool_]:
        """[N] True where the file stands in a list of names, one a line.

        Raises:
            UserError: the list cannot be read, or names a file that is not there.
        """
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise UserError(
                f"The list {path} cannot be read ({reason}); it must name a recording a line,"
                " <word>/<name>.wav."
            ) from error
        wanted = {line for line in lines if line and not line.startswith("_")}
        missing = sorted(wanted - set(self.files))
        if missing:
            raise UserError(
                f"{path} names {missing[0]}, which is not in {self.folder}"
                + (f" (and {len(missing) - 1} more)." if len(missing) > 1 else ".")
            )
        return np.array([name in wanted for name in self.files])


def list_words(folder: Path, speaker_pattern: str | None = None) -> WordList:
    """The recordings of a folder of ``<word>/*.wav``.

    Folders whose name starts with "_" or "." (background noise, silence, unknown words) are passed
    over, as are empty ones.

    Args:
        folder: the folder.
        speaker_pattern: regular expression with one group, the speaker, found in
            ``<word>/<name>.wav``; None: speakers are not known.

    Raises:
        UserError: no folder, no recording in it, a name that is no text, or one in which the
            pattern is not found.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    with os.scandir(folder) as entries:
        words = sorted(e.name for e in entries if e.is_dir() and e.name[0] not in "_.")
    files, stamps, newest = [], [], 0
    for word in words:
        for name, stat in _recordings(folder, word):
            files.append(f"{word}/{name}")
            stamps.append(stamp(stat))
            newest = max(newest, stat.st_mtime_ns)
    if not files:
        raise UserError(f"{folder} holds no recording; they belong into {folder}/<word>/*.wav.")
    classes = list(dict.fromkeys(name.partition("/")[0] for name in files))
    speakers = None if speaker_pattern is None else _speakers(files, speaker_pattern)
    return WordList(folder, files, classes, speakers, stamps, newest / 1e9)


def _recordings(folder: Path, word: str) -> list[tuple[str, os.stat_result]]:
    """Names and states of a word's files, in order of name."""
    with os.scandir(folder / word) as entries:
        found = [(e.name, e.stat()) for e in entries if e.name[-4:].lower() == ".wav"]
    found = sorted(pair for pair in found if pair[0][0] != ".")
    if not "".join(name for name, _ in found).isascii():
        for name, _ in found:
            _check_text(folder, f"{word}/{name}")
    return found


def _check_text(folder: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{folder} has a file whose name is not UTF-8, {name!a}: rename it."
        ) from error


def _speakers(files: Sequence[str], pattern: str) -> NDArray[np.str_]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"speaker_pattern={pattern} cannot be read: {error}.") from error
    if compiled.groups != 1:
        raise UserError(
            f"speaker_pattern={pattern} must have one group (in parentheses), the speaker."
        )
    try:
        found = [compiled.search(name)[1] for name in files]  # type: ignore[index]
    except TypeError:
        found = [match and match[1] for match in map(compiled.search, files)]
    if not all(found):
        name = next(name for name, speaker in zip(files, found, strict=True) if not speaker)
        raise UserError(f"speaker_pattern={pattern} finds no speaker in {name}.")
    return np.array(found)


class Words(tonic.Dataset):
    """Spoken words as a Tonic dataset; an item is (waveform int16 [samples] at 16 kHz, label).

    Args:
        words: which recordings.
        transform: applied to the waveform of an item.
        target_transform: applied to its label.

    Attributes:
        classes: words, in order of their label.
        labels: [N] int64.
    """

    sensor_size = (1, 1, 1)
    dtype = np.dtype(np.int16)
    ordering = None

    def __init__(
        self,
        words: WordList,
        *,
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(str(words.folder), transform, target_transform)
        self.location_on_system = str(words.folder)
        self.words = words
        self.classes = words.classes
        self.labels = words.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        waveform: Any = read_waveform(self.words.folder / self.words.files[index])
        target = self.labels[index]
        if self.transform is not None:
            waveform = self.transform(waveform)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return waveform, target
