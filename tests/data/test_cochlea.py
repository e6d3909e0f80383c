"""The cochlea: each stage against the formulas, the whole beside recordings of the same model."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.signal import lfilter
from scipy.special import hankel1, jv, yv
from scipy.stats import binom

from snn_delays.data import cochlea
from snn_delays.errors import UserError
from snn_delays.runtime import numba_jit
from tests.conftest import FSDD, needs_fsdd

needs_numba = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
STEP = 1 / cochlea.STEP_RATE


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def noise(seconds: float, rate: int = 48_000, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=int(seconds * rate))


def tone(frequency: float, seconds: float, rate: int = 48_000) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def formula(f: float, c: float) -> complex:
    """The transfer function, written down once more, one number at a time."""
    alpha, rho, C0, delta, h, m, a = 3.0, 1.0, 1e9, 0.15, 0.1, 0.05, 3500.0
    w = 2 * math.pi * f
    R0 = delta * math.sqrt(C0 * m)

    def xi(c: float) -> complex:
        return C0 * math.exp(-alpha * c) - a - m * w**2 - 1j * w * R0 * math.exp(-alpha * c / 2)

    def g(c: float) -> complex:
        return w * cmath.sqrt(rho / (h * xi(c)))

    def q(c: float) -> complex:
        R = R0 * math.exp(-alpha * c / 2)
        return 1j * (2 * a + w * (2 * m * w + 1j * R)) / math.sqrt(a + m * w**2)

    def p(c: float) -> complex:
        above = alpha * (-cmath.sqrt(xi(0)) + q(0) / 2)
        below = alpha / 2 * math.exp(alpha * c / 2) * (-2 * cmath.sqrt(xi(c)) + q(c))
        L = cmath.log(above / below)
        root = math.sqrt(2 * h * (m * w**2 + a))
        G = 2 * g(0) / alpha - 2j * math.sqrt(2) * w * L / (alpha * root)
        return cmath.sqrt(G / g(c)) * complex(hankel1(0, G))

    s = 4 * math.pi * f / alpha * math.sqrt(2 / (h * C0))
    Z = math.sqrt(2 * C0 / h) * (1j * jv(0, s) + yv(0, s)) / (jv(1, s) - 1j * yv(1, s))
    return 2 * w / xi(c) * p(c) / p(0) * Z


def test_transfer_function_is_the_formula() -> None:
    frequency = np.array([1.0, 37.0, 110.0, 480.0, 1000.0, 4321.0, 12_000.0, 22_500.0])
    position = cochlea.positions(700)[[0, 1, 123, 400, 555, 699]]
    wanted = np.array([[formula(f, c) for f in frequency] for c in position])
    got = cochlea.transfer_function(frequency, position)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_membrane_is_the_inverse_transform_of_the_product() -> None:
    channels = 8
    stimulus = cochlea.condition(noise(0.7, 8000), 8000)
    assert len(stimulus) > cochlea.ADVANCE  # more than one stretch
    half = len(stimulus) // 2
    spectrum = np.fft.fft(stimulus)[:half]
    frequency = np.maximum(np.arange(half) * cochlea.AUDIO_RATE / len(stimulus), 1.0)
    transfer = cochlea.transfer_function(frequency, cochlea.positions(channels))
    wanted = np.fft.ifft(np.nan_to_num(transfer) * spectrum).real
    got = cochlea.basilar_membrane(stimulus, channels)
    assert got.shape == wanted.shape
    error = np.sqrt(np.mean((got - wanted) ** 2, 1) / np.mean(wanted**2, 1))
    assert (error < 5e-3).all()  # the lowest channel rings for longer than the taps
    assert (error[:-1] < 1e-3).all()


def test_membrane_is_linear_and_the_same_at_any_time() -> None:
    x, y = noise(0.6), noise(0.6, seed=1)
    both = cochlea.basilar_membrane(x - 2 * y, 9)
    parts = cochlea.basilar_membrane(x, 9) - 2 * cochlea.basilar_membrane(y, 9)
    np.testing.assert_allclose(both, parts, atol=1e-5 * np.abs(both).max())
    late = cochlea.basilar_membrane(np.concatenate([np.zeros(50_000), x]), 9)[:, 25_000:]
    soon = cochlea.basilar_membrane(x, 9)
    np.testing.assert_allclose(late, soon, atol=1e-3 * np.abs(soon).max())


def test_impulse_moves_every_channel_low_ones_first() -> None:
    impulse = np.zeros(24_000)
    impulse[12_000] = 1.0
    velocity = cochlea.basilar_membrane(impulse, 8)
    peaks = np.abs(velocity).argmax(1)
    assert (np.abs(velocity).max(1) > 0).all()
    assert (np.diff(peaks[1:]) < 0).all()
    assert 6000 - 0.05 * cochlea.STEP_RATE < peaks[-1] < 6000


def test_tone_moves_the_channel_of_its_frequency() -> None:
    resonances = [cochlea.resonance(c) for c in cochlea.positions()]
    found = []
    for frequency in (200.0, 500.0, 1000.0, 3000.0, 8000.0, 15_000.0):
        velocity = cochlea.basilar_membrane(tone(frequency, 0.3) * np.hanning(14_400))
        best = int(np.mean(velocity**2, 1).argmax())
        # the travelling wave peaks a little before the place of resonance
        assert abs(math.log(resonances[best] / frequency)) < 0.2
        found.append(best)
    assert found == sorted(found, reverse=True)
    assert 21_500 < cochlea.resonance(0.0) < 23_000
    assert 100 < cochlea.resonance(cochlea.LENGTH) < 130


def test_spikes_of_tones_lie_in_order() -> None:
    middles = [
        np.median(cochlea.encode(tone(f, 0.2, 16_000), 16_000)[1]) for f in (250, 700, 2000, 6000)
    ]
    assert middles == sorted(middles, reverse=True)
    assert min(-np.diff(middles)) > 50


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 96_000])
def test_stimulus_does_not_depend_on_the_rate(rate: int) -> None:
    seconds = 0.4
    got = cochlea.condition(tone(1000, seconds, rate), rate)
    wanted = 0.3 * math.sqrt(2) * tone(1000, seconds) * np.hanning(int(seconds * 48_000))
    assert len(got) == pytest.approx(len(wanted), abs=5)
    np.testing.assert_allclose(got[: len(wanted)], wanted[: len(got)], atol=2e-3)


def test_stimulus_does_not_depend_on_the_level() -> None:
    sound = noise(0.1)
    wanted = cochlea.condition(sound, 48_000)
    for level in (1e-300, 1e-3, 1e300):
        np.testing.assert_allclose(cochlea.condition(level * sound, 48_000), wanted, rtol=1e-9)
    whole = (1000 * sound).astype(np.int16)
    np.testing.assert_allclose(cochlea.condition(whole, 48_000), wanted, atol=1e-2)


def test_pools_stay_at_rest_in_silence() -> None:
    rest = cochlea.resting_pools()
    pools = rest
    for _ in range(100):
        pools = cochlea.step_pools(pools, np.zeros(1))
    np.testing.assert_allclose(np.concatenate(pools), rest, rtol=1e-12)
    assert cochlea.H * rest.c == pytest.approx(64.77, abs=0.01)  # Hz


def test_pools_follow_the_differential_equations() -> None:
    b = 40.0
    k = cochlea.G * (b + cochlea.A) / (b + cochlea.A + cochlea.B)

    def change(t: float, pools: Any) -> list[float]:
        q, c, w = pools
        return [
            5.05 * max(1 - q, 0) - k * q + 66.3 * w,
            k * q - (2500 + 6580) * c,
            6580 * c - 66.3 * w,
        ]

    rest = [float(pool) for pool in cochlea.resting_pools()]
    steps = 480
    wanted = solve_ivp(change, (0, steps * STEP), rest, method="LSODA", rtol=1e-8, atol=1e-10).y
    pools = cochlea.resting_pools()
    for _ in range(steps):
        pools = cochlea.step_pools(pools, np.full(1, b))
    np.testing.assert_allclose(np.concatenate(pools), wanted[:, -1], rtol=1e-2)


def test_pools_never_fall_below_nothing() -> None:
    pools = cochlea.resting_pools()
    for b in 10 ** np.random.default_rng(0).uniform(-2, 6, (2000, 1)) * [1, -1, 1]:
        pools = cochlea.step_pools(pools, b)
        assert (np.stack(np.broadcast_arrays(*pools)) >= 0).all()
        assert (cochlea.H * STEP * pools.c < 1).all()


def test_binomial_is_the_inverse_of_its_distribution() -> None:
    rng = np.random.default_rng(0)
    n, p = rng.integers(0, 41, 20_000), rng.uniform(0, 0.5, 20_000) ** 3
    u = rng.uniform(size=20_000)
    np.testing.assert_array_equal(cochlea.binomial(u, n, p), np.maximum(binom.ppf(u, n, p), 0))
    n, p = np.full(20_000, 40), np.full(20_000, 0.1)
    fired = cochlea.binomial(u, n, p)
    assert fired.mean() == pytest.approx(4, rel=0.02)
    assert fired.var() == pytest.approx(3.6, rel=0.05)


def test_fibres_rest_for_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    channels, p, steps = 300, 0.02, 1000
    cells = cochlea._BushyCells(channels)
    total = 0
    for step in range(steps):
        cells.step(rng.uniform(size=channels), np.full(channels, p))
        lately = sum(cells.fired)
        assert (cells.ready >= 0).all()
        assert (cells.ready + lately == cochlea.FIBRES).all()
        total += int(cells.fired[-1].sum()) if step >= steps // 2 else 0
    # a renewal process: 24 steps to the next chance, then 1 / p - 1 more on average
    rate = total / (channels * cochlea.FIBRES * steps / 2)
    assert rate == pytest.approx(1 / (cochlea.REFRACTORY + 1 / p - 1), rel=0.01)


def test_bushy_cells_fire_spontaneously_as_the_recordings_do() -> None:
    still = np.zeros((700, cochlea.STEP_RATE // 8), np.float32)
    fire = cochlea.fire_compiled if numba_jit.available() else cochlea.fire_plain
    count = sum(len(fire(still, cochlea.channel_keys(700, seed))[0]) for seed in range(16))
    assert count / (16 * 700 / 8) == pytest.approx(0.78, abs=0.1)  # Hz


@needs_numba
@pytest.mark.parametrize("level", [0.0, 1.0, 30.0, 1000.0])
def test_compiled_spikes_are_the_plain_ones(level: float) -> None:
    velocity = (level * noise(0.12, seed=3).reshape(9, -1)).astype(np.float32)
    velocity = np.repeat(velocity, 5, 1)
    keys = cochlea.channel_keys(9, 5)
    wanted, got = cochlea.fire_plain(velocity, keys), cochlea.fire_compiled(velocity, keys)
    order = np.lexsort((got[1], got[0]))
    np.testing.assert_array_equal(got[0][order], wanted[0])
    np.testing.assert_array_equal(got[1][order], wanted[1])
    assert level < 30 or len(wanted[0]) > 10


@needs_numba
def test_encoding_needs_no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tone(600, 0.1, 16_000)
    wanted = cochlea.encode(sound, 16_000, channels=70)
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    got = cochlea.encode(sound, 16_000, channels=70)
    np.testing.assert_array_equal(got, wanted)
    assert wanted[0].dtype == got[0].dtype == np.float64
    assert wanted[1].dtype == got[1].dtype == np.int64


def test_spikes_depend_on_the_seed_not_on_threads(threads: Callable[[int], None]) -> None:
    sound = noise(0.3, 16_000)
    threads(1)
    first = cochlea.encode(sound, 16_000, channels=100, seed=1)
    np.testing.assert_array_equal(first, cochlea.encode(sound, 16_000, channels=100, seed=1))
    for number in (2, 3):
        threads(number)
        np.testing.assert_array_equal(first, cochlea.encode(sound, 16_000, channels=100, seed=1))
    other = cochlea.encode(sound, 16_000, channels=100, seed=2)
    assert len(first[0]) != len(other[0]) or (first[0] != other[0]).any()


@pytest.mark.parametrize(("seconds", "channels"), [(0.011, 700), (0.3, 1), (0.6, 33)])
def test_spikes_lie_within_the_recording(seconds: float, channels: int) -> None:
    times, units = cochlea.encode(noise(seconds, 22_050), 22_050, channels=channels)
    assert len(times) == len(units)
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times <= seconds + STEP)).all()
    assert ((units >= 0) & (units < channels)).all()
    for unit in range(channels):
        assert (np.diff(times[units == unit]) > 1e-3).all()


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros(0), 8000, "0 samples"),
        (np.ones(79), 8000, "needs at least 80, 10 ms"),
        (np.zeros(8000), 8000, "silent"),
        (np.full(8000, np.nan), 8000, "Sample 0 of the audio is nan"),
        (np.r_[np.ones(100), np.inf], 8000, "Sample 100 of the audio is inf"),
        (np.ones((8000, 2)), 8000, "one channel"),
        (np.float64(1), 8000, "one channel"),
        (["a"] * 1000, 8000, "one channel"),
        (np.ones(8000), 0, "rate"),
        (np.ones(8000), -8000, "rate"),
        (np.ones(8000), 8000.5, "rate"),
        (np.ones(8000), math.nan, "rate"),
    ],
)
def test_bad_audio(sound: Any, rate: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cochlea.encode(sound, rate)


def test_bad_number_of_channels() -> None:
    with pytest.raises(UserError, match="at least one channel"):
        cochlea.encode(noise(0.1), 48_000, channels=0)


# Formants in Hz (Peterson and Barney 1952), of a man's vocal tract.
VOWELS = {
    "i": (270, 2290, 3010), "e": (530, 1840, 2480), "a": (730, 1090, 2440), "o": (570, 840, 2410),
    "u": (300, 870, 2240), "r": (490, 1350, 1690), "n": (250, 1200, 2300),
}  # fmt: skip
# Loudness of the hiss that the word starts with, vowels that it glides along.
WORDS = [
    (0.3, "irou"), (0.0, "uan"), (0.2, "u"), (0.1, "ri"), (0.1, "or"),
    (0.1, "ai"), (0.4, "i"), (0.4, "een"), (0.0, "ei"), (0.0, "nain"),
]  # fmt: skip


def speak(
    word: tuple[float, str], pitch: float, seconds: float, seed: int, rate: int = 8000
) -> NDArray[np.float64]:
    """A word-like sound of 4 kHz: pulses of the glottis and hiss through gliding formants."""
    hiss, vowels = word
    rng = np.random.default_rng(seed)
    size = int(seconds * rate)
    time = np.arange(size) / size
    phase = np.cumsum(pitch * (1.1 - 0.3 * time + 0.02 * rng.normal(size=size)) / rate)
    source = lfilter([1.0], [1.0, -0.9], np.diff(np.floor(phase), prepend=0.0))
    source = source + 0.01 * rng.normal(size=size)
    tract = 1.0 if pitch < 150 else 1.15
    centres = np.linspace(0, 1, len(vowels)) if len(vowels) > 1 else np.array([0.5])
    sound = np.zeros(size)
    for vowel, centre in zip(vowels, centres, strict=True):
        weight = np.clip(1 - np.abs(time - centre) * max(len(vowels) - 1, 1), 0, 1)
        voiced = source
        for formant, width in zip(VOWELS[vowel], (60, 90, 150), strict=True):
            radius = math.exp(-math.pi * width / rate)
            turn = math.cos(2 * math.pi * formant * tract / rate)
            poles = [1.0, -2 * radius * turn, radius**2]
            voiced = lfilter([sum(poles)], poles, voiced)
        sound += weight * voiced
    sound *= np.minimum(1, np.minimum((time - 0.15).clip(0) / 0.1, (1 - time) / 0.15))
    noisy = lfilter([1.0, -0.9], [1.0], rng.normal(size=size)) * (time < 0.25)
    return sound + hiss * sound.std() * noisy


def smooth_log_rates(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.log(rates + 0.1), np.ones(25) / 25, "valid")


def leads_ms(times: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much spikes about 1 kHz lead those about 2 kHz, of pairs within 4 ms."""
    low, high = times[abs(units - 400) < 10], times[abs(units - 300) < 10]
    lead = 1000 * (high[:, None] - low)
    return lead[np.abs(lead) < 4]


