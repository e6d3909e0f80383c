"""From ``config.data`` to the samples of each split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snn_delays.config import Config
from snn_delays.data.cache import FrameStore, cache_folder, open_frames
from snn_delays.data.events import official_file
from snn_delays.data.loaders import Samples
from snn_delays.data.splits import held_out
from snn_delays.data.synthetic import synthetic_files
from snn_delays.errors import UserError


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
        digests = "".join(f"{split}:{store.sha256};" for split, store in self.stores.items())
        return {
            "hash": hashlib.sha256(digests.encode()).hexdigest()[:12],
            "files": {
                split: {"name": store.source.name, "sha256": store.sha256, "samples": len(store)}
                for split, store in self.stores.items()
            },
            "split": self.split,
        }


def find_files(config: Config) -> dict[str, Path]:
    """The file of each split ("train", "test", and "valid" where there is one).

    Raises:
        UserError: a file is missing or not the published one.
    """
    data = config.data
    if data.name == "synthetic":
        return synthetic_files(data.synthetic, cache_folder(config))
    if data.name in ("shd", "ssc"):
        splits = ("train", "test") if data.name == "shd" else ("train", "valid", "test")
        return {s: official_file(data.name, s, Path(data.root).expanduser()) for s in splits}
    named = {"train": data.train_file, "valid": data.valid_file, "test": data.test_file}
    return {split: Path(file).expanduser() for split, file in named.items() if file is not None}


def load_data(config: Config) -> Data:
    """Open every split, making its frames where needed.

    Raises:
        UserError: a file is missing, malformed, or does not fit the others.
    """
    stores = {split: open_frames(path, config) for split, path in find_files(config).items()}
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
        sentence = f"validation file {stores['valid'].source.name}"
        return Samples.of(train), Samples.of(stores["valid"]), sentence
    mask, sentence = held_out(train, config.data)
    return Samples.of(train, ~mask), Samples.of(train, mask), sentence


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
