"""`snn-delays predict`: what it says is what `snn-delays evaluate` counts."""

from __future__ import annotations

import csv
import functools
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from snn_delays.analysis.trained_run import held_out_samples, open_run
from snn_delays.config import Config
from snn_delays.data.encode import encode_words
from snn_delays.data.formats.words import list_words
from snn_delays.data.sources import to_float
from snn_delays.data.speech import log_mel
from snn_delays.deploy import from_network, from_run, plain
from snn_delays.deploy.predict import predict
from snn_delays.deploy.recordings import audio_frames, recordings
from snn_delays.evaluate import evaluate
from snn_delays.nn import build_network
from tests.conftest import write_spikes

RATE = 16_000


@pytest.fixture
def command(run_command):
    """Runs `snn-delays predict`."""
    return functools.partial(run_command, "predict")


def write_wav(path: Path, seed: int, seconds: float = 0.3) -> Path:
    """A tone that rises, in noise."""
    import soundfile

    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(2 * np.pi * (300 + 200 * seed + 500 * t) * t)
    soundfile.write(path, (0.3 * tone + 0.02 * noise).astype(np.float32), RATE, subtype="PCM_16")
    return path


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_equals_evaluate_sample_by_sample(trained, command) -> None:
    subject = open_run(trained)
    loader = subject.loader(held_out_samples(subject, trained))
    want = evaluate(subject.network, loader)
    code, printed, _ = command(f"run={trained}", f"in={trained.parent / 'test.h5'}")
    assert code == 0
    lines = lines_of(printed)
    assert [line["class"] for line in lines] == [subject.classes[k] for k in want.predictions]
    assert [line["sample"] for line in lines] == list(range(12))
    network = from_run(trained)
    assert {line["digest"] for line in lines} == {network.digest[:12]}
    for line, frames in zip(lines, map(loader.samples.frames, range(12)), strict=True):
        scores = plain.run(network, frames)
        np.testing.assert_allclose([*line["scores"].values()], scores, atol=1e-6)
        assert line["ended_at_ms"] == 10 * len(frames)
        assert line["decided_at_ms"] == 10 * network.ends(len(frames))[-1]
        assert line["final"]


def test_running_decisions(trained, command) -> None:
    path = trained.parent / "test.h5"
    _, printed, _ = command(f"run={trained}", f"in={path}", "every=50", "format=csv")
    rows = [*csv.DictReader(io.StringIO(printed))]
    _, printed, _ = command(f"run={trained}", f"in={path}")
    last = lines_of(printed)
    finals = [row for row in rows if row["final"] == "True"]
    assert len(rows) > 3 * len(finals)
    for row, line in zip(finals, last, strict=True):
        assert (row["class"], int(row["sample"])) == (line["class"], line["sample"])
        assert float(row["decided_at_ms"]) == line["decided_at_ms"]
        assert float(row["leads_since_ms"]) == line["leads_since_ms"]
        assert [float(row[f"score {name}"]) for name in line["scores"]] == [
            *line["scores"].values()
        ]
    first = [row for row in rows if row["sample"] == "0"]
    times = [float(row["decided_at_ms"]) for row in first]
    assert times[:-1] == [50.0 * n for n in range(1, len(times))]
    ended = last[0]["ended_at_ms"]
    assert [row["ended_at_ms"] for row in first] == [
        "" if t <= ended else str(ended) for t in times
    ]


def test_piped_events_are_those_of_a_file(trained, command) -> None:
    path = trained.parent / "test.h5"
    with h5py.File(path) as file:
        times, units = file["spikes/times"][3], file["spikes/units"][3]
    events = "".join(f"{float(t)!r},{u}\n" for t, u in zip(times, units, strict=True))
    code, printed, _ = command(f"run={trained}", "in=-", pipe=events.encode())
    (line,) = lines_of(printed)
    _, printed, _ = command(f"run={trained}", f"in={path}")
    want = lines_of(printed)[3]
    assert (code, line["file"], line["sample"]) == (0, "-", 0)
    assert line["scores"] == want["scores"]
    assert line["ended_at_ms"] == want["ended_at_ms"]


