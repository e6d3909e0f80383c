"""A cochlea model that turns sound into spikes like those of SHD and SSC.

The model is that of Cramer, Stradmann, Schemmel and Zenke 2020 (doi 10.1109/TNNLS.2020.3044364):
the basilar membrane of Sieroka, Dosch and Rupp 2006, the hair cell of Meddis 1986 and 1988, and
integrate-and-fire bushy cells. Units are cm, g, s. On one core, a second of sound at 700 channels
takes less than half a second with numba and ten seconds without it; the first call takes longer.

Shapes: C channels, T steps of 1 / 24,000 s, F frequencies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import hankel1e, j0, j1, y0, y1

from snn_delays.data import cochlea_numba
from snn_delays.errors import UserError
from snn_delays.runtime import numba_jit

CHANNELS = 700
AUDIO_RATE = 48_000  # Hz, of the stimulus
STEP_RATE = AUDIO_RATE // 2  # Hz, of velocity and cells; the pools need more than 20,000
RMS = 0.3
SHORTEST_S = 0.01
RATES = (1000, 1_000_000)  # Hz

# Membrane (Sieroka, Dosch and Rupp 2006).
LENGTH = 3.5
ALPHA = 3.0  # 1/cm, fall of the stiffness
RHO = 1.0  # fluid's density
C_0 = 1e9  # stiffness at the base
DELTA = 0.15  # damping
HEIGHT = 0.1
MASS = 0.05
A_S = 3500.0
R_0 = DELTA * math.sqrt(C_0 * MASS)

# Pools, rates in 1/s (Meddis 1986, 1988).
A, B, G, Y, L, R, X, H, M = 5.0, 300.0, 2000.0, 5.05, 2500.0, 6580.0, 66.3, 50_000.0, 1.0

# Bushy cell.
FIBRES = 40
REFRACTORY = STEP_RATE // 1000  # steps; of fibres and of the bushy cell
TAU_MEM = 1e-3
TAU_SYN = 0.5e-3
WEIGHT = 13_000 / FIBRES

# The membrane is a filter of TAPS taps, most of them before time 0 (see `basilar_membrane`),
# applied to FFT_LENGTH samples at a time. Less than 2e-6 of a channel's energy lies outside them.
TAPS = 8192
TAPS_AFTER = 1024
FFT_LENGTH = 32_768
ADVANCE = FFT_LENGTH - TAPS  # samples whose velocity one FFT gives
BLOCK = 32  # channels at a time
NEGLIGIBLE = 1e-7  # share of a channel's largest response, about float32's precision
LOWEST = 1.0  # Hz: the formulas have no value at 0 Hz
HIGHEST, FALL = 23_000.0, 1000.0  # Hz: start and width of the fall to 0; a cut at 24 kHz would ring
BAND = 4.0  # in resonances of a position: the response above is far below NEGLIGIBLE


def encode(
    audio: ArrayLike, rate: float, *, channels: int = CHANNELS, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Spikes of the bushy cells along the cochlea.

    Args:
        audio: [samples], mono; its level does not matter.
        rate: samples per second, a whole number.
        channels: positions along the membrane, from about 22 kHz (channel 0) to about 110 Hz.
        seed: of the fibres' random spikes.

    Returns:
        Times in seconds, sorted, and units in [0, channels), each [spikes]. The spikes depend on
        audio, rate, channels and seed alone, not on the number of threads.

    Raises:
        UserError: the audio is not one channel of finite numbers, is silent or shorter than 10 ms,
            or an option is out of range.
    """
    if channels < 1:
        raise UserError(f"The cochlea needs at least one channel, not {channels}.")
    stimulus, keys = condition(audio, rate), channel_keys(channels, seed)
    if numba_jit.available():
        steps, units = _fire_blocks(stimulus, keys)
    else:
        steps, units = fire_plain(basilar_membrane(stimulus, channels), keys)
    order = np.lexsort((units, steps))
    return steps[order] / STEP_RATE, units[order]


