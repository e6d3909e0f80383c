"""Which samples train and which select: decided by speakers, never by the test set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import DataConfig
from snn_delays.data.cache import FrameStore
from snn_delays.errors import UserError


def held_out(store: FrameStore, data: DataConfig) -> tuple[NDArray[np.bool_], str]:
    """The samples of a training file to hold out for validation.

    Named speakers, or a share of the speakers drawn by ``data.split_seed``; where a file knows
    fewer than two speakers, a share of every class.

    Returns:
        [N] True where held out, and a sentence that says what was done.

    Raises:
        UserError: a named speaker is not in the file, or nothing would be left to train on.
    """
    rng = np.random.default_rng(data.split_seed)
    known = [] if store.speakers is None else [int(s) for s in np.unique(store.speakers)]
    chosen = data.valid_speakers
    if chosen is None and len(known) < 2:
        return _stratified(store.labels, data.valid_share, rng), (
            f"{data.valid_share:.0%} of every class"
        )
    if chosen is None:
        number = min(max(1, round(data.valid_share * len(known))), len(known) - 1)
        chosen = [int(s) for s in sorted(rng.permutation(known)[:number])]
    missing = sorted(set(chosen) - set(known))
    if missing or not chosen:
        raise UserError(
            f"data.valid_speakers={chosen} must name speakers of {store.source}, which has {known}."
        )
    if set(chosen) == set(known):
        raise UserError(f"data.valid_speakers={chosen} leaves no speaker of {known} to train on.")
    assert store.speakers is not None
    return np.isin(store.speakers, chosen), f"held-out speakers {', '.join(map(str, chosen))}"


def _stratified(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        mask[members[: max(1, round(share * len(members)))]] = True
    if mask.all():
        raise UserError("The training file is too small to hold out samples for validation.")
    return mask