def test_audio_is_heard_as_it_is_encoded(trained, tmp_path, command) -> None:
    pytest.importorskip("soundfile")
    files = [write_wav(tmp_path / "words" / f"word{n}" / f"x{n}.wav", n) for n in range(2)]
    encode_words(list_words(tmp_path / "words"), tmp_path / "words.h5")
    _, printed, _ = command(f"run={trained}", f"in={tmp_path / 'words.h5'}")
    want = lines_of(printed)
    code, printed, _ = command(f"run={trained}", f"in={tmp_path / 'words'}")
    lines = lines_of(printed)
    assert code == 0
    assert [line["file"] for line in lines] == [*map(str, files)]
    assert [line["scores"] for line in lines] == [line["scores"] for line in want]
    code, printed, _ = command(f"run={trained}", f"in={files[1]}")
    assert lines_of(printed) == lines[1:]
    code, printed, _ = command(f"run={trained}", "in=-", pipe=files[1].read_bytes())
    assert lines_of(printed)[0]["ended_at_ms"] == lines[1]["ended_at_ms"]
    files[0].write_bytes(b"no sound")
    write_wav(tmp_path / "words" / "b.wav", 2).write_bytes(b"RIFF")
    code, printed, error = command(f"run={trained}", f"in={tmp_path / 'words'}")
    assert (code, lines_of(printed)) == (2, lines[1:])
    assert "2 of 3 files in" in error
    assert "x0.wav" in error
    assert "b.wav" in error


def test_log_mel_network(tmp_path) -> None:
    pytest.importorskip("soundfile")
    config = Config()
    config.data.name, config.data.seconds = "audio_folder", 0.5
    config.model.hidden, config.model.taps = [6], 5
    torch.manual_seed(0)
    network = build_network(config, 2).eval()
    network.set_backend("event")
    deployed = from_network(network, config, ["no", "yes"], 51)
    path = write_wav(tmp_path / "yes.wav", 3)
    (prediction,) = predict(deployed, recordings(path, deployed.front))
    wave = np.pad(np.round(_samples(path) * 32768), (0, RATE // 2 - int(0.3 * RATE)))
    x = log_mel(to_float(wave[None].astype(np.int16)))
    assert np.array_equal(audio_frames(path, deployed.front), x[0].numpy())
    with torch.no_grad():
        scores = network(x.transpose(0, 1))[0]
    np.testing.assert_allclose(prediction.decision.scores, scores.numpy(), atol=1e-4)
    assert prediction.ended_at_ms == 510


def _samples(path: Path) -> Any:
    import soundfile

    return soundfile.read(path)[0]


def test_deployed_file_and_another_length(trained, tmp_path, command) -> None:
    network = from_run(trained)
    replace(network, steps=None).save(tmp_path / "paper.h5")
    path = f"in={trained.parent / 'test.h5'}"
    code, printed, error = command(f"run={tmp_path / 'paper.h5'}", path)
    assert (code, printed) == (2, "")
    assert "no stored length" in error
    assert "give steps=" in error
    _, printed, _ = command(f"run={tmp_path / 'paper.h5'}", path, f"steps={network.steps}")
    _, want, _ = command(f"run={trained}", path)
    without = [{**line, "digest": ""} for line in lines_of(printed)]
    assert without == [{**line, "digest": ""} for line in lines_of(want)]


@pytest.mark.parametrize(
    ("arguments", "pipe", "sentence"),
    [
        (["in={test}", "every=15"], b"", "every=15 must be a multiple of the step, 10 ms"),
        (["in={here}/nothing.h5"], b"", "There is no file"),
        (["in={here}/nothing.wav"], b"", "There is no file"),
        (["in={here}/nothing"], b"", "must be a folder, - or a file of one of the kinds .wav"),
        (["in={here}/nothing"], b"", "There is no file or folder"),
        (["in={here}"], b"", "holds no audio file"),
        (["in=-"], b"", "The input holds no event"),
        (["in=-"], b"0.1 5\nhello\n", "Line 2 of standard input is 'hello', neither <time> <unit>"),
        (["in=-"], b"0.1 5\n0.05 6\n", "Line 2 of standard input: An event at 0.05 s comes after"),
        (["in=-"], b"0.1 700\n", "has the unit 700, outside 0..699"),
        ([], b"", "in=... is missing"),
    ],
)
def test_one_sentence(trained, tmp_path, command, arguments, pipe, sentence) -> None:
    given = [a.format(test=trained.parent / "test.h5", here=tmp_path) for a in arguments]
    code, printed, error = command(f"run={trained}", *given, pipe=pipe)
    assert (code, printed) == (2, "")
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_kinds_of_recordings_are_told_apart(trained, tmp_path, command) -> None:
    network = from_run(trained)
    front = replace(network.front, kind="log_mel", seconds=1.0)
    replace(network, front=front).save(tmp_path / "sound.h5")
    spikes = write_spikes(tmp_path / "spikes.h5", [[0.1]], [[5]], [0])
    _, _, error = command(f"run={tmp_path / 'sound.h5'}", f"in={spikes}")
    assert "holds spikes, and the network takes sound" in error
    _, _, error = command(f"run={tmp_path / 'sound.h5'}", "in=-", pipe=b"0.1 5\n")
    assert "Standard input holds no wav file" in error
