"""Augmentation of training batches. Shapes: T time, B batch, I input channels, K classes.

The order is fixed. What mixes samples comes first, so that shifts and masks act on the mixture as
on any recording; what moves a sample comes before what removes parts of it; noise comes last, as a
sensor's background also fills silent stretches:

    blend, cutmix, time_shift, channel_shift, spike_drop, time_mask, channel_mask, noise_spikes

Each has a random stream of its own, so switching one on leaves the draws of the others as they
were. None changes the batch that it is given: each returns a new array.

Silence is 0 in spike counts. Real values, such as a log-mel spectrogram, have no natural zero: the
smallest value of a sample stands for its silence. Padding behind is zeros in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import AugmentConfig
from snn_delays.errors import UserError

_SPIKES_ONLY = ("blend", "spike_drop", "noise_spikes")


def augment(
    x_TBI: NDArray[Any],
    labels: NDArray[np.int64],
    classes: int,
    settings: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Change a training batch as ``settings`` say.

    Args:
        x_TBI: spike counts (integers), or real values, padded with zeros behind; never changed.
        labels: [B], below ``classes``.
        classes: number of classes K.
        settings: what is on; by default everything is off.
        rng: the same state gives the same result. It advances by the same draws whatever is on.

    Returns:
        The batch: ``x_TBI`` itself where nothing is on, otherwise a new array, whose integers are
        wider where counts would not fit. And the probability of each class, [B, K], rows summing
        to 1, where ``settings.cutmix`` is on; otherwise None, and ``labels`` hold.

    Raises:
        UserError: an augmentation of spikes is on and ``x_TBI`` has real values.
    """
    _check(x_TBI, settings)
    streams = _streams(rng)
    targets = None
    if settings.blend > 0:
        x_TBI = blend(x_TBI, labels, settings.blend, streams["blend"])
    if settings.cutmix > 0:
        x_TBI, targets = cutmix(x_TBI, labels, classes, settings.cutmix, streams["cutmix"])
    for name, change in _CHANGES.items():
        value = getattr(settings, name)
        if value > 0:
            x_TBI = change(x_TBI, value, streams[name])
    return x_TBI, targets


