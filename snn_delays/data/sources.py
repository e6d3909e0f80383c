"""From ``config.data`` to the samples of each split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snn_delays.config import Config, DataConfig
from snn_delays.data.cache import cache_folder, open_frames
from snn_delays.data.datasets.published import Places, speech_commands_folder, spike_file
from snn_delays.data.datasets.words import (
    GSC_SPEAKER,
    TEST_LIST,
    VALID_LIST,
    WordList,
    list_words,
)
from snn_delays.data.loaders import Samples
from snn_delays.data.recordings import Source, SpikeSource, WordSource
from snn_delays.data.splits import Labelled, hold_out_test, hold_out_valid, sort_names
from snn_delays.data.store import FrameStore
from snn_delays.data.synthetic import synthetic_files
from snn_delays.errors import UserError

# Recordings of Speech Commands v0.02 by its own lists; 105,829 in all.
GSC_RECORDINGS = {"train": 84_843, "valid": 9_981, "test": 11_005}


@dataclass(frozen=True)
class Data:
    """The splits of a data set, as a protocol wants them.

    Attributes:
        train: samples to train on; all of the training file where nothing is selected on
            validation data (protocols "last" and "paper").
        valid: samples to select on, or None.
        everything: the training file and the validation file, if there is one.
        test: samples to test on.
        stores: the file behind each split: "train", "test", and "valid" where there is one.
        split: a sentence that says where valid comes from.
    """

    train: Samples
    valid: Samples | None
    everything: Samples
    test: Samples
    stores: dict[str, FrameStore]
    split: str

    @property
    def classes(self) -> list[str]:
        """Class names, in order of their label."""
        return self.stores["train"].classes

    def describe(self) -> dict[str, Any]:
        """Files with their digests and sizes, the split, and one digest of all files."""
        digests = "".join(f"{split}:{store.digest};" for split, store in self.stores.items())
        return {
            "hash": hashlib.sha256(digests.encode()).hexdigest()[:12],
            "files": {
                split: {"name": store.source.name, "sha256": store.digest, "samples": len(store)}
                for split, store in self.stores.items()
            },
            "split": self.split,
        }

    def describe_split(self) -> dict[str, Any]:
        """Which samples of which file each split has: "all", or their numbers."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            "rule": self.split,
            **{name: self._members(samples) for name, samples in splits.items() if samples},
        }

    def _members(self, samples: Samples) -> dict[str, Any]:
        (store,), numbers = samples.stores, samples.rows[:, 1]
        (file,) = (split for split, s in self.stores.items() if s is store)
        speakers = None if samples.speakers is None else sort_names(np.unique(samples.speakers))
        return {
            "file": file,
            "sha256": store.digest,
            "speakers": speakers,
            "samples": "all" if len(samples) == len(store) else numbers.tolist(),
        }


def find_sources(config: Config, *, fresh: bool = False) -> dict[str, Source]:
    """The recordings of each split ("train", "test", and "valid" where there is one).

    Args:
        config: options.
        fresh: take checksums of published files anew.

    Raises:
        UserError: a file is missing or not the published one.
    """
    data = config.data
    if data.name == "gsc":
        return _speech_commands(data)
    if data.name == "audio_folder":
        return _audio_folder(data)
    return {
        split: SpikeSource(path, data, config.frame_arithmetic)
        for split, path in _spike_files(data, fresh).items()
    }


def _spike_files(data: DataConfig, fresh: bool) -> dict[str, Path]:
    if data.name == "synthetic":
        return synthetic_files(data.synthetic, cache_folder(data))
    named = {"train": data.train_file, "valid": data.valid_file, "test": data.test_file}
    paths = {split: Path(file).expanduser() for split, file in named.items() if file is not None}
    if data.name == "spikes":
        return paths
    places = Places(Path(data.root).expanduser(), cache_folder(data), fresh)
    splits = ("train", "test") if data.name == "shd" else ("train", "valid", "test")
    return {split: spike_file(data.name, split, places, paths.get(split)) for split in splits}


def _speech_commands(data: DataConfig) -> dict[str, Source]:
    named = None if data.folder is None else Path(data.folder).expanduser()
    folder = speech_commands_folder(Path(data.root).expanduser(), named)
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
    return _word_sources(words, splits, data)


