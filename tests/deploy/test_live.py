"""`snn-delays live`: what a microphone hears is decided as a file of it is."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays import cli
from snn_delays.config import Config
from snn_delays.deploy import Deployed, from_network
from snn_delays.deploy.frontend import LOOK_AHEAD, LogMelFrames, log_mel_frames
from snn_delays.deploy.live import BEFORE, Microphone
from snn_delays.deploy.network import FrontEnd
from snn_delays.deploy.predict import Prediction, predict
from snn_delays.deploy.recordings import Recording, recordings
from snn_delays.nn import build_network
from tests.deploy.test_predict import RATE, write_wav

SECONDS = 0.3
ANY_SOUND = -100.0  # dB, less than the smallest sample


@pytest.fixture(scope="module")
def network() -> Deployed:
    config = Config()
    config.data.name, config.data.seconds = "audio_folder", SECONDS
    config.model.hidden, config.model.taps = [6], 5
    torch.manual_seed(0)
    return from_network(build_network(config, 2), config, ["no", "yes"], 31)


def sound(seconds: float = SECONDS, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)


def blocks(wave: Any, size: int) -> list[Any]:
    return [wave[start : start + size] for start in range(0, len(wave), size)]


def heard(network: Deployed, wave: Any, size: int, level: float, count: int) -> list[Prediction]:
    """The final decisions on the first recordings in a wave that comes in blocks."""
    microphone = Microphone(network.front, level)
    for block in blocks(wave, size):
        microphone.hear(block[:, None], len(block), None, None)
    finals = (p for p in predict(network, microphone.recordings(), 30) if p.final)
    return [next(finals) for _ in range(count)]


def assert_same(mine: Prediction, theirs: Prediction) -> None:
    assert np.array_equal(mine.decision.scores, theirs.decision.scores)
    assert mine.decision.name == theirs.decision.name
    for name in ("decided_at_ms", "leads_since_ms", "ended_at_ms", "final"):
        assert getattr(mine, name) == getattr(theirs, name)


@pytest.mark.parametrize("size", [1, 97, 160, 1000, 4000])
@pytest.mark.parametrize("step_ms", [10.0, 8.125])
def test_frames_are_those_of_the_whole_to_the_bit(step_ms, size) -> None:
    front = FrontEnd("log_mel", step_ms, 140, seconds=0.2 if size > 1 else 0.05)
    wave = sound(front.seconds)
    frames, want = LogMelFrames(front), log_mel_frames(wave, front)
    got: list[Any] = []
    for number, block in enumerate(blocks(wave, size), 1):
        got += [*frames.add(block)]
        heard, hop = min(number * size, len(wave)), 16 * step_ms
        due = sum(t * hop + LOOK_AHEAD <= heard for t in range(len(want)))
        assert len(got) == (due if frames.missing else len(want))
    assert np.array_equal(np.stack(got), want)


def test_a_frame_depends_on_its_look_ahead_and_on_no_more() -> None:
    front = FrontEnd("log_mel", 10.0, 140, seconds=0.1)
    wave, frame = sound(front.seconds), 3
    want = log_mel_frames(wave, front)[frame]
    for change, same in ((0, True), (-16, False)):  # the last ones weigh next to nothing
        other = wave.copy()
        other[frame * 160 + LOOK_AHEAD + change :] = 0
        other[frame * 160 + LOOK_AHEAD + change] = 30_000
        assert np.array_equal(log_mel_frames(other, front)[frame], want) is same


@pytest.mark.parametrize("size", [160, 333])
def test_a_wav_is_decided_as_predict_does(size, network, tmp_path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = write_wav(tmp_path / "yes.wav", 3, SECONDS)
    (want,) = predict(network, recordings(path, network.front))
    wave, _ = soundfile.read(path, dtype="int16")
    first, second = heard(network, np.tile(wave, 2), size, ANY_SOUND, 2)
    assert_same(first, want)
    assert_same(second, want)  # what follows a recording is the next one's start
    assert (first.file, first.sample, second.sample) == ("microphone", 0, 1)


def test_a_recording_begins_a_moment_before_the_sound(network) -> None:
    quiet = (sound(1.0, seed=1) // 100).astype(np.int16)  # -51 dB
    loud, start = sound(seed=2), 7001
    wave = np.concatenate([quiet[:start], loud])
    onset = start + int((np.abs(loud) >= 32768 * 10 ** (-30 / 20)).argmax())
    cut = wave[onset - BEFORE :][: len(loud)]
    (want,) = predict(network, [Recording("", 0, log_mel_frames(cut, network.front))])
    (mine,) = heard(network, wave, 160, -30.0, 1)
    assert_same(mine, want)


class Sound(types.ModuleType):
    """The sound library with a microphone that hears a wave, and stops."""

    class PortAudioError(Exception):
        """Of the library."""

    def __init__(self, wave: Any, error: BaseException | None = None) -> None:
        super().__init__("sounddevice")
        self.wave, self.error, self.given = wave, error, {}  # type: ignore[var-annotated]

    def InputStream(self, **given: Any) -> Any:
        self.given = given
        return self

    def __enter__(self) -> None:
        if self.error is not None:
            raise self.error
        for block in blocks(self.wave, 256):
            self.given["callback"](block[:, None], len(block), None, None)
        self.given["finished_callback"]()

    def __exit__(self, *error: Any) -> None:
        pass


@pytest.fixture
def command(capsys, monkeypatch, network, tmp_path):
    """Runs `snn-delays live` with a sound library; returns exit code, output and errors."""
    network.save(tmp_path / "network.h5")

    def run(library: Any, *arguments: object, run: Path | None = None) -> tuple[int, str, str]:
        monkeypatch.setitem(sys.modules, "sounddevice", library)
        run = run or tmp_path / "network.h5"
        monkeypatch.setattr(sys, "argv", ["snn-delays", "live", f"run={run}", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


def test_running_decisions_are_printed(command, network) -> None:
    library = Sound(sound())
    code, printed, error = command(library, f"level={ANY_SOUND}", "input=2")
    assert (code, error) == (
        2,
        "snn-delays: The microphone stopped: check that it is plugged in.\n",
    )
    given = {k: library.given[k] for k in ("samplerate", "channels", "dtype", "device")}
    assert given == {"samplerate": RATE, "channels": 1, "dtype": "int16", "device": 2}
    first, *lines = printed.splitlines()
    assert first == "Listening for no, yes; Ctrl-C ends."
    frames = log_mel_frames(library.wave, network.front)
    want = [*predict(network, [Recording("", 0, iter(frames))], 100)]
    assert len(lines) == len(want) > 3
    for line, prediction in zip(lines, want, strict=True):
        decision = prediction.decision
        share = np.exp(decision.scores[decision.number]) / np.exp(decision.scores).sum()
        assert line.split()[:3] == [f"{prediction.decided_at_ms:.0f}", "ms", decision.name]
        assert f"{share:.0%}" in line
    assert re.search(r"since \d+ ms *$", lines[-1])


@pytest.mark.parametrize(
    ("library", "code", "sentence"),
    [
        (None, 2, "needs the package sounddevice: pip install 'snn-delays[audio-live]'"),
        (Sound(None, Sound.PortAudioError("no device")), 2, "No microphone can be opened"),
        (Sound(None, Sound.PortAudioError("error:\n  no device")), 2, "Hz (error: no device):"),
        (Sound(None, KeyboardInterrupt()), 130, "Interrupted"),
    ],
)
def test_one_sentence(library, code, sentence, command) -> None:
    found, printed, error = command(library)
    assert (found, printed) == (code, "")
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


def test_networks_of_spikes_are_refused(command, trained) -> None:
    code, _, error = command(Sound(sound()), run=trained)
    assert code == 2
    assert "live needs one that takes log-mel frames" in error
