"""The width of the Gaussian taps over epochs."""

from __future__ import annotations

from snn_delays.config import SIGMA_OFFSET, TrainConfig


def sigma_at(epoch: int, train: TrainConfig, taps: int) -> float:
    """Effective width s = SIG + 0.27 in steps during an epoch, counted from 0.

    Exponential: ``SIG = SIG_0 (SIG_end / SIG_0)^(epoch / E)`` until epoch E, with SIG_0 = taps // 2
    and E = epochs // 4 by default; E = 0 never shrinks it. Constant: the end width from the start.
    """
    if train.sigma_schedule == "constant":
        return train.sigma_end
    start = taps // 2 + SIGMA_OFFSET if train.sigma_start is None else train.sigma_start
    last = train.epochs // 4 if train.sigma_epochs is None else train.sigma_epochs
    if start <= train.sigma_end or (last and epoch >= last):
        return train.sigma_end
    if last == 0:
        return start
    first, end = start - SIGMA_OFFSET, train.sigma_end - SIGMA_OFFSET
    return first * (end / first) ** (epoch / last) + SIGMA_OFFSET