def profile(
    recordings: Iterable[tuple[NDArray[Any], NDArray[Any], float]],
) -> tuple[NDArray[np.float64], float]:
    """Spikes a second of each channel of (times, units, seconds), mean lead of low channels."""
    count, total, leads = np.zeros(700), 0.0, []
    for times, units, seconds in recordings:
        count += np.bincount(units, minlength=700)
        total += seconds
        leads.append(leads_ms(times.astype(np.float64), units.astype(np.int64)))
    return count / total, float(np.concatenate(leads).mean())


def spoken() -> Iterator[tuple[NDArray[Any], NDArray[Any], float]]:
    for seed, word in enumerate(WORDS):
        seconds, pitch = 0.35 + 0.02 * seed, (100, 120, 140, 190)[seed % 4]
        yield *cochlea.encode(speak(word, pitch, seconds, seed), 8000, seed=seed), seconds


def recorded() -> Iterator[tuple[NDArray[Any], NDArray[Any], float]]:
    """Every sixth recording."""
    with h5py.File(FSDD / "fsdd_train.h5") as file:
        for times, units in zip(file["spikes/times"][::6], file["spikes/units"][::6], strict=True):
            yield times, units, float(times.max())


@needs_fsdd
def test_speech_looks_like_the_recordings() -> None:
    (rates, lead), (wanted, wanted_lead) = profile(spoken()), profile(recorded())
    assert 1 / 1.5 < rates.sum() / wanted.sum() < 1.5
    smooth, wanted_smooth = smooth_log_rates(rates), smooth_log_rates(wanted)
    assert np.corrcoef(smooth, wanted_smooth)[0, 1] > 0.95
    assert np.abs(smooth - wanted_smooth).mean() < 0.5
    # low channels answer before high ones; with the membrane forwards in time it is -0.7 ms
    assert lead > 0.2
    assert wanted_lead > 0.2