def _fire_blocks(
    stimulus: NDArray[np.float64], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spikes by blocks of channels, since the velocity of all would not fit in the cache."""
    steps, units = [], []
    for block, velocity in enumerate(_velocities(stimulus, len(keys))):
        first = block * BLOCK
        step, unit = fire_compiled(velocity, keys[first : first + BLOCK])
        steps.append(step)
        units.append(unit + first)
    return np.concatenate(steps), np.concatenate(units)


def condition(audio: ArrayLike, rate: float) -> NDArray[np.float64]:
    """The membrane's stimulus: the sound at RMS 0.3, under a Hann window, at 48 kHz.

    Args:
        audio: [samples], mono.
        rate: samples per second.

    Returns:
        [samples at 48 kHz].

    Raises:
        UserError: as in `encode`.
    """
    sound = check_audio(audio, rate)
    sound = sound / np.abs(sound).max()  # no square overflows or vanishes
    sound *= RMS / math.sqrt(np.mean(sound * sound))
    return _resampled(sound * np.hanning(len(sound)), int(rate))


def check_audio(audio: ArrayLike, rate: float) -> NDArray[np.float64]:
    """The audio as float64, after checks.

    Raises:
        UserError: as in `encode`.
    """
    _check_rate(rate)
    sound = np.asarray(audio)
    if sound.ndim != 1 or sound.dtype.kind not in "iuf":
        raise UserError(
            f"The audio must be one channel of real numbers, [samples], not {sound.dtype} of shape"
            f" {list(sound.shape)}."
        )
    if len(sound) < SHORTEST_S * rate:
        raise UserError(
            f"The audio has {len(sound)} samples; at {rate} Hz the cochlea needs at least"
            f" {math.ceil(SHORTEST_S * rate)}, {1000 * SHORTEST_S:.0f} ms."
        )
    sound = sound.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(sound))
    if len(wrong):
        raise UserError(f"Sample {wrong[0]} of the audio is {sound[wrong[0]]}, not a number.")
    if not sound.any():
        raise UserError("The audio is silent: every sample is 0.")
    return sound


def _check_rate(rate: float) -> None:
    if not (RATES[0] <= rate <= RATES[1] and float(rate).is_integer()):
        raise UserError(
            f"The audio's rate must be a whole number of Hz from {RATES[0]} to {RATES[1]}, not"
            f" {rate}."
        )


def _resampled(sound: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Band-limited interpolation; exact, since a windowed recording is silent at its ends."""
    if rate == AUDIO_RATE:
        return sound
    common = math.gcd(rate, AUDIO_RATE)
    periods = scipy.fft.next_fast_len(-(-len(sound) * common // rate), real=True)
    before, after = periods * (rate // common), periods * (AUDIO_RATE // common)
    spectrum = scipy.fft.rfft(sound, before)
    wanted = math.ceil(len(sound) * AUDIO_RATE / rate)
    return scipy.fft.irfft(spectrum, after)[:wanted] * (after / before)


def positions(channels: int = CHANNELS) -> NDArray[np.float64]:
    """Positions of the channels along the membrane, in cm from its base, [C]."""
    return np.linspace(0.0, LENGTH, channels)


def transfer_function(
    frequency: NDArray[np.float64], position: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """The membrane's velocity per unit of stimulus (Sieroka, Dosch and Rupp 2006), time e^(-iwt).

    Args:
        frequency: Hz, above 0, [F].
        position: cm from the base, [C].

    Returns:
        [C, F].
    """
    w = 2 * np.pi * frequency
    tension = A_S + MASS * w**2
    base, place = _Place(w, np.zeros(1)), _Place(w, position[:, None])
    L = np.log(base.sum / (np.exp(ALPHA / 2 * position[:, None]) * place.sum))
    G_0 = 2 * base.g / ALPHA
    G = G_0 - 2j * math.sqrt(2) * w * L / (ALPHA * np.sqrt(2 * HEIGHT * tension))
    p, p_0 = np.sqrt(G / place.g) * hankel1e(0, G), np.sqrt(G_0 / base.g) * hankel1e(0, G_0)
    ratio = p / p_0 * np.exp(1j * (G - G_0))  # the Hankel functions are scaled against underflow
    return 2 * w / place.root**2 * ratio * _impedance(frequency)


def resonance(position: float) -> float:
    """Frequency in Hz at which a position's stiffness and mass cancel, without its damping."""
    return math.sqrt(C_0 * math.exp(-ALPHA * position) / MASS) / (2 * np.pi)


class _Place:
    """Quantities of a position along the membrane: sqrt(xi), g and q - 2 sqrt(xi), each [C, F]."""

    def __init__(self, w: NDArray[np.float64], position: NDArray[np.float64]) -> None:
        stiffness = C_0 * np.exp(-ALPHA * position) - A_S
        resistance = R_0 * np.exp(-ALPHA / 2 * position)
        self.root = np.sqrt(stiffness - MASS * w**2 - 1j * w * resistance)
        self.g = w * math.sqrt(RHO / HEIGHT) / self.root
        q = 1j * (2 * A_S + w * (2 * MASS * w + 1j * resistance)) / np.sqrt(A_S + MASS * w**2)
        self.sum = q - 2 * self.root


def _impedance(frequency: NDArray[np.float64]) -> NDArray[np.complex128]:
    s = 4 * np.pi * frequency / ALPHA * math.sqrt(2 / (HEIGHT * C_0))
    return math.sqrt(2 * C_0 / HEIGHT) * (1j * j0(s) + y0(s)) / (j1(s) - 1j * y1(s))


def basilar_membrane(
    stimulus: NDArray[np.float64], channels: int = CHANNELS
) -> NDArray[np.float32]:
    """Velocity of the membrane at every second sample of the stimulus.

    The velocity is the real part of the inverse FFT of transfer function times FFT. An inverse FFT
    has e^(+iwt) where the transfer function has e^(-iwt), so the membrane runs backwards in time:
    it responds before the sound, low channels before high ones. Recordings made with the published
    model have the same property. Bins below 1 Hz take the transfer function's value at 1 Hz; above
    23 kHz it falls to 0.

    Args:
        stimulus: [samples] at 48 kHz.
        channels: number of positions.

    Returns:
        [C, samples / 2 rounded up] at 24 kHz.
    """
    return np.concatenate(list(_velocities(stimulus, channels)))


def _velocities(stimulus: NDArray[np.float64], channels: int) -> Iterator[NDArray[np.float32]]:
    """Yield the velocity of one block of channels after another."""
    spectra = _spectra(stimulus)
    width = ADVANCE // 2
    for response in _responses(channels):
        velocity = np.empty((len(response), len(spectra) * width), np.float32)
        for n, spectrum in enumerate(spectra):
            velocity[:, n * width : (n + 1) * width] = _filtered(spectrum, response)
        yield velocity[:, : -(-len(stimulus) // 2)]


def _spectra(stimulus: NDArray[np.float64]) -> NDArray[np.complex64]:
    """First halves of the FFTs of overlapping stretches of the stimulus."""
    stretches = -(-len(stimulus) // ADVANCE)
    padded = np.zeros((stretches - 1) * ADVANCE + FFT_LENGTH)
    padded[TAPS_AFTER : TAPS_AFTER + len(stimulus)] = stimulus
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT_LENGTH)[::ADVANCE]
    return scipy.fft.rfft(windows)[:, : FFT_LENGTH // 2].astype(np.complex64)


def _filtered(
    spectrum: NDArray[np.complex64], response: NDArray[np.complex64]
) -> NDArray[np.float32]:
    """Real part of the inverse FFT of the product, [C, ADVANCE / 2]."""
    half = FFT_LENGTH // 4
    known = response.shape[1]
    low = min(known, half + 1)
    # the real part of an inverse FFT is that of the part with Hermitian symmetry
    symmetric = np.zeros((len(response), half + 1), np.complex64)
    np.multiply(response[:, :low], spectrum[:low] / 2, out=symmetric[:, :low])
    if known > half:
        mirror = slice(2 * half - known + 1, half + 1)
        symmetric[:, mirror] += np.conj(
            response[:, known - 1 : half - 1 : -1] * (spectrum[known - 1 : half - 1 : -1] / 2)
        )
    symmetric[:, 0] *= 2
    velocity = scipy.fft.irfft(
        symmetric, 2 * half, overwrite_x=True, workers=torch.get_num_threads()
    )
    return velocity[:, TAPS_AFTER // 2 : (TAPS_AFTER + ADVANCE) // 2]


@functools.lru_cache(maxsize=4)
def _responses(channels: int) -> list[NDArray[np.complex64]]:
    """Transfer functions of blocks of channels, up to their last frequency that matters."""
    position = positions(channels)
    return [_response(position[n : n + BLOCK]) for n in range(0, channels, BLOCK)]


def _response(position: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Transfer functions, evaluated at the frequencies of TAPS samples and interpolated, [C, F]."""
    step = AUDIO_RATE / TAPS
    frequency = step * np.arange(min(TAPS // 2, math.ceil(BAND * resonance(position[0]) / step)))
    transfer = transfer_function(np.maximum(frequency, LOWEST), position)
    transfer *= np.cos(np.pi / 2 * ((frequency - HIGHEST) / FALL).clip(0, 1)) ** 2
    size = np.abs(transfer)
    matters = np.flatnonzero((size > NEGLIGIBLE * size.max(1, keepdims=True)).any(0))
    taps = scipy.fft.irfft(transfer, TAPS)
    gap = np.zeros((len(taps), FFT_LENGTH - TAPS))
    taps = np.concatenate([taps[:, :TAPS_AFTER], gap, taps[:, TAPS_AFTER:]], 1)
    known = (matters[-1] + 1) * FFT_LENGTH // TAPS
    return scipy.fft.rfft(taps)[:, :known].astype(np.complex64)


class Pools(NamedTuple):
    """Transmitter of each hair cell, [C]: free, in the cleft, in the reprocessing store."""

    q: Any
    c: Any
    w: Any


def resting_pools() -> Pools:
    """The pools' steady state where the membrane does not move."""
    k = G * A / (A + B)
    c = M * Y * k / (L * k + Y * (L + R))
    return Pools(c * (L + R) / k, c, c * R / X)


def step_pools(pools: Pools, velocity: NDArray[np.float64]) -> Pools:
    """The pools after one Euler step (Meddis 1986, equations 1 to 4).

    No pool falls below 0, since a step of 1 / 24,000 s takes less from each pool than it holds.
    """
    g, y, keep_c, r, x, keep_w = pool_constants()
    q, c, w = pools
    drive = velocity + A
    k = np.zeros_like(drive)
    np.divide(g * drive, drive + B, out=k, where=drive > 0)
    refill = y * np.maximum(M - q, 0.0) + x * w
    return Pools(q * (1.0 - k) + refill, c * keep_c + k * q, w * keep_w + r * c)


def pool_constants() -> tuple[float, float, float, float, float, float]:
    """Constants per step: largest release, refill, share kept in the cleft, uptake, return, share
    kept in the store."""
    dt = 1 / STEP_RATE
    return dt * G, dt * Y, 1 - dt * (L + R), dt * R, dt * X, 1 - dt * X


def channel_keys(channels: int, seed: int) -> NDArray[np.uint64]:
    """Seed of each channel's random numbers, [C]."""
    start = _mixed(np.array([int(seed) % 2**64], np.uint64))
    return _mixed(start + np.arange(channels, dtype=np.uint64) * cochlea_numba.GOLDEN)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> cochlea_numba.SHIFT_1)) * cochlea_numba.MIX_1
    z = (z ^ (z >> cochlea_numba.SHIFT_2)) * cochlea_numba.MIX_2
    return z ^ (z >> cochlea_numba.SHIFT_3)


def binomial(
    u: NDArray[np.float64], n: NDArray[np.int64], p: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The binomial distribution of n fibres, inverted at u in [0, 1); all [C], p below 1."""
    fired = np.zeros_like(n)
    # no fibre fires for u < (1 - p)^n, and (1 - p)^n >= 1 - n p
    some = np.flatnonzero(u >= 1.0 - n * p)
    if some.size:
        fired[some] = _inverted(u[some], n[some], p[some])
    return fired


def _inverted(
    u: NDArray[np.float64], n: NDArray[np.int64], p: NDArray[np.float64]
) -> NDArray[np.int64]:
    chance = _power(1.0 - p, n)
    odds = p / (1.0 - p)
    total = chance.copy()
    fired = np.zeros_like(n)
    while (more := (u >= total) & (fired < n)).any():
        chance = np.where(more, chance * (odds * (n - fired) / (fired + 1)), chance)
        total = np.where(more, total + chance, total)
        fired += more
    return fired


def _power(base: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """``base ** n`` by squaring, since libraries' powers differ in the last digit."""
    product = np.ones_like(base)
    while n.any():
        product = np.where(n & 1, product * base, product)
        base, n = base * base, n >> 1
    return product


def fire_plain(
    velocity: NDArray[np.floating], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps and channels of the bushy cells' spikes, each [spikes].

    The number of a channel's forty fibres that fire is one binomial draw among those that did not
    fire in the last millisecond. In each step, a cell's current I and membrane v decay by
    e^(-dt/tau); then I grows by the weight times dt for each fibre's spike, and v by I. In silence
    cells fire at 0.78 Hz, as in recordings made with the published model; with decay by Euler steps
    they would fire at 0.32 Hz.

    Args:
        velocity: of the membrane, [C, T].
        keys: from `channel_keys`, [C].

    Returns:
        Steps and channels, sorted by step, then by channel.
    """
    pools, cells = resting_pools(), _BushyCells(len(velocity))
    counter = keys.copy()
    spikes = []
    for b in velocity.T.astype(np.float64):
        counter += cochlea_numba.GOLDEN
        pools = step_pools(pools, b)
        u = np.asarray(_mixed(counter) >> cochlea_numba.SHIFT_4, np.float64)
        spikes.append(cells.step(u * cochlea_numba.UNIT, H / STEP_RATE * pools.c))
    steps, units = np.nonzero(np.stack(spikes))
    return steps, units


class _BushyCells:
    """Fibres and bushy cells of all channels."""

    def __init__(self, channels: int) -> None:
        self.ready = np.full(channels, FIBRES)
        self.fired = [np.zeros(channels, np.int64) for _ in range(REFRACTORY)]
        self.current = np.zeros(channels)
        self.v = np.zeros(channels)
        self.blocked = np.zeros(channels, np.int64)

    def step(self, u: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Advance by a step; returns a mask of the cells that fire, [C]."""
        self.ready += self.fired.pop(0)
        fired = binomial(u, self.ready, p)
        self.fired.append(fired)
        self.ready -= fired
        decay_current, decay_v, weight = bushy_constants()
        self.current = self.current * decay_current + weight * fired
        self.v = np.where(self.blocked > 0, 0.0, self.v * decay_v + self.current)
        self.blocked = np.maximum(self.blocked - 1, 0)
        spikes = self.v >= 1.0
        self.v[spikes] = 0.0
        self.blocked[spikes] = REFRACTORY
        return spikes


def bushy_constants() -> tuple[float, float, float]:
    """Constants per step: decay of the current and of the membrane, current of a fibre's spike."""
    dt = 1 / STEP_RATE
    return math.exp(-dt / TAU_SYN), math.exp(-dt / TAU_MEM), WEIGHT * dt


def fire_compiled(
    velocity: NDArray[np.floating], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`fire_plain`, compiled: the same spikes, sorted by channel."""
    channels, steps = velocity.shape
    found = np.empty((channels, steps // REFRACTORY + 1), np.int64)
    count = np.empty(channels, np.int64)
    cochlea_numba.fire(
        np.ascontiguousarray(velocity), keys, tuple(resting_pools()),
        (A, B, *pool_constants(), M), H / STEP_RATE, bushy_constants(), FIBRES, REFRACTORY,
        found, count,
    )  # fmt: skip
    filled = np.arange(found.shape[1]) < count[:, None]
    return found[filled], np.nonzero(filled)[0]
