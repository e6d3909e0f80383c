"""Each augmentation against a plain computation, exact invariants and its distribution.

All of it on the CPU, on the CPU in the way of a GPU, and on a GPU where there is one.
"""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from snn_delays.config import AugmentConfig
from snn_delays.data import augment as module
from snn_delays.data import augment_random
from snn_delays.errors import UserError
from tests.conftest import as_on_a_gpu, without_data

EVERYTHING = {  # in the documented order
    "blend": 0.7,
    "cutmix": 0.7,
    "time_shift": 3,
    "channel_shift": 2,
    "spike_drop": 0.2,
    "time_mask": 4,
    "channel_mask": 3,
    "noise_spikes": 0.5,
}
REAL = ("cutmix", "time_shift", "channel_shift", "time_mask", "channel_mask")
WAYS = ["on the CPU", "as on a GPU"]
if torch.cuda.is_available():
    WAYS.append(pytest.param("on a GPU", marks=pytest.mark.gpu(kernels=False)))
PLACE = {}  # what the tests are made on
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 6))


@pytest.fixture(scope="module", params=WAYS, autouse=True)
def where(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "as on a GPU":
            as_on_a_gpu(patch)
        patch.setitem(PLACE, "device", "cuda" if request.param == "on a GPU" else "cpu")
        yield


def given_as(x):
    """An array as a batch where it lies; on a GPU counts are never bytes."""
    tensor = torch.from_numpy(x).to(PLACE["device"])
    narrow = tensor.dtype == torch.uint8 and not augment_random.numpy_draws(tensor)
    return tensor.int() if narrow else tensor


def of_arrays(function):
    """An augmentation, of arrays."""

    def call(x, *rest):
        out = function(given_as(x), *rest)
        if isinstance(out, torch.Tensor):
            return out.cpu().numpy()
        return tuple(None if o is None else o.cpu().numpy() for o in out)

    return call


augment = of_arrays(module.augment)
ours = SimpleNamespace(**{name: of_arrays(getattr(module, name)) for name in EVERYTHING})


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed or 0)


def batch(shape, seed=0, dtype=np.uint8, most=4):
    """Random counts, padded to different lengths, or real values below zero; and labels."""
    rng = generator(seed)
    x = rng.integers(0, most + 1, shape).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        x = rng.normal(-20, 5, shape).astype(dtype)
    for b in range(shape[1]):
        x[rng.integers(0, shape[0] + 1) :, b] = 0
    return x, rng.integers(0, 3, shape[1])


def full(shape, dtype=np.uint8):
    """No two cells of a sample alike, none zero, so that every move and gap shows."""
    steps, samples, channels = shape
    one = 1 + np.arange(steps * channels, dtype=dtype).reshape(steps, 1, channels)
    return np.repeat(one, samples, axis=1)


def likely(observed, expected, deviation):
    """Within five standard deviations; the draws are fixed, so this never fails by chance."""
    off = np.abs(np.asarray(observed, float) - expected)
    np.testing.assert_array_less(off, 5 * deviation + 1e-9)


def uniform(numbers, values):
    """Every value equally often, and no other."""
    count = np.array([np.sum(numbers == v) for v in values])
    assert count.sum() == len(numbers)
    share = 1 / len(values)
    likely(count, len(numbers) * share, math.sqrt(len(numbers) * share * (1 - share)))


def plain_move(frames, steps, channels, silence=0):
    """One cell at a time."""
    out = np.full_like(frames, silence)
    for (t, i), value in np.ndenumerate(frames):
        if 0 <= t + steps < len(out) and 0 <= i + channels < out.shape[1]:
            out[t + steps, i + channels] = value
    return out


# ---------------------------------------------------------------------------------------------
# All together


def test_off_returns_the_batch_itself() -> None:
    x, labels = batch((5, 3, 4))
    given_ = given_as(x)
    settings_ = AugmentConfig(roll_ms=5, speed=0.1)
    out, targets = module.augment(given_, labels, 3, settings_, generator())
    assert out is given_
    assert targets is None


