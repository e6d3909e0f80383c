"""Speech: log-mel frames of waveforms, and augmentation of waveforms.

Shapes: B batch, N samples at 16 kHz, T frames, I bands.

The front end is that of the published results on Google Speech Commands: Hammouamri, Khalfaoui-
Hassani, Masquelier, "Learning delays in spiking neural networks using dilated convolutions with
learnable spacings", arXiv 2306.17670. The authors use torchaudio and librosa. This module is
written from the formulas and computes in float64: in float32, rounding errors hide the bands that
are far below the loudest band of their frame.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.config import MEL_BANDS
from snn_delays.errors import UserError

RATE = 16_000  # Hz, of waveforms
FLOOR = 1e-10  # of energies, so -100 dB

_FFT = 256  # samples at 8 kHz
_MEL_RANGE = (50.0, 14_000.0)  # Hz
_REACH = 12  # samples at 16 kHz on either side of the low-pass filter's centre
_BLOCK = 32  # samples at 8 kHz per matrix product; affects speed alone
_FINER = 4  # density of the grid on which a change of speed interpolates, in samples


# ---- front end ----------------------------------------------------------------------------------


def fit_length(wave: NDArray[Any], samples: int) -> NDArray[Any]:
    """A waveform [N] as [samples]: cut, or padded with zeros, at its end."""
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


def log_mel(waves_BN: Tensor, *, step_ms: float = 10.0) -> Tensor:
    """Log-mel energies of waveforms, in dB.

    Waveforms are halved to 8 kHz as ``torchaudio.transforms.Resample`` does: every second value of
    the convolution with

        h[n] = 0.495 sinc(0.495 n) cos^2(0.495 pi n / 12),  |n| <= 12.

    Frames are ``|STFT|^2`` with 256 points, a periodic Hann window, centred, their ends reflected.
    Bands are those of ``librosa.filters.mel(sr=8000, n_fft=256, n_mels=140, fmin=50, fmax=14000,
    htk=True, norm=None)``: triangles evenly spaced in ``2595 log10(1 + f / 700)``. Their values are
    ``10 log10(max(energy, 1e-10))``; bands 87 to 139 lie above 4 kHz and are always -100 dB.

    Args:
        waves_BN: float32 in [-1, 1], at 16 kHz, on any device with float64; at least 257 samples.
        step_ms: time between frames in ms; a multiple of 0.125, which is a sample at 8 kHz.

    Returns:
        [B, T, 140] float32 with ``T = 1 + floor(ceil(N / 2) / (8 step_ms))``: 101 for 1 s.

    Raises:
        UserError: ``step_ms`` is not a multiple of 0.125, or the waveforms are too short.
    """
    assert waves_BN.is_floating_point(), "waveforms in [-1, 1], not integers"
    hop = 8 * step_ms
    if not (hop >= 1 and float(hop).is_integer()):
        raise UserError(f"step_ms={step_ms:g} must be a multiple of 0.125 ms for speech.")
    if waves_BN.shape[1] <= _FFT:
        raise UserError(
            f"Waveforms of {waves_BN.shape[1]} samples are too short for frames; they need at"
            f" least {_FFT + 1} (data.seconds)."
        )
    return torch.cat([_log_mel(waves, int(hop)) for waves in waves_BN.split(_chunk(waves_BN))])


def _log_mel(waves_BN: Tensor, hop: int) -> Tensor:
    window, mel = (torch.from_numpy(a).to(waves_BN.device) for a in (_hann(), _mel()))
    halved = torch.nn.functional.pad(_halve(waves_BN.double()), (_FFT // 2,) * 2, mode="reflect")
    spectrum = torch.fft.rfft(halved.unfold(1, _FFT, hop) * window)
    energy = (spectrum.real**2 + spectrum.imag**2) @ mel
    heard = energy.clamp_(min=FLOOR).log10_().mul_(10).float()
    silent = 10 * math.log10(FLOOR)
    return torch.nn.functional.pad(heard, (0, MEL_BANDS - heard.shape[2]), value=silent)


def _halve(waves_BN: Tensor) -> Tensor:
    """Waveforms at 8 kHz, [B, ceil(N / 2)].

    Each block of values is one product with a matrix whose columns are the shifted filter. A
    convolution of stride 2 in float64 would be several times slower.
    """
    samples = waves_BN.shape[1]
    halved = -(-samples // 2)
    blocks = -(-halved // _BLOCK)
    behind = 2 * _BLOCK * blocks - samples + _REACH
    padded = torch.nn.functional.pad(waves_BN, (_REACH, behind))
    filters = torch.from_numpy(_halving()).to(waves_BN.device)
    return (padded.unfold(1, len(filters), 2 * _BLOCK) @ filters).flatten(1)[:, :halved]


@functools.cache
def _halving() -> NDArray[np.float64]:
    """The matrix from samples at 16 kHz to a block at 8 kHz, [2 _BLOCK + 23, _BLOCK]."""
    n = np.arange(-_REACH, _REACH + 1)
    h = 0.495 * np.sinc(0.495 * n) * np.cos(0.495 * np.pi * n / _REACH) ** 2
    filters = np.zeros((2 * (_BLOCK - 1) + len(h), _BLOCK))
    for m in range(_BLOCK):
        filters[2 * m : 2 * m + len(h), m] = h
    return filters


@functools.cache
def _hann() -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)


@functools.cache
def _mel() -> NDArray[np.float64]:
    """The matrix from frequencies to the bands that have any, [129, 87]; values as in librosa."""
    low, high = (2595 * math.log10(1 + f / 700) for f in _MEL_RANGE)
    edges = 700 * (10 ** (np.linspace(low, high, MEL_BANDS + 2) / 2595) - 1)[:, None]
    frequencies = np.linspace(0, RATE / 4, _FFT // 2 + 1)
    width = np.diff(edges, axis=0)
    rising, falling = (frequencies - edges[:-2]) / width[:-1], (edges[2:] - frequencies) / width[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return np.ascontiguousarray(triangles[triangles.any(axis=1)].T, np.float64)


def _chunk(waves_BN: Tensor) -> int:
    """Number of waveforms per computation, so that they fit in a CPU's cache."""
    return 8 if waves_BN.device.type == "cpu" else 256


