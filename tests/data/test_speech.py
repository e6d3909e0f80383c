"""Audio: what is read of wav files, the front end against its formulas, changes of waveforms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from snn_delays.data.speech import RATE, augment_waves, fit_length, log_mel
from snn_delays.errors import UserError

librosa = pytest.importorskip("librosa")

SECOND = np.arange(RATE) / RATE


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32))


def frequency(signal: np.ndarray, rate: int = RATE) -> float:
    """Of a tone, by a parabola through the logarithm of its spectrum's peak."""
    spectrum = np.log(np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) + 1e-12)
    k = int(spectrum.argmax())
    a, b, c = spectrum[k - 1 : k + 2]
    return (k + (a - c) / (2 * (a - 2 * b + c))) * rate / len(signal)


# ---- front end ----------------------------------------------------------------------------------


def librosa_bands() -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters detected")
        return librosa.filters.mel(
            sr=8000, n_fft=256, n_mels=140, fmin=50, fmax=14000, htk=True, norm=None
        )


def plain_log_mel(x: np.ndarray, hop: int) -> np.ndarray:
    """The formulas for one waveform, in float64."""
    n = np.arange(-12, 13)
    h = 0.495 * np.sinc(0.495 * n) * np.cos(0.495 * np.pi * n / 12) ** 2
    halved = upfirdn(h, x.astype(np.float64), 1, 2)[6 : 6 + math.ceil(len(x) / 2)]
    padded = np.pad(halved, 128, mode="reflect")
    n, k = np.arange(256), np.arange(129)
    window = np.sin(np.pi * n / 256) ** 2
    fourier = np.exp(-2j * np.pi * np.outer(n, k) / 256)
    starts = range(0, len(padded) - 255, hop)
    power = np.abs(np.stack([padded[s : s + 256] * window for s in starts]) @ fourier) ** 2
    return 10 * np.log10(np.maximum(power @ librosa_bands().T.astype(np.float64), 1e-10))


def speechlike(samples: int) -> np.ndarray:
    """Loud low tones, weak high ones, noise at one level of 16 bits, silence, and an impulse."""
    t = np.arange(samples) / RATE
    rng = np.random.default_rng(7)
    x = 0.7 * np.sin(2 * np.pi * 180 * t) + 1e-3 * np.sin(2 * np.pi * 3500 * t)
    x += rng.normal(0, 1 / 32768, samples)
    x[samples // 2 : samples * 3 // 4] = 0
    x[samples * 5 // 8] = 1.0
    return x.astype(np.float32)


WAVES = {
    "white noise": noise(RATE).numpy(),
    "loud and weak": speechlike(RATE),
    "almost silent": noise(RATE).numpy() * np.float32(1e-5),
    "full scale": np.sign(noise(RATE).numpy()),
    "constant": np.full(RATE, 0.25, np.float32),
    "odd length": speechlike(12_345),
    "shortest": speechlike(257),
    "long": speechlike(50_001),
}


@pytest.mark.parametrize("step_ms", [10.0, 4.125])
@pytest.mark.parametrize("name", WAVES)
def test_log_mel_is_what_the_formulas_say(name: str, step_ms: float) -> None:
    x = WAVES[name]
    found = log_mel(torch.from_numpy(x)[None], step_ms=step_ms)
    assert found.dtype == torch.float32
    expected = plain_log_mel(x, int(8 * step_ms))
    assert found.shape == (1, *expected.shape)
    # in dB, down to the floor: float64 inside leaves the rounding of the result, 4e-6 at 100 dB
    np.testing.assert_allclose(found[0].double().numpy(), expected, rtol=0, atol=1e-5)


def test_a_second_has_101_frames_whose_upper_bands_are_the_floor() -> None:
    frames = log_mel(noise(3, RATE))
    assert frames.shape == (3, 101, 140)
    assert (frames[:, :, 87:] == -100).all()
    assert (frames[:, :, :87] > -100).all()


def test_silence_is_the_floor() -> None:
    assert (log_mel(torch.zeros(2, RATE)) == -100).all()


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 300])
def test_a_waveforms_neighbours_do_not_matter(batch: int) -> None:
    waves = noise(batch, 4000)
    alone = log_mel(waves[-1:])
    waves[:-1] = math.nan
    torch.testing.assert_close(log_mel(waves)[-1:], alone, rtol=0, atol=1e-5)


def test_log_mel_changes_no_input_and_repeats_itself() -> None:
    waves = noise(2, RATE)
    before = waves.clone()
    assert torch.equal(log_mel(waves), log_mel(waves))
    assert torch.equal(waves, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_log_mel_on_a_gpu() -> None:
    waves = torch.from_numpy(WAVES["loud and weak"])[None]
    found = log_mel(waves.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), log_mel(waves), rtol=0, atol=1e-5)


@pytest.mark.parametrize("step_ms", [0.0, 0.01, 0.3, 10.01, math.inf, math.nan])
def test_steps_between_samples_are_refused(step_ms: float) -> None:
    with pytest.raises(UserError, match=r"multiple of 0\.125 ms"):
        log_mel(torch.zeros(1, RATE), step_ms=step_ms)


