"""Spoken words in folders of ``<word>/*.wav``, such as Speech Commands."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import LONGEST_S
from snn_delays.data.audio import LARGEST, SUFFIXES
from snn_delays.data.checksums import FileList, stamp
from snn_delays.data.formats.speakers import find_speakers
from snn_delays.data.names import is_showable
from snn_delays.data.splits import first_names
from snn_delays.errors import UserError

TEST_LIST, VALID_LIST = "testing_list.txt", "validation_list.txt"  # of Speech Commands
AUDIO = {
    *SUFFIXES, ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".m4a",
    ".mka", ".mp2", ".mp4", ".ra", ".rf64", ".snd", ".sph", ".w64", ".wave", ".weba", ".webm",
    ".wma", ".wv",
}  # fmt: skip


@dataclass(frozen=True)
class WordList:
    """Recordings of a folder, by name.

    Attributes:
        folder: the folder.
        files: [N] ``<word>/<name>.wav``, sorted.
        classes: all words of the folder in Unicode's composed form, sorted, including words
            without a recording in ``files``.
        speakers: [N], or None if unknown.
        stamps: [N] size and time stamps of each file (``checksums.stamp``).
        newest: newest time stamp of a file of the folder, in seconds.
        left_out: ``<word>/<name>`` of the files beside the recordings that are no audio, sorted.
    """

    folder: Path
    files: list[str]
    classes: list[str]
    speakers: NDArray[np.str_] | None
    stamps: list[str]
    newest: float
    left_out: list[str]

    @property
    def remarks(self) -> list[str]:
        """A sentence that names the files that are left out, or none."""
        if not self.left_out:
            return []
        files = "1 file" if len(self.left_out) == 1 else f"{len(self.left_out)} files"
        names = [name if is_showable(name) else ascii(name) for name in self.left_out]
        return [f"{self.folder}: {files} left out as no audio: {first_names(names)}."]

    @property
    def names(self) -> list[str]:
        """``files`` in Unicode's composed form, [N], which is the same on every system."""
        return [_normal(name) for name in self.files]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels, [N]."""
        number = {word: k for k, word in enumerate(self.classes)}
        return np.array([number[name.partition("/")[0]] for name in self.names], np.int64)

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
        """The same recordings, with the present time stamps of their files."""
        try:
            states = [os.stat(self.folder / name) for name in self.files]
        except OSError as error:
            raise _unreadable(error) from error
        newest = max(state.st_mtime for state in states)
        return replace(self, stamps=list(map(stamp, states)), newest=newest)

    def as_files(self) -> FileList:
        """The files, for ``content_digest``."""
        state = "\n".join(map(" ".join, zip(self.files, self.stamps, strict=True)))
        return FileList(self.files, state, self.newest)

    def listed(self, path: Path) -> NDArray[np.bool_]:
        """A mask [N], True for the recordings that a text file lists, one name a line.

        Raises:
            UserError: the list cannot be read, or names a file that does not exist.
        """
        wanted = {_normal(line) for line in _lines(path) if line and not line.startswith("_")}
        missing = sorted(wanted - set(self.names))
        if missing:
            raise UserError(
                f"{path} names {missing[0]}, which is not in {self.folder}"
                + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
                + "; a line must be <word>/<name>.wav."
            )
        return np.array([name in wanted for name in self.names])


def _lines(path: Path) -> list[str]:
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(
            f"The list {path} cannot be read ({reason}); it must be UTF-8 text that names a"
            " recording a line, <word>/<name>.wav."
        ) from error
    return [line.strip() for line in text.splitlines()]


def list_words(folder: Path, speaker_pattern: str | None = None) -> WordList:
    """The recordings of a folder of ``<word>/*.wav``, or of the other kinds in ``SUFFIXES``.

    Folders whose name starts with "_" or "." (background noise, silence, unknown words) and empty
    folders are skipped; files of a word that are no audio are left out. No recording is skipped:
    one that lies in another folder, cannot be read, or occurs twice is an error.

    Args:
        folder: the folder.
        speaker_pattern: regular expression with one group, the speaker, searched for in
            ``<word>/<name>.wav``; None: speakers are unknown.

    Raises:
        UserError: the folder is missing, has no recording, or has one that is an error as above, a
            name that is no text, or a name in which the pattern is not found.
    """
    try:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: name one that holds <word>/*.wav.")
        _check_text(str(folder))
        found, left_out = [], []
        for word in _words(folder):
            recordings, others = _recordings(folder, word)
            found += recordings
            left_out += others
    except OSError as error:
        raise _unreadable(error) from error
    if not found:
        raise UserError(f"{folder} holds no recording; they belong into {folder}/<word>/*.wav.")
    files, states = zip(*found, strict=True)
    words = WordList(
        folder=folder,
        files=list(files),
        classes=list(dict.fromkeys(_normal(name.partition("/")[0]) for name in files)),
        speakers=None,
        stamps=list(map(stamp, states)),
        newest=max(state.st_mtime for state in states),
        left_out=left_out,
    )
    if speaker_pattern is None:
        return words
    return replace(words, speakers=find_speakers(words.names, speaker_pattern))


def _unreadable(error: OSError) -> UserError:
    wrong = "is a link that leads nowhere" if os.path.islink(error.filename) else "cannot be read"
    return UserError(f"{error.filename} {wrong} ({error.strerror}): mend or remove it.")


def _words(folder: Path) -> list[str]:
    """The names of the folders that are words, in order."""
    words = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] in "_.":
                continue
            if stat.S_ISDIR(entry.stat().st_mode):
                words.append(entry.name)
            elif _suffix(entry.name) in AUDIO:
                raise UserError(f"{entry.path} lies beside the words: {_belong(folder)}.")
    return _distinct(folder, words, _normal)


def _recordings(folder: Path, word: str) -> tuple[list[tuple[str, os.stat_result]], list[str]]:
    """``<word>/<name>`` and file status of a word's recordings; ``<word>/<name>`` of other files.

    Both are in order of name.
    """
    found, others = {}, []
    with os.scandir(folder / word) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            suffix = _suffix(entry.name)
            if suffix in AUDIO:
                found[entry.name] = _checked(entry, suffix)
            elif entry.is_dir():
                _check_depth(folder, Path(entry.path))
            else:
                others.append(f"{word}/{entry.name}")
    names = _distinct(folder / word, found, lambda name: _normal(os.path.splitext(name)[0]))
    return [(f"{word}/{name}", found[name]) for name in names], sorted(others)


def _checked(entry: os.DirEntry[str], suffix: str) -> os.stat_result:
    """The file status of a recording, after a check that it can be read."""
    state = entry.stat()
    if suffix not in SUFFIXES:
        wrong = f"is none of the kinds that are read ({', '.join(SUFFIXES)}): convert or remove it"
    elif not stat.S_ISREG(state.st_mode):
        wrong = "is a folder, a pipe or a device: remove it"
    elif state.st_size > LARGEST:
        wrong = f"has {state.st_size:,} bytes, more than {LONGEST_S} s of sound fill: remove it"
    else:
        return state
    raise UserError(f"{entry.path} {wrong}.")


def _check_depth(folder: Path, inner: Path) -> None:
    """Refuse recordings in a folder within a word's."""

    def fail(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(inner, onerror=fail):
        for name in names:
            if name[0] != "." and _suffix(name) in AUDIO:
                raise UserError(f"{place}/{name} lies too deep: {_belong(folder)}.")


def _belong(folder: Path) -> str:
    return (
        f"recordings belong into {folder}/<word>/, and a speaker into their names"
        " (<word>/<speaker>_<n>.wav)"
    )


def _distinct(folder: Path, names: Iterable[str], key: Callable[[str], str]) -> list[str]:
    """Names in order, after a check that no two have the same key: data would occur twice."""
    known: dict[str, str] = {}
    for name in names:
        _check_text(name, folder)
        other = known.setdefault(key(name), name)
        if other != name:
            raise UserError(
                f"{folder} has {other!a} and {name!a}, which are one name: rename or remove one."
            )
    return sorted(known.values(), key=_normal)


def _normal(name: str) -> str:
    """A name in Unicode's composed form (macOS and Linux write different forms)."""
    return unicodedata.normalize("NFC", name)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _check_text(name: str, folder: Path = Path()) -> None:
    if not is_showable(name):
        raise UserError(
            f"There is a path whose name is not UTF-8 text, or has control characters,"
            f" {str(folder / name)!a}: rename it."
        )