# ---- augmentation -------------------------------------------------------------------------------


def augment_waves(
    waves_BN: Tensor, *, roll_ms: float, speed: float, rng: np.random.Generator
) -> Tensor:
    """Rotate waveforms, then change their speed, each waveform by its own random amounts.

    Args:
        waves_BN: float32 at 16 kHz.
        roll_ms: every waveform is rotated by a whole number of samples, uniform within +-roll_ms,
            as by ``torch.roll``: samples that leave at one end enter at the other. An option of
            arXiv 2306.17670 ("random roll"). 0: off.
        speed: every waveform is played faster by a factor that is uniform in
            [1 - speed, 1 + speed]. Ko, Peddinti, Povey, Khudanpur, "Audio augmentation for speech
            recognition", Interspeech 2015; in the paper the factor is 0.9, 1 or 1.1. Waveforms that
            become too long are cut, shorter ones are padded with zeros. 0: off.
        rng: spawns one generator for each augmentation, on or off; draws nothing itself.

    Returns:
        [B, N]: ``waves_BN`` itself if both are off, otherwise a new tensor.
    """
    assert roll_ms >= 0
    assert 0 <= speed < 1
    of_roll, of_speed = rng.spawn(2)
    samples = waves_BN.shape[0]
    if roll_ms > 0:
        most = int(roll_ms * RATE / 1000)
        waves_BN = _roll(waves_BN, of_roll.integers(-most, most, samples, endpoint=True))
    if speed > 0:
        waves_BN = _change_speed(waves_BN, of_speed.uniform(1 - speed, 1 + speed, samples))
    return waves_BN


def _roll(waves_BN: Tensor, by_B: NDArray[np.int64]) -> Tensor:
    return torch.stack([wave.roll(by) for wave, by in zip(waves_BN, by_B.tolist(), strict=True)])


def _change_speed(waves_BN: Tensor, factor_B: NDArray[np.float64]) -> Tensor:
    """``x(factor t)`` of every waveform, and 0 after its end.

    First, frequencies that would exceed the Nyquist frequency are removed. Then a Fourier transform
    gives the waveform on a grid four times denser, and cubics through four points of the grid give
    the values, with an error of 0.06 % at 4 kHz and less below.
    """
    factors = torch.from_numpy(factor_B).to(waves_BN.device)
    size = _chunk(waves_BN)
    chunks = zip(waves_BN.split(size), factors.split(size), strict=True)
    return torch.cat([_faster(waves, factor) for waves, factor in chunks])


def _faster(waves_BN: Tensor, factor_B: Tensor) -> Tensor:
    samples = waves_BN.shape[1]
    at_BN = torch.arange(samples, device=waves_BN.device) * factor_B[:, None]
    fine_BN = _finer(waves_BN, factor_B.clamp(min=1))
    values = _cubic(fine_BN, at_BN.clamp(max=samples - 1) * _FINER)
    return torch.where(at_BN <= samples - 1, values, 0)


def _finer(waves_BN: Tensor, narrower_B: Tensor) -> Tensor:
    """Waveforms on the denser grid, circular, below the Nyquist frequency / ``narrower``."""
    size = 512 * -(-(waves_BN.shape[1] + 256) // 512)  # zeros at the end separate both ends
    spectrum = torch.fft.rfft(waves_BN, size)
    k = torch.arange(spectrum.shape[1], device=waves_BN.device)
    kept = k * narrower_B[:, None] < size // 2
    return torch.fft.irfft(spectrum * kept, _FINER * size) * _FINER


def _cubic(values_BN: Tensor, at_BN: Tensor) -> Tensor:
    """Interpolated values of a circular sequence: cubics through two points on either side."""
    below = at_BN.floor()
    d = (at_BN - below).to(values_BN.dtype)
    weights = (
        d * (d - 1) * (2 - d) / 6,
        (d + 1) * (d - 1) * (d - 2) / 2,
        (d + 1) * d * (2 - d) / 2,
        (d + 1) * d * (d - 1) / 6,
    )
    first = below.long() - 1
    total = torch.zeros_like(d)
    for n, weight in enumerate(weights):
        total += weight * values_BN.gather(1, (first + n) % values_BN.shape[1])
    return total