def test_every_option_is_known() -> None:
    names = {f.name for f in dataclasses.fields(AugmentConfig)} - {"roll_ms", "speed"}
    assert names == set(EVERYTHING)


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_same_state_repeats_and_another_differs(name) -> None:
    x, labels = batch((20, 12, 9))
    settings_ = AugmentConfig(**{name: EVERYTHING[name]})
    first, targets = augment(x, labels, 3, settings_, generator(1, 0, 2))
    again, targets_again = augment(x, labels, 3, settings_, generator(1, 0, 2))
    other, _ = augment(x, labels, 3, settings_, generator(1, 1, 2))
    assert_array_equal(first, again)
    assert (targets is None) == (name != "cutmix")
    if targets is not None:
        assert_array_equal(targets, targets_again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_all_at_once_are_one_after_the_other_in_the_documented_order(dtype) -> None:
    """So each draws the same numbers whether the others are on or off."""
    x, labels = batch((20, 12, 9), dtype=dtype)
    chosen = {n: v for n, v in EVERYTHING.items() if dtype is np.uint8 or n in REAL}
    together, targets = augment(x, labels, 3, AugmentConfig(**chosen), generator(7))
    step, mixed = x, None
    for name, value in chosen.items():
        step, new = augment(step, labels, 3, AugmentConfig(**{name: value}), generator(7))
        mixed = mixed if new is None else new
    assert_array_equal(together, step)
    assert_array_equal(targets, mixed)


def test_two_augmentations_draw_different_numbers() -> None:
    x = np.zeros((9, 2000, 9), np.uint8)
    x[4, :, 4] = 1
    out, _ = augment(
        x, np.zeros(2000, int), 1, AugmentConfig(time_shift=4, channel_shift=4), generator()
    )
    _, t, i = np.nonzero(out.transpose(1, 0, 2))
    likely(np.corrcoef(t, i)[0, 1], 0, 1 / math.sqrt(2000))


def test_the_generator_advances_alike_whatever_is_on() -> None:
    x, labels = batch((6, 4, 5))
    off, on = generator(3), generator(3)
    augment(x, labels, 3, AugmentConfig(), off)
    augment(x, labels, 3, AugmentConfig(**EVERYTHING), on)
    assert off.bit_generator.state == on.bit_generator.state


@settings(derandomize=True, deadline=None)
@given(SIZES, st.sampled_from([np.uint8, np.int32, np.int64, np.float32]), st.integers(0, 99))
def test_any_size_keeps_shape_input_and_meaning(shape, dtype, seed) -> None:
    x, labels = batch(shape, seed, dtype)
    before, labels_before = x.copy(), labels.copy()
    real = dtype is np.float32
    chosen = {n: v for n, v in EVERYTHING.items() if not real or n in REAL}
    out, targets = augment(x, labels, 3, AugmentConfig(**chosen), generator(seed))
    assert_array_equal(x, before)
    assert_array_equal(labels, labels_before)
    assert out.shape == shape
    assert out.dtype == given_as(x).cpu().numpy().dtype
    assert targets.shape == (shape[1], 3)
    assert targets.dtype == np.float32
    assert targets.min() >= 0
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", EVERYTHING)
def test_silence_alone_passes(name) -> None:
    x, labels = np.zeros((4, 6, 3), np.uint8), np.arange(6) // 2
    out, targets = augment(x, labels, 3, AugmentConfig(**{name: EVERYTHING[name]}), generator(2))
    assert out.any() == (name == "noise_spikes")
    if targets is not None:
        assert_array_equal(targets, np.eye(3)[labels])  # nothing of the other is in it


@pytest.mark.parametrize("name", ["spike_drop", "noise_spikes", "blend"])
def test_spikes_only(name) -> None:
    x, labels = batch((4, 2, 3), dtype=np.float32)
    with pytest.raises(UserError) as error:
        augment(x, labels, 3, AugmentConfig(**{name: 0.1}), generator())
    assert str(error.value) == (
        f"data.augment.{name} needs spike counts, and this data has real values; leave it at 0."
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_nothing_waits_for_the_device(dtype, monkeypatch) -> None:
    """On torch's device without data, whoever asks for a number or a shape of the data fails."""
    without_data(monkeypatch)
    chosen = {n: v for n, v in EVERYTHING.items() if dtype is torch.int32 or n in REAL}
    x, labels = torch.zeros(6, 5, 4, dtype=dtype, device="meta"), np.arange(5) % 2
    out, targets = module.augment(x, labels, 3, AugmentConfig(**chosen), generator())
    assert (out.device.type, out.shape, out.dtype) == ("meta", x.shape, dtype)
    assert (targets.device.type, targets.shape) == ("meta", (5, 3))


def test_shares_become_whole_numbers_of_equal_weight() -> None:
    last = 1 - 2**-53  # the largest that is drawn
    shares = torch.tensor([0, 0.2499, 0.25, 0.7499, 0.75, last], dtype=torch.float64)
    assert augment_random.scaled(shares, 3).tolist() == [0, 0, 1, 2, 3, 3]
    most = torch.arange(5000)
    assert torch.equal(
        augment_random.scaled(torch.full((5000,), last, dtype=torch.float64), most), most
    )


# ---------------------------------------------------------------------------------------------
# Shifts


@settings(derandomize=True, deadline=None)
@given(
    SIZES,
    st.integers(1, 9),
    st.sampled_from([np.uint8, np.float32]),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_shift_moves_every_cell_alike(shape, most, dtype, in_time, seed) -> None:
    x, _ = batch(shape, seed, dtype)
    change = ours.time_shift if in_time else ours.channel_shift
    out = change(x, most, generator(seed))
    for b in range(shape[1]):
        silence = x[:, b].min() if dtype is np.float32 else 0
        possible = [
            plain_move(x[:, b], s if in_time else 0, 0 if in_time else s, silence)
            for s in range(-most, most + 1)
        ]
        assert any(np.array_equal(out[:, b], p) for p in possible)


@pytest.mark.parametrize("name", ["time_shift", "channel_shift"])
def test_shifts_are_uniform_and_of_each_sample_alone(name) -> None:
    x = np.zeros((9, 4000, 9), np.uint8)
    x[4, :, 4] = 1
    out = getattr(ours, name)(x, 3, generator())
    t, _, i = np.nonzero(out)
    assert len(t) == 4000
    moved, still = (t, i) if name == "time_shift" else (i, t)
    uniform(moved - 4, range(-3, 4))
    assert (still == 4).all()


# ---------------------------------------------------------------------------------------------
# Masks


def masked_stretch(out, x, axis):
    """First place and width of what a mask silenced in a sample of ``full``; all else is equal."""
    silent = (out != x).any(axis=1 - axis)
    width = int(silent.sum())
    first = int(silent.argmax())
    assert silent[first : first + width].all()
    expected = x.copy()
    expected[(slice(None),) * axis + (slice(first, first + width),)] = 0
    assert_array_equal(out, expected)
    return first, width


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 0), ("channel_mask", 1)])
@pytest.mark.parametrize(("most", "widest"), [(1, 1), (3, 3), (9, 5)])
def test_a_mask_silences_one_uniform_stretch(name, axis, most, widest) -> None:
    x = full((5, 4000, 5))
    out = getattr(ours, name)(x, most, generator(most))
    found = np.array([masked_stretch(out[:, b], x[:, b], axis) for b in range(4000)])
    uniform(found[:, 1], range(widest + 1))
    for width in range(1, widest + 1):
        uniform(found[found[:, 1] == width, 0], range(5 - width + 1))


