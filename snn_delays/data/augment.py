"""Augmentation of training batches. Shapes: T time, B batch, I input channels, K classes.

Augmentations are applied in a fixed order: first mixtures of samples, so that shifts and masks act
on the mixture like on a recording; then shifts, before masks remove something; noise last, since a
sensor's background noise also fills silent stretches:

    blend, cutmix, time_shift, channel_shift, spike_drop, time_mask, channel_mask, noise_spikes

Each augmentation has a random generator of its own, so switching one on leaves the draws of the
others unchanged. No augmentation changes its input batch in place.

Silence is 0 in spike counts. Real values, such as a log-mel spectrogram, have no natural zero: the
smallest value of a sample counts as its silence. Padding at the end is 0 in both.

Batches lie on the CPU or on a GPU. On a GPU, counts are 32-bit integers, and the host never waits
for the device: no shape and no branch depends on the batch's values. On the CPU, counts may be
bytes; they become 32-bit integers if a result would not fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.config import AugmentConfig
from snn_delays.data.augment_random import (
    partners,
    rows_on_device,
    scaled,
    thinned,
    widened,
    with_noise_spikes,
)
from snn_delays.errors import UserError

_SPIKES_ONLY = ("blend", "spike_drop", "noise_spikes")


def augment(
    x_TBI: Tensor,
    labels: NDArray[np.int64],
    classes: int,
    settings: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Augment a training batch as ``settings`` say.

    Args:
        x_TBI: spike counts (uint8 or int32), or real values, padded with zeros at the end; not
            changed.
        labels: [B], below ``classes``; on the host.
        classes: number of classes K.
        settings: the augmentations that are on; by default all are off.
        rng: source of the draws; it advances by the same draws whichever augmentations are on.

    Returns:
        The batch, of int32 if counts would not fit in bytes, and ``x_TBI`` itself if all
        augmentations are off; then the probability of each class, [B, K], rows summing to 1, if
        ``settings.cutmix`` is on, else None (``labels`` stay right).

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


def blend(x_TBI: Tensor, labels: NDArray[np.int64], p: float, rng: np.random.Generator) -> Tensor:
    """Blend each sample, with probability ``p``, with another sample of its class in the batch.

    Both samples are shifted so that their centres of mass, in steps and channels, coincide to the
    nearest step and channel; then each spike of either is kept with probability 1/2. Spikes shifted
    over the edge are lost. A sample without another of its class is not changed.

    Nowotny, Turner, Knight, "Loss shaping enhances exact gradient learning with Eventprop in
    spiking neural networks", arXiv 2212.01232; in the paper such blends extend the training set.

    Args:
        x_TBI: counts.
        labels: [B].
        p: probability, 0 to 1.
        rng: source of the draws.
    """
    partner = partners(labels, rng)
    chosen = np.flatnonzero((rng.random(partner.size) < p) & (partner != np.arange(partner.size)))
    if not chosen.size:
        return x_TBI
    own_B, other_B = rows_on_device(x_TBI.device, chosen, partner[chosen]).long()
    apart_2B = _apart(x_TBI, own_B, other_B)
    near_2B = -(apart_2B // 2)
    mixed = _sum(_move(x_TBI, near_2B, own_B), _move(x_TBI, near_2B + apart_2B, other_B))
    both = torch.cat([x_TBI.to(mixed.dtype), thinned(mixed, 0.5, rng)], 1)  # thins each alike
    place = np.arange(partner.size)
    place[chosen] = partner.size + np.arange(chosen.size)
    return both.index_select(1, rows_on_device(x_TBI.device, place)[0].long())


def cutmix(
    x_TBI: Tensor,
    labels: NDArray[np.int64],
    classes: int,
    p: float,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Replace a stretch of time of each sample, with probability ``p``, by another sample's.

    The stretch lies within the sample's own steps, which end with its last step that is not
    silent. Its length is a uniform share in (0, 1) of these steps, rounded, at a uniform position.
    The label is mixed likewise: a class's probability is its share of the mixture's steps that are
    not silent. Padding and silence, which tell nothing about a class, thus add no probability.

    Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: regularization strategy to train strong classifiers
    with localizable features", arXiv 1905.04899; in the paper a rectangle of an image.

    Args:
        x_TBI: counts or real values.
        labels: [B].
        classes: number of classes K.
        p: probability, 0 to 1.
        rng: source of the draws.

    Returns:
        The batch, and the probability of each class, [B, K].
    """
    samples = len(labels)
    partner = partners(np.zeros_like(labels), rng)
    chosen = (rng.random(samples) < p) & (partner != np.arange(samples))
    shares = rng.random((2, samples)) * chosen
    rows = rows_on_device(x_TBI.device, partner, labels, labels[partner], *shares)
    partner_B, label_B, other_B = rows[:3].long()
    full_TB = _full(x_TBI)
    steps_B = _own_steps(full_TB)
    width_B = (rows[3] * steps_B).round().long()
    cut_TB = _stretch(len(x_TBI), steps_B, width_B, rows[4]).T
    got_B = (full_TB.index_select(1, partner_B) & cut_TB).sum(0)
    kept_B = (full_TB & ~cut_TB).sum(0)
    share_B1 = (got_B.double() / (got_B + kept_B).clamp(min=1))[:, None]
    k = torch.arange(classes, device=x_TBI.device)
    targets = (k == label_B[:, None]) * (1 - share_B1) + (k == other_B[:, None]) * share_B1
    return _put(x_TBI, cut_TB[:, :, None], x_TBI.index_select(1, partner_B)), targets.float()


