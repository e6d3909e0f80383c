"""Answers, confusions and mistakes, counted by hand; and the finding that they begin with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from snn_delays.analysis import mistakes
from snn_delays.analysis.finding import finding
from snn_delays.analysis.trained_run import held_out_samples, open_run
from snn_delays.evaluate import Score, evaluate
from snn_delays.nn import build_network
from snn_delays.training.run import train
from tests.analysis import handmade
from tests.analysis.handmade import CLASSES

GIVEN = pd.DataFrame(
    {
        "recording": range(5),
        "class": ["left", "left", "right", "left", "left"],
        "answer": ["left", "right", "right", "right", "left"],
        "certainty": [90.0, 60.0, 70.0, 80.0, 50.0],
    }
)


def test_answers_are_those_of_the_evaluation(small_config) -> None:
    config = small_config(protocol="last")
    train(config)
    subject = open_run(config.out)
    samples = held_out_samples(subject, config.out)
    found = mistakes.answers(subject, samples)
    expected = evaluate(subject.network, subject.loader(samples))
    classes = np.array(subject.classes)
    assert found["recording"].tolist() == list(range(len(samples)))
    assert found["answer"].tolist() == classes[expected.predictions].tolist()
    assert found["class"].tolist() == classes[expected.labels].tolist()
    assert mistakes.score(found) == expected.score()
    assert (found["certainty"] > 100 / len(classes)).all()  # the highest of the classes
    assert (found["certainty"] <= 100).all()


def test_confusions_are_counted_by_class() -> None:
    exhibit = mistakes.confusion(handmade.subject(), GIVEN)
    rows = [tuple(row) for row in exhibit.data.itertuples(index=False)]
    assert rows == [
        ("left", "left", 2, 50), ("left", "right", 2, 50),
        ("right", "left", 0, 0), ("right", "right", 1, 100),
    ]  # fmt: skip
    axis = exhibit.figure.axes[0]
    assert axis.images[0].get_array().tolist() == [[50, 50], [0, 100]]
    written = {one.get_position(): one.get_text() for one in axis.texts}
    assert written == {(0, 0): "50", (1, 0): "50", (1, 1): "100"}
    for along in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [one.get_text() for one in along] == CLASSES


def test_the_surest_mistake_comes_first() -> None:
    assert mistakes.mistakes(GIVEN).index.tolist() == [3, 1]
    assert mistakes.score(GIVEN) == Score(3, 5)


def made_tests(shuffled: tuple[float, float, float]) -> pd.DataFrame:
    """As trained 80 % [75, 85]; all layers shuffled as given, the readout alone 60 %."""
    rows: list[tuple[Any, ...]] = [
        ("intact", "all", 80.0, 75.0, 85.0),
        ("shuffled", "all", *shuffled),
        ("shuffled", "hidden layer 1", 70.0, 60.0, 80.0),
        ("shuffled", "readout", 60.0, 50.0, 70.0),
    ]
    names = ["kind", "layer", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=names).assign(amount=math.nan)


@pytest.mark.parametrize(
    ("shuffled", "words"),
    [
        ((40.0, 30.0, 74.9), "The delays matter: with the delays shuffled"),
        ((79.0, 30.0, 75.0), "do not show that the delays matter"),
        ((90.0, 85.1, 95.0), "The delays do harm"),
    ],
)
def test_the_finding_says_what_the_intervals_show(shuffled, words) -> None:
    said = finding(handmade.subject(), Score(40, 50), made_tests(shuffled))
    assert said.startswith(
        "The network gets 80.0 % of the 50 test recordings right (95 % interval 67.0 to 88.8 %;"
        " chance 50.0 %; protocol validation: selected on validation data)."
    )
    assert words in said
    low, high = shuffled[1:]
    assert f"accuracy is {shuffled[0]} % (95 % interval {low} to {high} %)" in said
    cost = "readout costs most when it is shuffled alone, 20.0 points" in said
    assert cost == (words.startswith("The delays matter"))


def test_the_finding_says_how_far_delays_moved_and_where_they_lie() -> None:
    said = finding(handmade.subject(), Score(1, 2), made_tests((80.0, 70.0, 90.0)))
    found = handmade.synapses()
    moved = 10 * sum(abs(s.delay - s.drawn) for s in found) / len(found)
    assert f"moved each delay by {moved:.0f} ms" in said
    for steps in ([s.steps for s in found], [round(s.drawn) for s in found]):
        assert f"{100 * sum(k in (0, 4) for k in steps) / len(found):.0f} %" in said
    assert "0 or 40 ms" in said


@pytest.mark.parametrize(
    ("delays", "words"),
    [
        ("fixed", "The delays stay as drawn"),
        ("none", "All its synapses act at once"),
        ("dense", "a weight at every delay"),
    ],
)
def test_the_finding_of_other_networks(delays, words) -> None:
    subject = handmade.subject(delays="fixed")
    if delays != "fixed":
        config = handmade.configuration(delays=delays)
        network = build_network(config, 2).double()
        subject = handmade.TrainedRun("plain", config, network, network, CLASSES)
    subject.config.train.protocol = "paper"
    said = finding(subject, Score(1, 2), made_tests((80.0, 70.0, 90.0)))
    assert words in said
    assert ("The causal tests change no delays" in said) == (delays != "fixed")
    assert "test-selected, so the figure is too good" in said
