"""The schedules of sigma, the width of a delay's taps, and of the rounding of delays."""

from __future__ import annotations

from snn_delays.config import Config, sigma_offset


def is_rounded(epoch: int, config: Config) -> bool:
    """Whether delays are rounded and frozen in an epoch, counted from 0: in the last ones alone."""
    train = config.train
    return epoch >= train.epochs - round(train.round_epochs * train.epochs)


def sigma_at(epoch: int, config: Config) -> float:
    """Effective width s = SIG + offset in steps during an epoch, counted from 0.

    The offset is that of ``model.delay_kernel``. Exponential: ``SIG = SIG_0 (SIG_end /
    SIG_0)^(epoch / E)`` until epoch E, with SIG_0 = taps // 2 and E = epochs // 4 by default; E = 0
    never shrinks it. Constant: the end width from the start.
    """
    train, offset = config.train, sigma_offset(config.model.delay_kernel)
    if train.sigma_schedule == "constant":
        return config.sigma_end
    start = train.sigma_start
    if start is None:
        start = config.model.layer_taps // 2 + offset
    last = train.epochs // 4 if train.sigma_epochs is None else train.sigma_epochs
    if start <= config.sigma_end or (last and epoch >= last):
        return config.sigma_end
    if last == 0:
        return start
    first, end = start - offset, config.sigma_end - offset
    return first * (end / first) ** (epoch / last) + offset


def recurrent_sigma_at(epoch: int, config: Config) -> float:
    """Width of recurrent delays' taps in steps during an epoch, counted from 0.

    ``recurrent_sigma_start recurrent_sigma_decay^(100 epoch / epochs)``.
    """
    train = config.train
    return train.recurrent_sigma_start * train.recurrent_sigma_decay ** (100 * epoch / train.epochs)