def test_a_time_mask_lies_within_the_samples_own_steps() -> None:
    x = full((40, 2000, 3))
    x[4:] = 0
    out = ours.time_mask(x, 2, generator())
    uniform(np.array([masked_stretch(out[:, b], x[:, b], 0)[1] for b in range(2000)]), range(3))


@pytest.mark.parametrize("name", ["time_mask", "channel_mask"])
def test_a_mask_of_real_values_puts_the_smallest_of_the_sample(name) -> None:
    x = -100.0 + full((6, 50, 6), np.float32) + np.arange(50, dtype=np.float32)[:, None]
    out = getattr(ours, name)(x, 4, generator())
    changed = out != x
    assert changed.any()
    assert_array_equal(out[changed], np.broadcast_to(x.min(axis=(0, 2))[:, None], x.shape)[changed])


# ---------------------------------------------------------------------------------------------
# Spikes left out and with_noise_spikes in


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.77, 1 - 2**-20])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_spike_drop_is_binomial(p, count) -> None:
    cells = 20_000
    out = ours.spike_drop(np.full((10, 20, 100), count, np.uint8), p, generator(count))
    for left in range(count + 1):
        share = math.comb(count, left) * (1 - p) ** left * p ** (count - left)
        deviation = math.sqrt(cells * share * (1 - share)) + 1  # rare cases are not normal
        likely((out == left).sum(), cells * share, deviation)


@settings(derandomize=True, deadline=None)
@given(SIZES, st.floats(0.01, 0.99), st.integers(0, 99), st.sampled_from([np.uint8, np.int32]))
def test_spike_drop_makes_no_spikes(shape, p, seed, dtype) -> None:
    x, _ = batch(shape, seed, dtype, most=255)
    out = ours.spike_drop(x, p, generator(seed))
    assert (out <= x).all()
    assert out.dtype == given_as(x).cpu().numpy().dtype
    n = x.sum()
    likely(out.sum(), n * (1 - p), math.sqrt(n * p * (1 - p)) + 1)


