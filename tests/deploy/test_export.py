"""`snn-delays export`: folders whole or not at all, and every difference seen."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

from snn_delays.config import Config
from snn_delays.deploy import Stream, from_network, from_run
from snn_delays.deploy.export import TARGETS, Answer, c, target
from snn_delays.deploy.verify import compare
from snn_delays.nn import build_network
from tests.deploy.networks import deployed, recording

needs_compiler = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")


@pytest.fixture
def command(run_command):
    """Runs `snn-delays export`."""
    return functools.partial(run_command, "export")


class Twin:
    """A target that answers as the stream does, with changes."""

    def __init__(self, flip: int = 0, tells: bool = True, shift: float = 0.0) -> None:
        self.flip, self.tells, self.shift = flip, tells, shift

    def run(self, network: Any, out: Any, samples: Any) -> Any:
        stream = Stream(network)
        for frames in samples:
            decision, outputs = stream.record(frames)
            spikes = [o.copy() for o in outputs[:-1]]
            spikes[0].flat[: self.flip] = 1 - spikes[0].flat[: self.flip]
            scores = decision.scores + self.shift
            yield Answer(scores, decision.number, spikes if self.tells else None)


def test_every_difference_is_counted(tmp_path) -> None:
    network, frames = deployed()[1], [recording(1), recording(2)]
    same = compare(Twin(), network, tmp_path, frames)  # type: ignore[arg-type]
    assert same.is_equal
    assert same.spikes > 0
    assert same.largest_score_difference == 0
    other = compare(Twin(3, shift=0.25), network, tmp_path, frames)  # type: ignore[arg-type]
    assert (other.spikes_that_differ, other.predictions_that_differ) == (6, 0)
    assert other.largest_score_difference == pytest.approx(0.25)
    assert not other.is_equal
    silent = compare(Twin(3, tells=False), network, tmp_path, frames)  # type: ignore[arg-type]
    assert silent.spikes_that_differ is None
    assert silent.is_equal


@needs_compiler
def test_other_padding_is_not_compared_with_evaluation(trained, tmp_path, command) -> None:
    """Evaluation pads recordings as in training, which may lead to other answers."""
    words = f"run={trained}", "target=c", f"out={tmp_path / 'made'}", "verify=2", "steps=400"
    code, printed, _ = command(*words)
    assert code == 0
    assert "Run on 2 recordings, 0 of" in printed
    assert "evaluate" not in printed


def test_export_of_a_run(trained, tmp_path, command) -> None:
    out = tmp_path / "made"
    code, printed, _ = command(f"run={trained}", "target=c", f"out={out}", "verify=5")
    assert code == 0
    assert "Run on 5 recordings, 0 of" in printed
    report = json.loads((out / "verify.json").read_text("utf-8"))
    network = from_run(trained)
    assert report["digest"] == network.digest
    assert report["samples"] == 5
    assert report["spikes"] > 0
    assert report["predictions_that_differ_from_evaluate"] == 0
    assert report["accuracy"] == report["accuracy_of_evaluate"]
    assert report["margin"]["neuron_steps"] > 0
    answer = json.loads((out / "example.json").read_text("utf-8"))
    assert answer["file"] == "example.txt"
    assert (out / answer["file"]).read_text("utf-8")
    assert answer["class"] in network.classes
    code, _, error = command(f"run={trained}", "target=c", f"out={out}")
    assert code == 2
    assert "is there already" in error
    network.save(tmp_path / "net.h5")
    file = f"run={tmp_path / 'net.h5'}"
    code, printed, error = command(
        file, "target=c", f"out={tmp_path / 'two'}", f"in={trained.parent / 'test.h5'}"
    )
    assert code == 0
    assert "Run on 12 recordings" in printed
    assert (tmp_path / "two" / "snn.c").read_bytes() == (out / "snn.c").read_bytes()
    code, _, error = command(file, "target=c", f"out={tmp_path / 'three'}")
    assert code == 2
    assert "give in=" in error


def test_nothing_is_left_of_a_failure(trained, tmp_path, command, monkeypatch) -> None:
    out = tmp_path / "made"
    out.mkdir()  # an empty folder may be there
    monkeypatch.setattr(c, "compiler", lambda: None)
    code, _, error = command(f"run={trained}", "target=c", f"out={out}", "verify=5")
    assert code == 2
    assert "there is no C compiler" in error
    assert [*tmp_path.iterdir()] == [out]
    assert not any(out.iterdir())
    monkeypatch.setattr(c, "refusal", lambda network: "it is too good.")
    code, _, error = command(f"run={trained}", "target=c", f"out={out}")
    assert (code, error.split(": ", 1)[1]) == (
        2,
        "target=c cannot hold this network: it is too good.\n",
    )


def test_a_folder_beneath_a_file_is_refused(trained, tmp_path, command) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "made"
    code, _, error = command(f"run={trained}", "target=c", f"out={out}", "verify=0")
    assert code == 2
    assert error.startswith(f"snn-delays: out={out} cannot be written: ")


def test_without_recordings_nothing_is_run(trained, tmp_path, command, monkeypatch) -> None:
    monkeypatch.setattr(c, "compiler", lambda: None)
    out = tmp_path / "made"
    code, printed, _ = command(f"run={trained}", "target=c", f"out={out}", "verify=0")
    assert code == 0
    assert "It was not compared with the network." in printed
    assert "samples" not in json.loads((out / "verify.json").read_text("utf-8"))


def test_an_export_that_differs_ends_with_an_error(trained, tmp_path, command, monkeypatch) -> None:
    monkeypatch.setattr(c, "run", Twin(1).run)
    out = tmp_path / "made"
    code, _, error = command(f"run={trained}", "target=c", f"out={out}", "verify=5")
    assert code == 2
    assert "is not the network: verify.json has the numbers" in error
    assert json.loads((out / "verify.json").read_text("utf-8"))["spikes_that_differ"] == 5


@needs_compiler
def test_a_channel_of_audio_is_chosen(tmp_path, command) -> None:
    soundfile = pytest.importorskip("soundfile")
    config = Config()
    config.data.name, config.data.seconds = "audio_folder", 0.3
    config.model.hidden, config.model.taps = [6], 5
    network = build_network(config, 2)
    from_network(network, config, ["no", "yes"], 31).save(tmp_path / "net.h5")
    wave = 0.1 * np.random.default_rng(0).normal(size=(4800, 2))
    soundfile.write(tmp_path / "two.wav", wave, 16000)
    words = (f"run={tmp_path / 'net.h5'}", "target=c", f"in={tmp_path / 'two.wav'}")
    code, _, error = command(*words, f"out={tmp_path / 'one'}")
    assert code == 2
    assert "2 channels" in error
    frames = []
    for channel in ("left", "right"):
        out = tmp_path / channel
        assert command(*words, f"out={out}", f"channel={channel}")[0] == 0
        frames.append((out / "example.txt").read_text("utf-8"))
    assert frames[0] != frames[1]


def test_a_network_without_a_length_is_refused(tmp_path, command) -> None:
    deployed(steps=None)[1].save(tmp_path / "net.h5")
    arguments = (f"run={tmp_path / 'net.h5'}", "target=c", f"out={tmp_path / 'made'}")
    code, _, error = command(*arguments, "verify=0")
    assert code == 2
    assert "give steps=" in error
    assert command(*arguments, "verify=0", "steps=20")[0] == 0


def test_every_target_has_its_module() -> None:
    for name in TARGETS:
        assert all(hasattr(target(name), part) for part in ("refusal", "write", "run", "facts"))
