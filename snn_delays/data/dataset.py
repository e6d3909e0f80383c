"""From ``config.data`` to the samples of each split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snn_delays.config import Config
from snn_delays.config.datasets import kind_of
from snn_delays.data.datasets import find_sources
from snn_delays.data.formats.words import list_words
from snn_delays.data.frame_cache import FrameStore, cache_folder, open_frames
from snn_delays.data.loaders import Samples
from snn_delays.data.remarks import remarks
from snn_delays.data.sources import Source, SpikeSource, WordSource
from snn_delays.data.splits import (
    Labelled,
    first_names,
    hold_out_test,
    hold_out_valid,
    sort_names,
)
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Data:
    """The splits of a data set for one protocol.

    Attributes:
        train: training samples; with protocols "last" and "paper" all that are not for testing.
        valid: validation samples, which choose the epoch; None with protocols "last" and "paper".
        everything: training and validation samples.
        test: test samples.
        stores: the frame stores of the splits: "train", and "valid" and "test" if they have files
            of their own.
        split: a sentence on the origin of the validation data, and of test data without a file.
        remarks: sentences about oddities of the recordings.
    """

    train: Samples
    valid: Samples | None
    everything: Samples
    test: Samples
    stores: dict[str, FrameStore]
    split: str
    remarks: list[str]

    @property
    def classes(self) -> list[str]:
        """Class names, in order of their label."""
        return self.stores["train"].classes

    def describe(self) -> dict[str, Any]:
        """Files with their digests and sizes, the split, remarks, and one digest of all files."""
        digests = "".join(f"{split}:{store.digest};" for split, store in self.stores.items())
        return {
            "hash": hashlib.sha256(digests.encode()).hexdigest()[:12],
            "files": {
                split: {"name": store.source.name, "sha256": store.digest, "samples": len(store)}
                for split, store in self.stores.items()
            },
            "split": self.split,
            "remarks": self.remarks,
        }

    def describe_split(self) -> dict[str, Any]:
        """For each split its file and its samples: "all", or their indices."""
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


def other_source(config: Config, path: Path, classes: list[str]) -> Source:
    """A source of other recordings than the run's own, of the same kind.

    Args:
        config: the run's options.
        path: a file of spikes, or a folder of words if the run's data are audio.
        classes: class names that the network knows.

    Raises:
        UserError: the folder has a word that the network does not know.
    """
    if not config.data.audio:
        return SpikeSource(path, config.data, config.frame_arithmetic)
    words = list_words(path)
    unknown = sorted(set(words.classes) - set(classes))
    if unknown:
        raise UserError(f"{path} has the word {unknown[0]}, which the network does not know.")
    data = replace(config.data, speaker_pattern=None)
    return WordSource(replace(words, classes=classes), "other", data)


def open_stores(config: Config, *, fresh: bool = False) -> Iterator[tuple[str, FrameStore]]:
    """Name and frame store of each split, made if missing; and of waveforms if they are augmented.

    Raises:
        UserError: a file is missing or malformed, or the cache cannot be written.
    """
    folder, augment = cache_folder(config.data), config.data.augment
    sources = find_sources(config, fresh=fresh)
    for source in sources.values():
        source.check()
    for split, source in sources.items():
        store = open_frames(source, folder, fresh=fresh)
        yield split, store
        if split != "test" and augment.of_waves:
            yield f"{split} waveforms", store.waveforms


def read_classes(config: Config) -> list[str]:
    """Class names of the training data, whose frames are made if missing.

    Raises:
        UserError: the file is missing or malformed, or the cache cannot be written.
    """
    source = find_sources(config)["train"]
    source.check()
    return open_frames(source, cache_folder(config.data)).classes


def load_data(config: Config) -> Data:
    """Open every split; missing frames are made first.

    Raises:
        UserError: a file is missing, malformed, or does not fit the others.
    """
    stores = {name: store for name, store in open_stores(config) if " " not in name}
    train = stores["train"]
    for store in stores.values():
        check_classes(store, train.classes)
    rest, test, sentences = Samples.of(train), None, []
    if "test" in stores:
        test = Samples.of(stores["test"])
    else:
        mask, sentence = hold_out_test(_labelled(rest), config.data)
        rest, test = rest.where(~mask), rest.where(mask)
        sentences = [f"test: {sentence}"]
    everything = rest + Samples.of(stores["valid"]) if "valid" in stores else rest
    valid, split = None, "no validation data"
    if config.train.protocol in ("validation", "refit"):
        rest, valid, split = _split(config, stores, rest)
    rule = "; ".join([split, *sentences])
    splits = {"train": rest, "valid": valid, "test": test}
    for samples in splits.values():
        if samples:
            _check_targets(samples, config.data.target)
    odd = remarks({name: samples for name, samples in splits.items() if samples}, config.data)
    return Data(rest, valid, everything, test, stores, rule, odd)


def _check_targets(samples: Samples, target: str) -> None:
    """Refuse targets that are constant, or of another kind than ``data.target`` names."""
    if samples.has_targets != (target == "per_step"):
        has = "targets per step" if samples.has_targets else "classes"
        raise UserError(f"{samples.stores[0].source} has {has}, but data.target={target}.")
    if samples.has_targets and not samples.target_variance:
        raise UserError(f"{samples.stores[0].source}: all targets are the same number.")


def _labelled(samples: Samples) -> Labelled:
    return Labelled(str(samples.stores[0].source), samples.labels, samples.speakers)


def _split(
    config: Config, stores: dict[str, FrameStore], train: Samples
) -> tuple[Samples, Samples, str]:
    if "valid" in stores:
        kind = kind_of(config.data.name).validation or "validation file"
        return train, Samples.of(stores["valid"]), f"{kind} {stores['valid'].source.name}"
    mask, sentence = hold_out_valid(_labelled(train), config.data)
    return train.where(~mask), train.where(mask), sentence


def stored_samples(config: Config, split: dict[str, Any], name: str) -> Samples:
    """The samples of a split of a finished run.

    Args:
        config: the run's options.
        split: content of the run's split.json (``Data.describe_split``).
        name: "train", "valid" or "test".

    Raises:
        UserError: the recordings have changed since the run.
    """
    noted, sources = split[name], find_sources(config)
    if noted["file"] not in list(sources):
        raise UserError(
            f"The run's {name} data come from a file that its options do not name: {noted['file']}."
        )
    store = open_frames(sources[noted["file"]], cache_folder(config.data))
    if store.digest != noted["sha256"]:
        raise UserError(
            f"{store.source} has changed since the run, so it is unknown which of its recordings"
            " were trained on; evaluate other recordings by file=<path>."
        )
    if noted["samples"] == "all":
        return Samples.of(store)
    mask = np.zeros(len(store), bool)
    try:
        mask[np.array(noted["samples"], np.int64)] = True
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(
            f"{store.source} does not have the recordings of the run's {name} data."
        ) from error
    return Samples.of(store).where(mask)


def check_classes(store: FrameStore, classes: list[str]) -> None:
    """Refuse a file whose classes differ from the network's.

    Raises:
        UserError: a class has another name, or a label has no class.
    """
    known = len(classes)
    fewer = len(store.classes) < known and store.has_targets
    same = store.classes[:known] == classes[: len(store.classes)]
    if fewer or not same or np.max(store.labels) >= known:
        answers = "outputs" if store.has_targets else "classes"
        raise UserError(
            f"{store.source} has the {answers} {first_names(store.classes)}; the training file has"
            f" {first_names(classes)}."
        )