def test_dropped_spikes_are_independent_between_cells() -> None:
    """The number that a sample loses varies as that of independent spikes."""
    x = np.full((5, 4000, 8), 3, np.uint8)
    lost = (x - ours.spike_drop(x, 0.3, generator())).sum(axis=(0, 2))
    likely(lost.var(), 120 * 0.3 * 0.7, 120 * 0.3 * 0.7 * math.sqrt(2 / 4000))


@pytest.mark.parametrize("mean", [0.3, 4.0])
def test_noise_is_poisson_and_uniform(mean) -> None:
    x, _ = batch((10, 2000, 5))
    with_noise_spikes = ours.noise_spikes(x, mean, generator()).astype(int) - x
    assert with_noise_spikes.min() == 0
    by_sample = with_noise_spikes.sum(axis=(0, 2))
    likely(by_sample.mean(), 10 * mean, math.sqrt(10 * mean / 2000))
    likely(by_sample.var(), 10 * mean, 10 * mean * math.sqrt(3 / 2000))
    everywhere = 2000 * mean / 5
    likely(with_noise_spikes.sum(axis=1), everywhere, math.sqrt(everywhere))


def test_the_noise_of_a_whole_batch_is_poisson_too() -> None:
    x = np.zeros((2, 3, 4), np.uint8)
    totals = [ours.noise_spikes(x, 5, generator(run)).sum() for run in range(1000)]
    likely(np.mean(totals), 30, math.sqrt(30 / 1000))
    likely(np.var(totals), 30, 30 * math.sqrt(2 / 1000))


def test_noise_never_overflows() -> None:
    x = np.full((3, 4, 5), 255, np.uint8)
    out = ours.noise_spikes(x, 10, generator())
    assert out.dtype == np.int32
    assert (out >= x).all()
    few = ours.noise_spikes(np.zeros((3, 4, 5), np.uint8), 1000, generator())
    assert few.astype(int).sum() > 10_000


# ---------------------------------------------------------------------------------------------
# Blend


def test_blend_moves_both_to_their_common_centre() -> None:
    x = np.zeros((20, 2, 12), np.int32)
    x[3, 0, 9], x[8, 1, 5] = 300, 500
    out = ours.blend(x, np.zeros(2, int), 1.0, generator())
    for b in range(2):
        assert np.argwhere(out[:, b]).tolist() == [[6, 7]]  # 5.5 rounds up
        likely(out[6, b, 7], 400, math.sqrt(800) / 2)


def plain_centre(frames):
    """Mean step and channel, spike by spike."""
    cells = [(t, i) for (t, i), n in np.ndenumerate(frames) for _ in range(n)]
    return [sum(c) / len(cells) for c in zip(*cells, strict=True)] if cells else None


def plain_blend(own, other):
    """The sum of both after alignment, of which half the spikes stay."""
    a, b = plain_centre(own), plain_centre(other)
    apart = [0, 0] if a is None or b is None else [round(p - q) for p, q in zip(a, b, strict=True)]
    near = [-(d // 2) for d in apart]
    far = [n + d for n, d in zip(near, apart, strict=True)]
    return plain_move(own.astype(int), *near) + plain_move(other.astype(int), *far)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.tuples(st.integers(1, 7), st.integers(1, 6)), st.integers(0, 99))
def test_blend_halves_the_aligned_sum(size, seed) -> None:
    x, _ = batch((size[0], 2, size[1]), seed)
    runs, total = 80, np.zeros(x.shape)
    expected = np.stack([plain_blend(x[:, b], x[:, 1 - b]) for b in range(2)], axis=1)
    for run in range(runs):
        out = ours.blend(x, np.array([1, 1]), 1.0, generator(seed, run))
        assert (out <= expected).all()
        total += out
    likely(total / runs, expected / 2, np.sqrt(expected / 4 / runs))


def test_blend_stays_within_the_class() -> None:
    """Every class has a channel of its own, far from the others'."""
    labels = np.array([0, 1, 0, 2, 1, 0, 1, 0])
    x = np.zeros((6, 8, 30), np.uint8)
    for b, label in enumerate(labels):
        x[:, b, 10 * label] = 20 + b
    out = ours.blend(x, labels, 1.0, generator())
    for b, label in enumerate(labels):
        assert set(np.nonzero(out[:, b])[1]) == {10 * label}
    assert_array_equal(out[:, 3], x[:, 3])  # alone in its class


def test_blend_chooses_samples_and_partners_uniformly() -> None:
    labels = np.repeat(np.arange(500), 4)
    x = np.zeros((1, 2000, 1), np.int32)
    x[0, :, 0] = np.tile([1000, 2000, 4000, 8000], 500)
    out = ours.blend(x, labels, 0.6, generator())
    first = out[0, ::4, 0].astype(int)
    likely((first == 1000).sum(), 200, math.sqrt(500 * 0.6 * 0.4))  # left as they were
    mixed = first[first != 1000]
    nearest = np.abs(mixed[:, None] - (1000 + np.array([2000, 4000, 8000])) / 2).argmin(axis=1)
    uniform(nearest, range(3))


def test_blend_never_overflows() -> None:
    x = np.full((2, 2, 2), 255, np.uint8)
    out = ours.blend(x, np.zeros(2, int), 1.0, generator())
    assert out.dtype == np.int32
    likely(out, 255, math.sqrt(2 * 255) / 2)


# ---------------------------------------------------------------------------------------------
# CutMix


def numbered(lengths, steps, channels=2):
    """Sample b holds b + 1 in all its own steps, so each cell tells where it is from."""
    x = np.zeros((steps, len(lengths), channels), np.int32)
    for b, length in enumerate(lengths):
        x[:length, b] = b + 1
    return x


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=6), st.integers(0, 99))
def test_cutmix_takes_one_stretch_and_weighs_the_labels_by_it(lengths, seed) -> None:
    x, labels = numbered(lengths, 12), np.arange(len(lengths))
    out, targets = ours.cutmix(x, labels, len(lengths), 1.0, generator(seed))
    assert (out == out[:, :, :1]).all()
    for b, length in enumerate(lengths):
        line = out[:, b, 0].tolist()
        changed = [t for t in range(12) if line[t] != x[t, b, 0]]
        assert not [t for t in changed if t >= length]  # within its own steps
        sources = {line[t] for t in changed} - {0}
        assert len(sources) <= 1
        if changed:  # one stretch, up to the partner's end
            cut = range(changed[0], changed[-1] + 1)
            expected = [x[t, min(sources) - 1, 0] if sources else 0 for t in cut]
            assert [line[t] for t in cut] == expected
        spoken = [v for v in line if v]
        plain = [spoken.count(k + 1) / len(spoken) if spoken else 0 for k in labels]
        if not spoken:
            plain[b] = 1
        np.testing.assert_allclose(targets[b], plain, atol=1e-6)


