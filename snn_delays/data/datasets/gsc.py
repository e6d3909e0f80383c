"""Google Speech Commands v0.02: 35 words, with official splits; downloaded if missing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from snn_delays.config import Config
from snn_delays.data.download import fetch, unpack
from snn_delays.data.formats.words import TEST_LIST, VALID_LIST, list_words
from snn_delays.data.sources import Source, word_sources
from snn_delays.errors import UserError

# Speech Commands v0.02, Warden 2018, arXiv 1804.03209.
GSC_URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
GSC_MD5 = "6b74f3901214cb2c2934e98196829835"
GSC_NAME = "speech_commands_v0.02"
GSC_FOLDERS = ("GSC", "gsc", f"GSC/{GSC_NAME}", GSC_NAME, f"SpeechCommands/{GSC_NAME}", ".")
GSC_SPEAKER = r"/([^/]+)_nohash_"
# Recordings of the official splits; 105,829 in all.
GSC_RECORDINGS = {"train": 84_843, "valid": 9_981, "test": 11_005}


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training, validation and test data."""
    data = config.data
    named = None if data.folder is None else Path(data.folder).expanduser()
    folder = speech_commands_folder(Path(data.root).expanduser(), named)
    if not (folder / TEST_LIST).is_file():
        raise UserError(
            f"{folder} is not Speech Commands v0.02, it has no {TEST_LIST}; words of your own are"
            " data=audio_folder."
        )
    data = replace(data, speaker_pattern=GSC_SPEAKER)
    words = list_words(folder, GSC_SPEAKER)
    test, valid = words.listed(folder / TEST_LIST), words.listed(folder / VALID_LIST)
    splits = {"train": ~test & ~valid, "valid": valid, "test": test}
    for split, mask in splits.items():
        if mask.sum() != GSC_RECORDINGS[split]:
            raise UserError(
                f"{folder} has {mask.sum()} recordings for split {split}, Speech Commands v0.02 has"
                f" {GSC_RECORDINGS[split]}: unpack it anew, or use data=audio_folder."
            )
    return word_sources(words, splits, data)


def speech_commands_folder(root: Path, named: Path | None = None) -> Path:
    """The folder of Speech Commands v0.02; the archive is unpacked, or downloaded if missing.

    Args:
        root: folder of the data sets.
        named: the folder or the archive itself, if given; nothing is downloaded then.

    Raises:
        UserError: a checksum is wrong, or the data set is missing and cannot be downloaded.
    """
    home, archive = root / "GSC", f"{GSC_NAME}.tar.gz"
    if named is not None:
        if named.is_dir():
            return named
        if not named.is_file():
            raise UserError(
                f"There is no folder or archive {named}: data.folder must name {archive} or the"
                " folder unpacked from it; without data.folder the data set is looked for in"
                f" {home}/ and downloaded."
            )
        return _unpack_tree(named)
    for folder in (root / name for name in GSC_FOLDERS):
        if (folder / TEST_LIST).is_file() and (folder / VALID_LIST).is_file():
            return folder
    for folder in (home, root):
        if (folder / archive).is_file():
            return _unpack_tree(folder / archive)
    try:
        fetch(GSC_URL, home / archive, GSC_MD5)
    except UserError as error:
        raise UserError(
            f"Speech Commands is missing. {error} Without a network put {archive}, or the folders"
            f" in it, into {home}/, or set data.folder to their folder."
        ) from error
    return _unpack_tree(home / archive)


def _unpack_tree(archive: Path) -> Path:
    """Unpack into a temporary folder beside the archive, then rename it."""
    home = archive.parent / GSC_NAME

    def place(scratch: Path) -> None:
        if not home.is_dir():  # else another process was faster
            os.rename(scratch, home)

    if not home.is_dir():
        unpack(archive, GSC_MD5, place)
    return home