def time_shift(x_TBI: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Shift every sample in time by its own number of steps, uniform in [-most, most].

    Steps shifted over the end are lost; silence fills the gap. TensorFlow's example for Speech
    Commands shifts its recordings likewise (Warden, arXiv 1804.03209, describes the data).
    """
    by_B = rng.integers(-most, most, x_TBI.shape[1], endpoint=True)
    return _shift(x_TBI, by_B, np.zeros_like(by_B))


def channel_shift(x_TBI: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Shift every sample over channels by its own number of channels, uniform in [-most, most].

    Channels shifted over the edge are lost; silence fills the gap. Nowotny et al., arXiv 2212.01232
    (see ``blend``).
    """
    by_B = rng.integers(-most, most, x_TBI.shape[1], endpoint=True)
    return _shift(x_TBI, np.zeros_like(by_B), by_B)


def spike_drop(x_TBI: Tensor, p: float, rng: np.random.Generator) -> Tensor:
    """Remove every spike of the counts, independently, with probability ``p``.

    Gu, Sng, Hu, Yu, "EventDrop: data augmentation for event-based learning", arXiv 2106.05836.
    """
    return thinned(x_TBI, p, rng)


def time_mask(x_TBI: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Silence one stretch of steps per sample: width uniform in [0, most], position uniform.

    The stretch lies within the sample's own steps, which end with its last step that is not silent,
    and is never longer than these.

    Park, Chan, Zhang, Chiu, Zoph, Cubuk, Le, "SpecAugment", arXiv 1904.08779.
    """
    width_B, place_B = rows_on_device(x_TBI.device, *rng.random((2, x_TBI.shape[1])))
    steps_B = _own_steps(_full(x_TBI))
    width_B = scaled(width_B, steps_B.clamp(max=most))
    inside_BT = _stretch(len(x_TBI), steps_B, width_B, place_B)
    return _put(x_TBI, inside_BT.T[:, :, None], _silence(x_TBI)[:, None])


def channel_mask(x_TBI: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Silence one band of channels per sample: width uniform in [0, most], position uniform.

    Park et al., arXiv 1904.08779 (see ``time_mask``).
    """
    _, samples, channels = x_TBI.shape
    widths = rng.integers(0, min(most, channels), samples, endpoint=True)
    width_B, place_B = rows_on_device(x_TBI.device, widths, rng.random(samples))
    inside_BI = _stretch(channels, torch.full_like(width_B, channels), width_B, place_B)
    return _put(x_TBI, inside_BI, _silence(x_TBI)[:, None])


def noise_spikes(x_TBI: Tensor, mean: float, rng: np.random.Generator) -> Tensor:
    """Add noise spikes: a Poisson number with this mean per sample and step, uniform over channels.

    Padding gets noise, too. Tonic's ``UniformNoise`` (Lenz et al., tonic.readthedocs.io) adds a
    fixed number of events uniformly over channels and time.
    """
    return with_noise_spikes(x_TBI, mean, rng)


_CHANGES: dict[str, Callable[..., Tensor]] = {
    "time_shift": time_shift,
    "channel_shift": channel_shift,
    "spike_drop": spike_drop,
    "time_mask": time_mask,
    "channel_mask": channel_mask,
    "noise_spikes": noise_spikes,
}
_STREAMS = ("blend", "cutmix", *_CHANGES)  # add new ones at the end: the others' draws stay


def _check(x_TBI: Tensor, settings: AugmentConfig) -> None:
    if not x_TBI.is_floating_point():
        return
    for name in _SPIKES_ONLY:
        if getattr(settings, name) > 0:
            raise UserError(
                f"data.augment.{name} needs spike counts, and this data has real values;"
                " leave it at 0."
            )


def _streams(rng: np.random.Generator) -> dict[str, np.random.Generator]:
    """A random generator for each augmentation, whether it is on or off."""
    seeds = rng.integers(2**63, size=len(_STREAMS))
    return {name: np.random.default_rng(s) for name, s in zip(_STREAMS, seeds, strict=True)}


def _apart(x_TBI: Tensor, own_B: Tensor, other_B: Tensor) -> Tensor:
    """Distance of each other sample's centre of mass from the own one, [2, B]: steps, channels."""
    counts = x_TBI.float()  # exact, like these sums: below 2^24
    in_TB, in_IB = counts.sum(2).double(), counts.sum(0).double().T
    spikes_B = in_TB.sum(0)
    centre_2B = torch.stack([_weighted(in_TB), _weighted(in_IB)]) / spikes_B.clamp(min=1)
    apart_2B = (centre_2B[:, own_B] - centre_2B[:, other_B]).round().long()
    return apart_2B * ((spikes_B[own_B] > 0) & (spikes_B[other_B] > 0))  # a centre needs spikes


def _weighted(in_NB: Tensor) -> Tensor:
    """Sums over N of the numbers times their index."""
    return (torch.arange(len(in_NB), device=in_NB.device)[:, None] * in_NB).sum(0)


def _shift(x_TBI: Tensor, steps_B: NDArray[np.int64], channels_B: NDArray[np.int64]) -> Tensor:
    rows = rows_on_device(x_TBI.device, np.arange(len(steps_B)), steps_B, channels_B).long()
    return _move(x_TBI, rows[1:], rows[0])


def _move(x_TBI: Tensor, by_2B: Tensor, of_B: Tensor) -> Tensor:
    move = shift_by_copy if x_TBI.device.type == "cpu" else shift_by_gather
    return move(x_TBI, by_2B, of_B)


def shift_by_gather(x_TBI: Tensor, by_2B: Tensor, of_B: Tensor) -> Tensor:
    """Samples ``of_B``, each shifted by its steps and channels ``by_2B``; silence fills gaps."""
    steps, _, channels = x_TBI.shape
    t_TB = torch.arange(steps, device=x_TBI.device)[:, None] - by_2B[0]
    i_BI = torch.arange(channels, device=x_TBI.device) - by_2B[1][:, None]
    inside = _within(t_TB, steps)[:, :, None] & _within(i_BI, channels)
    t, i = t_TB.clamp(0, steps - 1)[:, :, None], i_BI.clamp(0, channels - 1)
    return torch.where(inside, x_TBI[t, of_B[:, None], i], _silence(x_TBI)[of_B][:, None])


def _within(place: Tensor, size: int) -> Tensor:
    return (place >= 0) & (place < size)


def shift_by_copy(x_TBI: Tensor, by_2B: Tensor, of_B: Tensor) -> Tensor:
    """As ``shift_by_gather``, by copies of slices; on a CPU ten times as fast."""
    steps, _, channels = x_TBI.shape
    moved = _silence(x_TBI)[of_B][:, None].expand(steps, -1, channels).contiguous()
    x, out = x_TBI.numpy(), moved.numpy()
    for b, (of, t, i) in enumerate(zip(of_B.tolist(), *by_2B.tolist(), strict=True)):
        to_T, from_T = _overlap(t, steps)
        to_I, from_I = _overlap(i, channels)
        out[to_T, b, to_I] = x[from_T, of, from_I]
    return moved


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Target and source slices of a shift by ``by`` within ``size`` entries."""
    by = max(-size, min(by, size))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


def _sum(one_TBI: Tensor, other_TBI: Tensor) -> Tensor:
    if one_TBI.dtype == torch.uint8:
        one_TBI = widened(one_TBI, int(one_TBI.max()) + int(other_TBI.max()))
    return one_TBI + other_TBI


def _put(x: Tensor, inside: Tensor, other: Tensor) -> Tensor:
    """``other`` inside, else ``x``; on a CPU faster than ``torch.where``, for finite numbers."""
    return (x * ~inside).add_(other * inside)


def _stretch(length: int, within_B: Tensor, width_B: Tensor, share_B: Tensor) -> Tensor:
    """[B, length], True in one stretch per sample that lies within its first ``within_B`` entries.

    ``share_B`` in [0, 1) picks the stretch's start among the possible ones.
    """
    start_B1 = scaled(share_B, within_B - width_B)[:, None]
    place = torch.arange(length, device=width_B.device)
    return (place >= start_B1) & (place < start_B1 + width_B[:, None])


def _full(x_TBI: Tensor) -> Tensor:
    """[T, B], whether a step of a sample is not silent."""
    return x_TBI.amax(2) > _silence(x_TBI)


def _own_steps(full_TB: Tensor) -> Tensor:
    """[B], steps of each sample up to its last step that is not silent."""
    number_T1 = torch.arange(1, len(full_TB) + 1, device=full_TB.device)[:, None]
    return (full_TB * number_T1).amax(0)


def _silence(x_TBI: Tensor) -> Tensor:
    """[B], the value that stands for silence in each sample."""
    if x_TBI.is_floating_point():
        return x_TBI.amin(2).amin(0)
    return x_TBI.new_zeros(x_TBI.shape[1])