def test_cutmix_draws_share_place_and_partner_uniformly() -> None:
    x, labels = numbered([4] * 6000, 9), np.arange(6000) % 3
    out, targets = ours.cutmix(x, labels, 3, 1.0, generator())
    taken = out[:4, :, 0] != np.arange(1, 6001)
    assert_array_equal(out[4:], 0)
    width = taken.sum(axis=0)
    for steps, share in enumerate([1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8]):  # rounded 4 * (0, 1)
        likely((width == steps).sum(), 6000 * share, math.sqrt(6000 * share * (1 - share)))
        if 0 < steps < 4:
            uniform(taken.argmax(axis=0)[width == steps], range(5 - steps))
    partner = out.max(axis=(0, 2))[width == 4] - 1  # where all is the partner's
    likely(partner.mean(), 2999.5, 6000 / math.sqrt(12 * len(partner)))
    assert (partner != np.flatnonzero(width == 4)).all()
    np.testing.assert_allclose(targets[width == 4], np.eye(3)[labels[partner]])


def test_cutmix_leaves_the_others_as_they_were() -> None:
    x, labels = numbered([5] * 4000, 5), np.arange(4000) % 7
    out, targets = ours.cutmix(x, labels, 7, 0.3, generator())
    same = (out == x).all(axis=(0, 2))
    assert_array_equal(targets[same], np.eye(7)[labels[same]])
    likely(same.sum(), 4000 * (0.7 + 0.3 * 0.1), math.sqrt(4000 * 0.73 * 0.27))


def test_cutmix_needs_another_sample() -> None:
    x = numbered([5], 5)
    out, targets = ours.cutmix(x, np.array([1]), 2, 1.0, generator())
    assert_array_equal(out, x)
    assert_array_equal(targets, [[0, 1]])


def test_padding_with_silence_earns_no_label_in_real_values() -> None:
    """Log-mel of recordings that end early: silence is the smallest value, not zero."""
    rng = np.random.default_rng(0)
    x = np.full((100, 8, 5), -100, np.float32)
    x[:25] = rng.uniform(-50, 0, (25, 8, 5))
    labels = np.arange(8) % 2
    for seed in range(20):
        mixed, targets = augment(
            x, labels, 2, AugmentConfig(cutmix=1.0), np.random.default_rng(seed)
        )
        assert (mixed[25:] == -100).all()
        assert targets is not None
        for b in range(8):
            own = (mixed[:25, b] == x[:25, b]).all(axis=1).mean()
            assert own - 1e-6 <= targets[b, labels[b]] <= 1
