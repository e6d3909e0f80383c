"""A run's network as it was drawn and as it is, its metrics, its result, its recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from snn_delays.analysis import trained_run as subjects
from snn_delays.errors import UserError
from snn_delays.evaluate import evaluate
from snn_delays.nn import draw_network
from snn_delays.training.checkpoint import load_run
from snn_delays.training.run import train
from tests.analysis import handmade
from tests.conftest import open_spikes
from tests.training.test_run import metrics


def test_a_run_is_opened_as_it_was_and_is(small_config) -> None:
    config = small_config()
    result = train(config)
    subject = subjects.open_run(config.out)
    assert subject.name == config.out
    assert subject.classes == ["class 0", "class 1", "class 2"]
    assert subject.step_ms == 10
    assert subject.metrics == metrics(config.out)
    assert subject.result == {k: v for k, v in result.items() if k != "out"}
    assert not subject.network.training
    assert not subject.drawn.training

    drawn = draw_network(config, 3).state_dict()
    for name, value in subject.drawn.state_dict().items():
        assert torch.equal(value, drawn[name]), name
    state = load_run(config.out).network.state_dict()
    for name, value in subject.network.state_dict().items():
        assert torch.equal(value, state[name]), name
    check_way_from_the_draw(subject)
    check_recordings(subject, config)


def check_way_from_the_draw(subject: subjects.TrainedRun) -> None:
    """The training's own trace measured it from the network that it drew."""
    assert subject.result is not None
    trace = subject.training[subject.result["epoch"] - 1]["delays"]
    for (name, drawn, trained), line in zip(subject.layers(), trace, strict=True):
        pairs = zip(drawn.delay.flatten().tolist(), trained.delay.flatten().tolist(), strict=True)
        moved = [abs(a - b) for a, b in pairs]
        assert sum(moved) / len(moved) == pytest.approx(line["moved"], abs=1e-4), name
        assert line["moved"] > 0


def check_recordings(subject: subjects.TrainedRun, config) -> None:
    assert subject.result is not None
    samples = subjects.held_out_samples(subject, config.out)
    there = open_spikes(Path(config.data.test_file), config)
    assert len(samples) == len(there) == 30
    for number in (0, 17, 29):
        assert (samples.frames(number) == there.frames(number)).all()
    scores = [evaluate(subject.network, subject.loader(samples, size)) for size in (None, 7)]
    assert [s.score().accuracy for s in scores] == [subject.result["accuracy"]] * 2
    assert len(subject.loader(samples)) == 2  # batches of 16
    batch = next(subject.loader(samples, 4).epoch())
    assert batch.x.shape[1:] == (4, 14)
    assert len(batch.x) == subject.steps


def test_recordings_that_changed_are_refused(small_config) -> None:
    config = small_config(epochs=1)
    train(config)
    subject = subjects.open_run(config.out)
    other = Path(config.data.train_file).read_bytes()
    Path(config.data.test_file).write_bytes(other)
    with pytest.raises(UserError, match="has changed since the run"):
        subjects.held_out_samples(subject, config.out)


def test_an_unread_test_set_stays_unread(small_config) -> None:
    config = small_config(epochs=1)
    config.train.test = False
    train(config)
    Path(config.data.test_file).unlink()
    subject = subjects.open_run(config.out)
    assert (subject.split, subject.accuracy_label) == ("validation", "validation accuracy")
    samples = subjects.held_out_samples(subject, config.out)
    noted = json.loads(Path(config.out, "split.json").read_text("utf-8"))["valid"]["samples"]
    there = open_spikes(Path(config.data.train_file), config)
    assert len(samples) == len(noted) == 12
    assert (samples.frames(0) == there.frames(noted[0])).all()
    score = evaluate(subject.network, subject.loader(samples)).score()
    assert score.accuracy == subject.result["valid"]["accuracy"]


@pytest.mark.parametrize("protocol", ["last", "refit"])
def test_a_run_that_keeps_nothing_aside(protocol, small_config) -> None:
    config = small_config(protocol=protocol, epochs=1)
    config.train.test = False
    train(config)
    with pytest.raises(UserError, match="there is nothing to look at its network with"):
        subjects.held_out_samples(subjects.open_run(config.out), config.out)


def test_what_is_missing_or_damaged(small_config, tmp_path) -> None:
    with pytest.raises(UserError):
        subjects.open_run(tmp_path / "nothing")
    config = small_config(epochs=1)
    train(config)
    file = Path(config.out, "metrics.jsonl")
    for content in (b'{"phase": "tr', b"\xff\xfe", b'{"epoch": 1}', b"[1]"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
            subjects.open_run(config.out)
    file.unlink()
    Path(config.out, "result.json").unlink()
    subject = subjects.open_run(config.out)
    assert subject.metrics == []
    assert subject.result is None


def test_layers_are_named_from_input_to_readout() -> None:
    for hidden in (1, 2):
        subject = handmade.subject(hidden)
        found = list(subject.layers())
        assert [name for name, _, _ in found] == handmade.names(hidden)
        assert subjects.layer_names(subject.network) == handmade.names(hidden)
        assert found[0][1] is subject.drawn.blocks[0].linear
        assert found[-1][2] is subject.network.readout.linear


def test_a_run_with_missing_synapses_draws_the_same_ones(small_config) -> None:
    config = small_config(epochs=1)
    config.model.density = 0.5
    train(config)
    for _, drawn, trained in subjects.open_run(config.out).layers():
        assert torch.equal(drawn.mask, trained.mask)
        assert 0 < drawn.mask.float().mean() < 1
    assert json.loads(Path(config.out, "split.json").read_text("utf-8"))["test"]["samples"] == "all"
