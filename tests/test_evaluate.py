"""Accuracy, intervals, groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.data.loaders import Loader, Samples
from snn_delays.evaluate import Evaluation, Score, evaluate
from snn_delays.nn import build_network
from tests.conftest import open_spikes


def test_wilson_interval() -> None:
    """Against published values (Newcombe 1998, table I: 81 of 263 and 15 of 148)."""
    assert Score(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Score(15, 148).interval == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert Score(0, 20).interval == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert Score(29, 29).interval == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_scores_by_class_and_speaker() -> None:
    result = Evaluation(np.array([0, 1, 1, 2, 0]), np.array([0, 1, 2, 2, 1]), 1.0, 0.5)
    assert (result.score().correct, result.score().n) == (3, 5)
    per_class = result.per_class(["a", "b", "c", "absent"])
    assert {k: (s.correct, s.n) for k, s in per_class.items()} == {
        "a": (1, 1), "b": (1, 2), "c": (1, 2),
    }  # fmt: skip
    speakers = np.array(["7", "7", "8", "8", "9"])
    groups = result.per_speaker_group(speakers, ["7", "8"], None)
    assert {k: (s.correct, s.n) for k, s in groups.items()} == {
        "known speakers": (3, 4), "unseen speakers": (0, 1),
    }  # fmt: skip
    groups = result.per_speaker_group(speakers, ["7"], ["8"])
    assert {k: (s.correct, s.n) for k, s in groups.items()} == {
        "known speakers": (2, 2), "validation speakers": (1, 2), "unseen speakers": (0, 1),
    }  # fmt: skip
    assert result.per_speaker_group(np.array(["7"] * 5), ["7"], None) == {}
    assert result.per_speaker_group(None, ["7"], None) == {}


@pytest.mark.parametrize("classes", [["a", "b", "a"], "abc"])
def test_no_class_is_lost_among_names(classes) -> None:
    result = Evaluation(np.array([0, 1, 2]), np.array([0, 1, 2]), 0.5, 1.0)
    with pytest.raises(ValueError, match=r"list of classes (has the name a twice|must be a list)"):
        result.per_class(classes)


def test_evaluation_is_pure_and_counts_samples_not_batches(spike_files, small_config) -> None:
    config = small_config()
    samples = Samples.of(open_spikes(spike_files["test"], config))
    network = build_network(config, 3).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    results = [
        evaluate(network, Loader(samples, size, 40, torch.float32, torch.device("cpu")))
        for size in (30, 7, 1)
    ]
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    for result in results:
        np.testing.assert_array_equal(result.predictions, results[0].predictions)
        assert result.loss == pytest.approx(results[0].loss, rel=1e-5)
        np.testing.assert_array_equal(result.labels, samples.labels)
    right = results[1].predictions == results[1].labels
    batches = [right[i : i + 7].mean() for i in range(0, 30, 7)]
    assert results[1].batch_accuracy == pytest.approx(np.mean(batches))