def _audio_folder(data: DataConfig) -> dict[str, Source]:
    folder = Path(str(data.folder)).expanduser()
    words = list_words(folder, data.speaker_pattern)
    splits = {}
    valid_list = _list(folder, data.valid_list, VALID_LIST)
    if valid_list is not None:
        splits["valid"] = words.listed(valid_list)
    test_list = _list(folder, data.test_list, TEST_LIST)
    if test_list is not None and data.test_speakers is None:
        splits["test"] = words.listed(test_list)
    else:
        rest = ~splits["valid"] if "valid" in splits else np.ones(len(words.files), bool)
        left = words.where(rest)
        splits["test"] = np.zeros(len(words.files), bool)
        splits["test"][rest] = hold_out_test(
            Labelled(str(folder), left.labels, left.speakers), data
        )[0]
    if "valid" in splits and (splits["valid"] & splits["test"]).any():
        raise UserError(f"{valid_list} and {test_list} name the same recordings.")
    splits["train"] = ~np.any(list(splits.values()), axis=0)
    for split, mask in splits.items():
        if not mask.any():
            raise UserError(f"{folder}: no recording is left for split {split}.")
    return _word_sources(words, splits, data)


def _list(folder: Path, named: str | None, usual: str) -> Path | None:
    if named is not None:
        return Path(named).expanduser()
    return folder / usual if (folder / usual).is_file() else None


def _word_sources(words: WordList, splits: dict[str, Any], data: DataConfig) -> dict[str, Source]:
    ordered = [split for split in ("train", "valid", "test") if split in splits]
    return {split: WordSource(words.where(splits[split]), split, data) for split in ordered}


def other_source(config: Config, path: Path) -> Source:
    """Recordings beside a run's own: a file of spikes, or a folder of words, as its data is."""
    if config.data.audio:
        return WordSource(
            list_words(path, None), path.name, replace(config.data, speaker_pattern=None)
        )
    return SpikeSource(path, config.data, config.frame_arithmetic)


def load_data(config: Config) -> Data:
    """Open every split, making its frames where needed.

    Raises:
        UserError: a file is missing, malformed, or does not fit the others.
    """
    folder = cache_folder(config.data)
    stores = {s: open_frames(source, folder) for s, source in find_sources(config).items()}
    train = stores["train"]
    for store in stores.values():
        check_classes(store, train.classes)
    whole, valid = Samples.of(train), None
    everything = whole + Samples.of(stores["valid"]) if "valid" in stores else whole
    rest, split = whole, "no validation data"
    if config.train.protocol in ("validation", "refit"):
        rest, valid, split = _split(config, stores)
    return Data(rest, valid, everything, Samples.of(stores["test"]), stores, split)


def _split(config: Config, stores: dict[str, FrameStore]) -> tuple[Samples, Samples, str]:
    train = stores["train"]
    if "valid" in stores:
        official = config.data.name in ("ssc", "gsc")
        name = "official validation split" if official else "validation file"
        return Samples.of(train), Samples.of(stores["valid"]), f"{name} {_name(stores['valid'])}"
    recordings = Labelled(str(train.source), train.labels, train.speakers)
    mask, sentence = hold_out_valid(recordings, config.data)
    return Samples.of(train, ~mask), Samples.of(train, mask), sentence


def _name(store: FrameStore) -> str:
    return store.source.name


def stored_samples(config: Config, split: dict[str, Any], name: str) -> Samples:
    """The samples of a split as a run noted them (``Data.describe_split``).

    Args:
        config: the run's options.
        split: what was noted.
        name: "train", "valid" or "test".

    Raises:
        UserError: the file is another one now.
    """
    noted = split[name]
    store = open_frames(find_sources(config)[noted["file"]], cache_folder(config.data))
    if store.digest != noted["sha256"]:
        raise UserError(f"{store.source} has changed since the run: its split cannot be had again.")
    if noted["samples"] == "all":
        return Samples.of(store)
    mask = np.zeros(len(store), bool)
    mask[noted["samples"]] = True
    return Samples.of(store, mask)


def check_classes(store: FrameStore, classes: list[str]) -> None:
    """Refuse a file whose classes are not those that the network knows.

    Raises:
        UserError: other names, or a label beyond them.
    """
    known = len(classes)
    if store.classes[:known] != classes[: len(store.classes)] or np.max(store.labels) >= known:
        raise UserError(
            f"{store.source} has the classes {', '.join(store.classes)}; the training file has"
            f" {', '.join(classes)}."
        )