def blend(
    x_TBI: NDArray[Any], labels: NDArray[np.int64], p: float, rng: np.random.Generator
) -> NDArray[Any]:
    """Blend a sample, with probability ``p``, with another of its class in the batch.

    Both are moved towards each other until their centres of mass, in steps and channels, coincide
    to the nearest step and channel; then each spike of either is kept with probability 1/2. Spikes
    moved over the edge are lost. A sample alone in its class stays as it is.

    Nowotny, Turner, Knight, "Loss shaping enhances exact gradient learning with Eventprop in
    spiking neural networks", arXiv 2212.01232. There such blends extend the training set.

    Args:
        x_TBI: counts.
        labels: [B].
        p: probability, 0 to 1.
        rng: source of the draws.
    """
    own = np.arange(x_TBI.shape[1])
    partner = _partners(labels, rng)
    chosen = np.flatnonzero((rng.random(own.size) < p) & (partner != own))
    apart_2B = _apart(x_TBI, partner)[:, chosen]
    near_2B = -(apart_2B // 2)
    mixed = _widen(_move(x_TBI[:, chosen], near_2B), 2 * _largest(x_TBI))
    mixed += _move(x_TBI[:, partner[chosen]], near_2B + apart_2B)
    out = x_TBI.astype(mixed.dtype)
    out[:, chosen] = spike_drop(mixed, 0.5, rng)  # thinning the sum thins each
    return out


def cutmix(
    x_TBI: NDArray[Any],
    labels: NDArray[np.int64],
    classes: int,
    p: float,
    rng: np.random.Generator,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Take a stretch of time of a sample, with probability ``p``, from another of the batch.

    The stretch has a share of the sample's own steps that is uniform in (0, 1), rounded to steps,
    and a uniform place among them; own steps end with the last that is not all silence. The label
    is mixed by the steps that are not all silence: a class weighs as much as its share of those in
    the mixture. So padding and silence, which tell nothing of a class, earn it no weight.

    Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: regularization strategy to train strong classifiers
    with localizable features", arXiv 1905.04899; there a rectangle of an image.

    Args:
        x_TBI: counts or real values.
        labels: [B].
        classes: number of classes K.
        p: probability, 0 to 1.
        rng: source of the draws.

    Returns:
        The batch, and the probability of each class, [B, K].
    """
    own = np.arange(x_TBI.shape[1])
    partner = _partners(np.zeros_like(labels), rng)
    chosen = (rng.random(own.size) < p) & (partner != own)
    full_TB = _full(x_TBI)
    steps_B = _own_steps(full_TB)
    width_B = np.rint(rng.random(own.size) * steps_B).astype(np.int64) * chosen
    cut_TB = _stretch(len(x_TBI), steps_B, width_B, rng)
    got = (full_TB[:, partner] & cut_TB).sum(axis=0)
    kept = (full_TB & ~cut_TB).sum(axis=0)
    share = got / np.maximum(got + kept, 1)
    targets = np.zeros((own.size, classes), np.float32)
    targets[own, labels] = 1 - share
    targets[own, labels[partner]] += share
    return np.where(cut_TB[:, :, None], x_TBI[:, partner], x_TBI), targets


def time_shift(x_TBI: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Shift every sample in time by its own number of steps, uniform in [-most, most].

    What leaves is lost; silence comes in. TensorFlow's example for Speech Commands shifts its
    recordings likewise (Warden, arXiv 1804.03209, describes the data).
    """
    by_B = rng.integers(-most, most, x_TBI.shape[1], endpoint=True)
    return _move(x_TBI, np.stack([by_B, np.zeros_like(by_B)]))


def channel_shift(x_TBI: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Shift every sample over channels by its own number of them, uniform in [-most, most].

    What leaves is lost; silence comes in. Nowotny et al., arXiv 2212.01232 (see ``blend``).
    """
    by_B = rng.integers(-most, most, x_TBI.shape[1], endpoint=True)
    return _move(x_TBI, np.stack([np.zeros_like(by_B), by_B]))


def spike_drop(x_TBI: NDArray[Any], p: float, rng: np.random.Generator) -> NDArray[Any]:
    """Leave out every spike of the counts, independently, with probability ``p``.

    Gu, Sng, Hu, Yu, "EventDrop: data augmentation for event-based learning", arXiv 2106.05836.
    """
    count = x_TBI.reshape(-1)
    left = count - (_coins(count.size, p, rng) & (count > 0)).view(np.uint8)
    some, k = np.flatnonzero(count > 1), 1
    while some.size:  # the next spike of ever fewer cells
        left[some] -= rng.random(some.size, np.float32) < p
        k += 1
        some = some[np.flatnonzero(count[some] > k)]
    return left.reshape(x_TBI.shape)


def time_mask(x_TBI: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Silence one stretch of steps per sample: width uniform in [0, most], place uniform.

    The stretch lies within the sample's own steps, which end with the last that is not all silence,
    and is never longer than they are.

    Park, Chan, Zhang, Chiu, Zoph, Cubuk, Le, "SpecAugment", arXiv 1904.08779.
    """
    steps_B = _own_steps(_full(x_TBI))
    width_B = rng.integers(0, np.minimum(most, steps_B), endpoint=True)
    inside_TB = _stretch(len(x_TBI), steps_B, width_B, rng)
    return np.where(inside_TB[:, :, None], _silence(x_TBI)[:, None], x_TBI)


def channel_mask(x_TBI: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Silence one band of channels per sample: width uniform in [0, most], place uniform.

    Park et al., arXiv 1904.08779 (see ``time_mask``).
    """
    _, samples, channels = x_TBI.shape
    width_B = rng.integers(0, min(most, channels), samples, endpoint=True)
    inside_IB = _stretch(channels, np.full(samples, channels), width_B, rng)
    return np.where(inside_IB.T, _silence(x_TBI)[:, None], x_TBI)


def noise_spikes(x_TBI: NDArray[Any], mean: float, rng: np.random.Generator) -> NDArray[Any]:
    """Strew in spikes: Poisson, ``mean`` of them per sample and step, uniform over channels.

    Padding gets its share too. Tonic's ``UniformNoise`` (Lenz et al., tonic.readthedocs.io) strews
    a fixed number of events uniformly over channels and time.
    """
    steps, samples, _ = x_TBI.shape
    number = int(rng.poisson(mean * steps * samples))
    strewn = np.zeros(x_TBI.size, np.min_scalar_type(number))
    np.add.at(strewn, rng.integers(0, x_TBI.size, number), strewn.dtype.type(1))
    out = _widen(x_TBI, _largest(x_TBI) + _largest(strewn))
    out += strewn.reshape(out.shape).astype(out.dtype)
    return out


_CHANGES: dict[str, Callable[..., NDArray[Any]]] = {
    "time_shift": time_shift,
    "channel_shift": channel_shift,
    "spike_drop": spike_drop,
    "time_mask": time_mask,
    "channel_mask": channel_mask,
    "noise_spikes": noise_spikes,
}
_STREAMS = ("blend", "cutmix", *_CHANGES)  # a new augmentation goes behind, to keep the others'


def _check(x_TBI: NDArray[Any], settings: AugmentConfig) -> None:
    if not np.issubdtype(x_TBI.dtype, np.floating):
        return
    for name in _SPIKES_ONLY:
        if getattr(settings, name) > 0:
            raise UserError(
                f"data.augment.{name} needs spike counts, and this data has real values;"
                " leave it at 0."
            )


def _streams(rng: np.random.Generator) -> dict[str, np.random.Generator]:
    """A generator for each augmentation, whether on or off."""
    seeds = rng.integers(2**63, size=len(_STREAMS))
    return {name: np.random.default_rng(s) for name, s in zip(_STREAMS, seeds, strict=True)}


def _coins(n: int, p: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[n], each True with probability ``p``: a random byte decides, or leaves it to a number."""
    sure = int(256 * p)
    byte = rng.integers(2**64, size=-(-n // 8), dtype=np.uint64).view(np.uint8)[:n]
    coins = byte < sure
    undecided = np.flatnonzero(byte == sure)
    coins[undecided] = rng.random(undecided.size) < 256 * p - sure
    return coins


def _partners(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each member another of its group, uniformly; itself where it is alone. [B] -> [B]."""
    order = np.argsort(groups, kind="stable")
    _, first, size = np.unique(groups[order], return_index=True, return_counts=True)
    start, size = np.repeat(first, size), np.repeat(size, size)
    further = 1 + rng.integers(0, np.maximum(size - 1, 1))
    partner = np.empty_like(order)
    partner[order] = order[start + (np.arange(order.size) - start + further) % size]
    return partner


def _apart(x_TBI: NDArray[Any], partner: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far to move the partner's centre of mass onto the sample's, [2, B]: steps, channels."""
    in_TB = x_TBI.sum(axis=2, dtype=np.float64)
    in_BI = x_TBI.sum(axis=0, dtype=np.float64)
    spikes_B = in_TB.sum(axis=0)
    sums_2B = np.stack([np.arange(len(in_TB)) @ in_TB, in_BI @ np.arange(in_BI.shape[1])])
    centre_2B = sums_2B / np.maximum(spikes_B, 1)
    apart_2B = np.rint(centre_2B - centre_2B[:, partner]).astype(np.int64)
    return apart_2B * ((spikes_B > 0) & (spikes_B[partner] > 0))  # emptiness has no centre


def _move(x_TBI: NDArray[Any], by_2B: NDArray[np.int64]) -> NDArray[Any]:
    """Every sample moved by its own steps and channels; silence comes in."""
    out = np.empty(x_TBI.shape, x_TBI.dtype)
    out[:] = _silence(x_TBI)[:, None]
    steps, _, channels = x_TBI.shape
    for b, (t, i) in enumerate(by_2B.T.tolist()):
        to_T, from_T = _overlap(t, steps)
        to_I, from_I = _overlap(i, channels)
        out[to_T, b, to_I] = x_TBI[from_T, b, from_I]
    return out


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Where to, and where from, ``size`` places moved ``by``."""
    by = max(-size, min(by, size))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


def _stretch(
    length: int,
    within_B: NDArray[np.int64],
    width_B: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """[length, B], True in one stretch per sample, placed uniformly in its first ``within_B``."""
    start_B = rng.integers(0, within_B - width_B, endpoint=True)
    place = np.arange(length)[:, None]
    return (place >= start_B) & (place < start_B + width_B)


def _full(x_TBI: NDArray[Any]) -> NDArray[np.bool_]:
    """[T, B], whether a step is not all silence."""
    if np.issubdtype(x_TBI.dtype, np.floating):
        return np.asarray((x_TBI > _silence(x_TBI)[:, None]).any(axis=2))
    return np.asarray(x_TBI.any(axis=2))


def _own_steps(full_TB: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B], steps of each sample without its padding."""
    return np.where(full_TB.any(axis=0), len(full_TB) - full_TB[::-1].argmax(axis=0), 0)


def _silence(x_TBI: NDArray[Any]) -> NDArray[Any]:
    """[B], the value of each sample's silence."""
    if np.issubdtype(x_TBI.dtype, np.floating):
        return x_TBI.min(axis=(0, 2))
    return np.zeros(x_TBI.shape[1], x_TBI.dtype)


def _widen(x: NDArray[Any], largest: int) -> NDArray[Any]:
    """A copy with integers that hold ``largest``."""
    return x.astype(np.promote_types(x.dtype, np.min_scalar_type(largest)))


def _largest(counts: NDArray[Any]) -> int:
    return int(counts.max(initial=0))
