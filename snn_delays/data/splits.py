"""Training, validation and test samples: chosen by names and a seed, never by results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import DataConfig
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Labelled:
    """Recordings to split.

    Attributes:
        name: the recordings' name in messages.
        labels: [N].
        speakers: [N], or None if unknown.
    """

    name: str
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_] | None

    @property
    def known(self) -> list[str]:
        """The speakers that occur, each once; names that are numbers are sorted as numbers."""
        return [] if self.speakers is None else sort_names(np.unique(self.speakers))


def sort_names(names: Iterable[str] | NDArray[np.str_]) -> list[str]:
    """Names in order: "2" before "10" before "anna"."""
    return sorted(map(str, names), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))


def first_names(names: Sequence[str]) -> str:
    """The first dozen names, as one text for a message."""
    most = 12
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def hold_out_valid(recordings: Labelled, data: DataConfig) -> tuple[NDArray[np.bool_], str]:
    """Choose the training samples to hold out for validation, as ``data.split`` says.

    Returns:
        A mask [N], True where held out, and a sentence that describes the choice.

    Raises:
        UserError: a speaker does not occur, or nothing would be left to train on.
    """
    known, rng = recordings.known, np.random.default_rng(data.split_seed)
    if data.split == "fold":
        return _fold(recordings, "data.fold", data.fold)
    by_speaker = data.valid_speakers is not None or data.valid_count is not None
    if data.split == "random" or (data.split == "auto" and len(known) < 2 and not by_speaker):
        return _stratified(recordings, data.valid_share, rng)
    if data.valid_speakers is not None:
        return _named(recordings, "data.valid_speakers", data.valid_speakers)
    if len(known) < 2:
        raise UserError(f"{recordings.name} knows fewer than two speakers; use data.split=random.")
    count = data.valid_count or max(1, round(data.valid_share * len(known)))
    if count >= len(known):
        if data.valid_count is not None:
            raise UserError(
                f"data.valid_count={count} leaves none of the {len(known)} speakers to train on."
            )
        count = len(known) - 1
    return _named(recordings, "", sort_names(rng.permutation(known)[:count]))


def hold_out_test(recordings: Labelled, data: DataConfig) -> tuple[NDArray[np.bool_], str]:
    """Choose the recordings to test on, for data without a test file or list.

    Returns:
        A mask [N], True where held out, and a sentence that describes the choice.

    Raises:
        UserError: a speaker does not occur, or nothing would be left to train on.
    """
    rng, known = np.random.default_rng([data.split_seed, 1]), recordings.known
    if data.test_speakers is not None:
        return _named(recordings, "data.test_speakers", data.test_speakers)
    if data.test_fold is not None:
        return _fold(recordings, "data.test_fold", data.test_fold)
    if len(known) < 2:
        return _stratified(recordings, data.test_share, rng)
    count = min(max(1, round(data.test_share * len(known))), len(known) - 1)
    return _named(recordings, "", sort_names(rng.permutation(known)[:count]))


def _fold(recordings: Labelled, option: str, fold: int) -> tuple[NDArray[np.bool_], str]:
    known = recordings.known
    if len(known) < 2:
        raise UserError(
            f"{option} needs two speakers or more; {recordings.name} knows {len(known)}."
        )
    if fold >= len(known):
        raise UserError(f"{option}={fold} must be below {len(known)}, the number of speakers.")
    mask, sentence = _named(recordings, "", [known[fold]])
    return mask, f"{sentence}, fold {fold + 1} of {len(known)}"


def _named(
    recordings: Labelled, option: str, chosen: Sequence[str]
) -> tuple[NDArray[np.bool_], str]:
    known = recordings.known
    missing = sort_names(set(chosen) - set(known))
    shown = f"{option}=[{','.join(chosen)}]"
    if missing or not chosen:
        raise UserError(
            f"{shown} must name speakers of {recordings.name}, which has [{first_names(known)}]."
        )
    if set(chosen) == set(known):
        raise UserError(f"{shown} leaves no speaker of {recordings.name} to train on.")
    assert recordings.speakers is not None
    return np.isin(recordings.speakers, chosen), f"held-out speakers {', '.join(chosen)}"


def _stratified(
    recordings: Labelled, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], str]:
    mask = np.zeros(len(recordings.labels), bool)
    labels, counts = np.unique(recordings.labels, return_counts=True)
    by_label = np.split(np.argsort(recordings.labels, kind="stable"), np.cumsum(counts)[:-1])
    for label, members in zip(labels, map(rng.permutation, by_label), strict=True):
        number = max(1, round(share * len(members)))
        if number == len(members):
            raise UserError(
                f"{recordings.name} is too small to hold out a share of every class: class {label}"
                f" has {number} recordings."
            )
        mask[members[:number]] = True
    return mask, f"{share:.0%} of every class"
