"""The published experiments: the parameters that they say, and a step of training each."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from snn_delays.benchmark.suite import load_suite
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import SUITES, config_folder, groups
from snn_delays.nn import build_network, count_parameters, draw_network
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import sigma_at

EVERY = groups("train")["experiment"]
PAPER = [name for name in EVERY if name.startswith("paper/")]
LATER = ["axonal/ssc", "axonal/gsc", "dendritic/ssc"]
LATER += ["silif/ssc_10ms", "silif/ssc_4ms", "dcadlif/ssc", "dcadlif/gsc"]
LATER += ["delrec/ssc", "delrec/ssc_ff", "delrec/shd", "se_adlif/shd_small", "best/ssc"]
PUBLISHED = {  # arXiv 2306.17670: weights, delays and BatchNorm
    "shd": 214_016,
    "2l_1kc": 705_536,
    "2l_2kc": 1_409_024,
    "3l_1kc": 1_230_848,
    "3l_2kc": 2_458_624,
}


def header(experiment: str) -> str:
    text = (config_folder() / f"experiment/{experiment}.yaml").read_text("utf-8")
    return "".join(line for line in text.splitlines(True) if line.startswith("#"))


def classes(experiment: str) -> int:
    return 20 if "/shd" in experiment else 35


def test_every_row_and_ablation_is_there() -> None:
    rows = {
        "shd",
        *(f"{d}{r}" for d in ("ssc", "gsc") for r in ("", "_2l_2kc", "_3l_1kc", "_3l_2kc")),
    }
    kinds = ("none", "none_equal", "fixed", "fixed_equal", "constant", "sparse_50", "sparse_20",
             "sparse_10", "dense")  # fmt: skip
    ablations = {f"{data}_{kind}" for data in ("shd", "ssc") for kind in kinds}
    assert {name.removeprefix("paper/") for name in PAPER} == rows | ablations


@pytest.mark.parametrize("experiment", [name for name in EVERY if name not in [*PAPER, *LATER]])
def test_it_composes_and_builds(experiment) -> None:
    config = compose("train", [f"experiment={experiment}"])
    assert config.name == experiment.replace("/", "_")
    build_network(config, 20)


@pytest.mark.parametrize("experiment", [*PAPER, *LATER])
def test_it_counts_as_its_header_says_and_trains_a_step(experiment) -> None:
    text = header(experiment)
    assert f"#   snn-delays train experiment={experiment} data.root=<folder>\n" in text
    assert all(f"# {word}: " in text for word in ("Published", "Measured", "Cost"))
    config = compose("train", [f"experiment={experiment}"])
    assert config.name == experiment.replace("/", "_")
    assert config.train.protocol == "validation"  # never the test set unless asked for
    network = draw_network(config, classes(experiment))
    said = re.search(r"# Parameters: ([\d,]+)", text)
    assert said is not None
    assert count_parameters(network) == int(said[1].replace(",", ""))

    network.set_sigma(sigma_at(0, config))
    optimizers = build_optimizers(network, config.train)
    torch.manual_seed(0)
    # without BatchNorm fewer spikes would not reach the last layer
    quiet = experiment in ("delrec/ssc_ff", "se_adlif/shd_small", "best/ssc")
    steps, count = (20, 8) if quiet else (6, 1)
    x, y = count * (torch.rand(steps, 3, 140) < 0.3).float(), torch.tensor([0, 1, 2])
    before = [p.detach().clone() for p in network.parameters()]
    loss = cross_entropy(network.train()(x), y)
    loss.backward()
    optimizers.step()
    network.constrain()
    assert torch.isfinite(loss)
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.gpu
@pytest.mark.parametrize("experiment", [*PAPER, *LATER])
def test_a_gpu_computes_what_the_cpu_does(experiment) -> None:
    config = compose("train", [f"experiment={experiment}", "model.dropout=0"])
    network = draw_network(config, classes(experiment)).double().train()
    network.set_sigma(sigma_at(0, config))
    g = torch.Generator().manual_seed(0)
    x, y = (torch.rand(12, 4, 140, generator=g) < 0.3).double(), torch.arange(4)
    numbers = []
    for device in ("cpu", "cuda"):
        theirs = copy.deepcopy(network).to(device)
        scores = theirs(x.to(device))
        cross_entropy(scores, y.to(device)).backward()
        numbers.append([scores.detach().cpu(), *(p.grad.cpu() for p in theirs.parameters())])
    for on_cpu, on_gpu in zip(*numbers, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    ("experiment", "row"),
    [("shd", "shd"), ("ssc", "2l_1kc"), ("gsc", "2l_1kc")]
    + [(f"{data}_{row}", row) for data in ("ssc", "gsc") for row in ("2l_2kc", "3l_1kc", "3l_2kc")],
)
def test_the_papers_rows_have_the_papers_size(experiment, row) -> None:
    config = compose("train", [f"experiment=paper/{experiment}"])
    assert count_parameters(draw_network(config, classes(f"paper/{experiment}"))) == PUBLISHED[row]


@pytest.mark.parametrize("data", ["shd", "ssc"])
@pytest.mark.parametrize("kind", ["none_equal", "fixed_equal"])
def test_equal_parameters_are_equal(data, kind) -> None:
    counts = [
        count_parameters(
            draw_network(compose("train", [f"experiment=paper/{name}"]), classes(f"paper/{data}"))
        )
        for name in (data, f"{data}_{kind}")
    ]
    assert abs(counts[1] / counts[0] - 1) < 0.002


@pytest.mark.parametrize("experiment", ["own/words", "own/words_spikes"])
def test_own_words_count_as_their_headers_say(experiment) -> None:
    network = draw_network(compose("train", [f"experiment={experiment}"]), 6)
    assert f"# Parameters: {count_parameters(network):,} with six words\n" in header(experiment)


@pytest.mark.parametrize("kind", ["constant", "fixed", "none"])
def test_fsdd_networks_have_equal_parameters(kind) -> None:
    config = compose("train", [f"experiment=fsdd/{kind}"])
    learned = compose("train", ["experiment=fsdd/learned"])
    counts = [count_parameters(draw_network(c, 10)) for c in (config, learned)]
    assert abs(counts[0] / counts[1] - 1) < 0.01


def test_the_families_on_fsdd_have_equal_parameters_and_one_recipe() -> None:
    suite = load_suite(config_folder() / SUITES, "fsdd_models")
    learned = compose("train", ["experiment=fsdd/learned"])
    target = count_parameters(draw_network(learned, 10))
    for member in suite.members.values():
        config = compose("train", [*suite.options, *member.options])
        assert abs(count_parameters(draw_network(config, 10)) / target - 1) < 0.01
        assert (config.train, config.data) == (learned.train, learned.data)


def test_the_dense_convolution_comes_as_near_as_whole_neurons_do() -> None:
    config, learned = (compose("train", [f"experiment=fsdd/{k}"]) for k in ("dense", "learned"))
    target = count_parameters(draw_network(learned, 10))
    counts = {}
    for neurons in (2, 3, 4):
        config.model.hidden = [neurons] * 2
        counts[neurons] = count_parameters(draw_network(config, 10))
    assert min(counts, key=lambda n: abs(counts[n] - target)) == 3
    assert compose("train", ["experiment=fsdd/dense"]).model.hidden == [3, 3]