def test_waveforms_too_short_for_a_frame_are_refused() -> None:
    with pytest.raises(UserError, match=r"256 samples are too short.*at least 257"):
        log_mel(torch.zeros(1, 256))


# ---- lengths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3, 5, 8])
def test_waveforms_get_one_length(samples: int) -> None:
    found = fit_length(np.arange(1, 6, dtype=np.int16), samples)
    assert found.dtype == np.int16
    assert found.tolist() == [1, 2, 3, 4, 5, 0, 0, 0][:samples]


# ---- augmentation -------------------------------------------------------------------------------


def changed_waves(
    waves: torch.Tensor, roll_ms: float = 0, speed: float = 0, seed: int = 0
) -> torch.Tensor:
    return augment_waves(waves, roll_ms=roll_ms, speed=speed, rng=np.random.default_rng(seed))


def test_roll_rotates_each_by_its_own_amount_within_its_bounds() -> None:
    waves = torch.arange(400.0).repeat(300, 1)
    rolled = changed_waves(waves, roll_ms=1.0)
    by = rolled[:, 0].neg().remainder(400).int()
    shifts = torch.where(by > 200, by - 400, by).tolist()
    for row, shift in zip(rolled, shifts, strict=True):
        assert torch.equal(row, waves[0].roll(shift))
    assert set(shifts) == set(range(-16, 17))


def test_rolls_longer_than_the_waveform_are_rotations_too() -> None:
    waves = noise(20, 50)
    rolled = changed_waves(waves, roll_ms=1000.0)
    assert torch.equal(rolled.sort(dim=1).values, waves.sort(dim=1).values)


def factors(speed: float, number: int, seed: int = 0) -> np.ndarray:
    _, stream = np.random.default_rng(seed).spawn(2)
    return stream.uniform(1 - speed, 1 + speed, number)


def test_speed_changes_a_tones_frequency_by_a_factor_of_its_own() -> None:
    waves = torch.from_numpy(tone(1000).astype(np.float32)).repeat(50, 1)
    found = changed_waves(waves, speed=0.2)
    assert found.dtype == torch.float32
    assert found.shape == waves.shape
    by = np.array([frequency(x[: int(RATE / 1.3)]) / 1000 for x in found.numpy()])
    np.testing.assert_allclose(by, factors(0.2, 50), atol=1e-4)
    assert by.min() < 0.83
    assert by.max() > 1.17


@pytest.mark.parametrize(("hertz", "error"), [(300, 1e-4), (2000, 1e-4), (4000, 6e-4)])
def test_speed_keeps_the_shape_of_what_it_moves(hertz: float, error: float) -> None:
    # a tone that fades in and out, so that its ends hold nothing
    def at(seconds: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * seconds) * np.exp(-(((seconds - 0.4) / 0.08) ** 2))

    waves = torch.from_numpy(at(SECOND).astype(np.float32)).repeat(20, 1)
    expected = at(factors(0.3, 20)[:, None] * SECOND)
    np.testing.assert_allclose(changed_waves(waves, speed=0.3).numpy(), expected, atol=error)


def test_what_would_exceed_the_nyquist_frequency_is_taken_out() -> None:
    waves = torch.from_numpy(tone(7800).astype(np.float32)).repeat(30, 1)
    found = changed_waves(waves, speed=0.2)[:, 1000:10_000].square().mean(dim=1).sqrt().numpy()
    folds = factors(0.2, 30) * 7800 > 8100
    assert folds.any()
    assert (found[folds] < 0.01).all()


def test_behind_the_end_of_a_faster_waveform_are_zeros() -> None:
    found = changed_waves(torch.ones(30, 1000), speed=0.5)
    for x, factor in zip(found.numpy(), factors(0.5, 30), strict=True):
        length = min(1000, int(999 / factor) + 1)
        assert (x[length:] == 0).all()
        np.testing.assert_allclose(x[50 : length - 50], 1, atol=0.01)


def test_augmentation_switched_off_changes_and_draws_nothing() -> None:
    waves, rng = noise(3, 500), np.random.default_rng(0)
    assert augment_waves(waves, roll_ms=0, speed=0, rng=rng) is waves
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_augmentation_repeats_itself_and_spares_its_input() -> None:
    waves = noise(5, 2000)
    before = waves.clone()
    first = changed_waves(waves, 20, 0.1)
    assert torch.equal(first, changed_waves(waves, 20, 0.1))
    assert not torch.equal(first, changed_waves(waves, 20, 0.1, seed=1))
    assert torch.equal(waves, before)


def test_the_draws_of_roll_and_speed_are_independent() -> None:
    waves = noise(5, 2000)
    rolled = changed_waves(waves, roll_ms=20)
    # neither's draws depend on whether the other is on
    assert torch.equal(changed_waves(waves, 20, 0.1), changed_waves(rolled, speed=0.1))
    of_roll, of_speed = (g.random(5) for g in np.random.default_rng(0).spawn(2))
    assert not np.isin(of_roll, of_speed).any()


@pytest.mark.parametrize("samples", [1, 2, 257, 12_345])
def test_augmentation_takes_any_length(samples: int) -> None:
    found = changed_waves(noise(3, samples), roll_ms=5, speed=0.3)
    assert found.shape == (3, samples)
    assert found.isfinite().all()
