"""The benchmarks at tiny sizes: what they write, and that wrong numbers get no speed."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scripts.benchmarks import (
    agreement,
    common,
    delay_types,
    epoch,
    epochs,
    gpu,
    inference,
    networks,
    neurons,
    recurrent,
    roofline,
    scaling,
    start,
    stream,
    timed_run,
    train_step,
    whole_run,
    workers,
)
from scripts.benchmarks.networks import SHD, our_step
from snn_delays.cli.compose import compose
from snn_delays.data.dataset import load_data
from snn_delays.data.datasets.synthetic import LENGTH_MS
from snn_delays.nn import delayed_linear as layers
from snn_delays.ops.spectral import layer_numba
from snn_delays.runtime import numba_jit
from tests.processes import Command

TINY = ["--hidden", "16", "--steps", "20", "--taps", "5", "--rounds", "1"]
FEW = ["--samples", "10", "--tested", "6", "--epochs", "1"]
COMMANDS = {
    "train_step": (train_step, [*TINY, "--batch", "4", "--case", "shd", "--sigma", "narrow"]),
    "scaling": (scaling, [*TINY, "--batch", "4", "--factor", "taps", "--values", "5,9"]),
    "neurons": (neurons, [*TINY, "--batch", "4", "--neuron", "adlif"]),
    "inference": (inference, [*TINY, "--batch", "3", "--backend", "auto"]),
    "recurrent": (recurrent, ["--hidden", "16", *TINY[2:4], *TINY[6:], "--batch", "4"]),
    "delay_types": (delay_types, [*TINY, "--batch", "4"]),
    "stream": (stream, [*TINY, "--samples", "2"]),
    "epoch": (epoch, [*TINY, "--batch", "4", "--samples", "10"]),
    "whole_run": (whole_run, [*TINY, "--batch", "4", *FEW, "--reference-epochs", "0"]),
}
in_new_process = whole_run._run


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch, tmp_path_factory) -> None:
    """Nobody reads these speeds, nor the time of imports."""
    for name in ("MEASURE", "WARM", "PAUSE"):
        monkeypatch.setattr(workers, name, 0.02)

    def forked(arguments: list[str]) -> int:
        code = f"import {timed_run.__name__} as timed_run; timed_run.main()"
        said = tmp_path_factory.mktemp("said")
        return Command(arguments, said, code=code, OMP_NUM_THREADS="1").wait()

    monkeypatch.setattr(whole_run, "_run", forked)


def tables(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", COMMANDS)
def test_table_and_json(name, tmp_path, capsys) -> None:
    script, arguments = COMMANDS[name]
    assert script.main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
    assert (tmp_path / f"{name}.md").read_text("utf-8") == printed
    assert len(tables(printed)) == 2 + len(result["rows"])
    assert result["made"]["command"].startswith(f"python -m scripts.benchmarks.{name} --hidden 16")
    assert {"commit", "versions", "machine", "environment"} <= result["made"].keys()
    for row in result["rows"]:
        summaries = [value for value in row.values() if isinstance(value, dict)]
        assert summaries
        for values in summaries:
            assert len(values["values"]) == values["n"] == 1
            assert 0 <= values["min"] <= values["median"] <= values["max"]


GPU_SIZES = [*TINY, "--batch", "4", "--samples", "10", "--epochs", "1", "--case", "shd"]


@pytest.mark.parametrize(
    ("part", "what"),
    [
        pytest.param("steps", "shd", marks=pytest.mark.slow),
        ("run", "whole run"),
        ("seeds", "2 seeds"),
    ],
)
def test_the_gpu_benchmark(part, what, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "_device", lambda: "cpu")
    arguments = [*GPU_SIZES, "--precision", "mixed", "--part", part, "--out", str(tmp_path)]
    arguments += ["--seeds", "2", "--seed-epochs", "1"]
    assert gpu.main(arguments) == 0
    assert len(tables(capsys.readouterr().out)) == 2 + 1
    (row,) = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]
    assert row["what"].startswith(what)
    assert row["ours_ms"]["median"] > 0
    if part == "steps":
        assert {"ratio", "ours_mb", "error", "plain_error", "with_cudnn_ms"} <= row.keys()


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("tf32", True)])
def test_steps_are_timed_in_the_precision_that_is_named(precision, rounds) -> None:
    flags = []
    gpu._repeated(
        lambda: flags.append(
            (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        ),
        "cpu",
        precision,
    )()
    assert set(flags) == {(rounds, rounds)}


def test_the_reference_has_the_precision_of_ours(monkeypatch) -> None:
    """So a ratio says nothing of number formats."""
    timed, seen = [], []

    def started(makes):
        timed.extend(makes.values())
        raise InterruptedError

    monkeypatch.setattr(gpu, "started", started)
    monkeypatch.setattr(gpu, "check_training", lambda *arguments: {})
    problem = SHD.resized(hidden=4, steps=6, taps=3, batch=2)
    with pytest.raises(InterruptedError):
        gpu._step_row("", problem, "mixed", 1)
    real = torch.nn.functional.conv1d

    def conv1d(x, *arguments):
        seen.append((torch.is_autocast_enabled("cpu"), torch.backends.cuda.matmul.allow_tf32))
        return real(x, *arguments)

    monkeypatch.setattr(torch.nn.functional, "conv1d", conv1d)
    monkeypatch.setattr(gpu, "STEPS", 1)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    for make, *arguments in timed[1:]:
        make(*arguments)()
    assert seen == 2 * 3 * [(True, True)]


def test_what_ours_is_held_to_is_float32_and_not_tf32(monkeypatch) -> None:
    """By itself torch lets cuDNN round, and twice the reference's error is allowed."""
    seen = []
    real = agreement.scores

    def watched(network, x, precision):
        seen.append((precision, torch.backends.cudnn.allow_tf32))
        return real(network, x, precision)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(agreement, "scores", watched)
    agreement.check_training("", SHD.resized(hidden=4, steps=6, taps=3, batch=2))
    assert set(seen) == {("float32", False)}


def test_a_part_of_the_gpu_benchmark_ends_in_time(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    fit = []
    for seconds, fits in gpu._in_time([20, 30, 1, 9], 60.0):
        fit.append(fits)
        now[0] += seconds if fits else 0
    assert fit == [True, True, False, False]  # after 50 s, of a minute, none of 30 s would


def test_what_does_not_fit_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "_device", lambda: "cpu")
    monkeypatch.setattr(gpu, "_in_time", lambda pieces, end: [(p, False) for p in pieces])
    assert gpu.main([*GPU_SIZES, "--precision", "mixed", "--part", "steps"]) == 0
    row = tables(capsys.readouterr().out)[-1]
    assert "shd, training step, mixed: left out, since 9 minutes are too few" in row


def test_a_wrong_kernel_gets_no_speed(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "_device", lambda: "cpu")
    right = gpu.taps.delay_taps
    monkeypatch.setattr(gpu.taps, "delay_taps", lambda *a: 1.01 * right(*a))
    assert gpu.main([*GPU_SIZES, "--part", "kernels"]) == 1
    assert "Gaussian taps, forward and back deviates from float64" in capsys.readouterr().err


def test_the_gpu_benchmark_needs_a_gpu(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "This needs an NVIDIA GPU" in capsys.readouterr().err


def test_ratios_are_taken_round_by_round() -> None:
    found = common.ratios([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])
    assert found == {"median": 3.0, "min": 2.0, "max": 4.0, "n": 3, "values": [2.0, 3.0, 4.0]}


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"recurrent", "stream"}))
def test_wrong_numbers_get_no_speed(name, tmp_path, monkeypatch, capsys) -> None:
    right = layers.delayed_linear

    def wrong(*arguments, backend, **settings):
        y = right(*arguments, backend=backend, **settings)
        return 1.01 * y if backend == "dense" else y

    monkeypatch.setattr(layers, "delayed_linear", wrong)
    script, arguments = COMMANDS[name]
    assert script.main([*arguments, "--backend", "dense", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "deviates from float64 by" in printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
def test_wrong_numbers_of_the_fused_pass_get_no_speed(monkeypatch, capsys) -> None:
    right = layers.delayed_linear_of
    monkeypatch.setattr(layers, "delayed_linear_of", lambda *given: 1.01 * right(*given))
    sizes = ["--hidden", "64", "--steps", "50", "--taps", "25", "--batch", "256"]
    arguments = [*sizes, "--rounds", "1", "--case", "shd", "--sigma", "narrow"]
    assert train_step.main(arguments) == 1  # though a batch so small would not be fused
    assert "deviates from float64 by" in capsys.readouterr().err


@pytest.mark.skipif(not numba_jit.available(), reason="the products are numba's")
def test_the_roofline_counts_the_products_of_a_step(monkeypatch) -> None:
    problem = replace(SHD.resized(hidden=24, steps=30, taps=7, batch=18), backend="numba")
    found: Counter[tuple[int, int, int]] = Counter()
    forward, backward = layer_numba.products, layer_numba.products_gradient

    def add(F, N, *shapes) -> None:
        for shape in shapes:
            found[shape] += sum(1 if 2 * f in (0, N) else 3 for f in range(F))

    def products(X, K, N, Y) -> None:
        (F, _, B, inputs), outputs = X.shape, K.shape[2]
        add(F, N, (B, inputs, outputs))
        forward(X, K, N, Y)

    def products_gradient(G, X, K, N, of_input, g_X) -> None:
        (F, _, B, inputs), outputs = X.shape, K.shape[2]
        add(F, N, (outputs, B, inputs), *[(B, outputs, inputs)] * of_input)
        backward(G, X, K, N, of_input, g_X)

    monkeypatch.setattr(layer_numba, "products", products)
    monkeypatch.setattr(layer_numba, "products_gradient", products_gradient)
    our_step(problem)()
    counted: Counter[tuple[int, int, int]] = Counter()
    for part in roofline.products(problem):
        counted[part.m, part.k, part.n] += part.count
    assert counted == found
    assert found


def test_the_products_are_right() -> None:
    threads = torch.get_num_threads()
    a, b = torch.rand(threads, 2, 5, 7), torch.rand(threads, 2, 3, 7)
    out = torch.zeros(threads, 2, 5, 3)
    roofline._complex_products(threads, *(x.numpy() for x in (a, b, out)))
    want = torch.complex(a[:, 0], a[:, 1]) @ torch.complex(b[:, 0], b[:, 1]).mT
    torch.testing.assert_close(torch.complex(out[:, 0], out[:, 1]), want)


def test_inference_leaves_out_what_does_not_serve(monkeypatch, capsys) -> None:
    right = layers.delayed_linear

    def refuses(*arguments, backend, **settings):
        if backend == "dense":
            raise ValueError("backend=dense cannot serve: it is asleep.")
        return right(*arguments, backend=backend, **settings)

    monkeypatch.setattr(layers, "delayed_linear", refuses)
    options = argparse.Namespace(
        backend="all", what="layer", hidden=16, taps=5, steps=20, seed=0, batch=[3]
    )
    (trial,) = inference._trials(3, options)
    assert "DelayedLinear, dense" in trial.makes
    errors = inference._check(trial)
    assert "DelayedLinear, dense" not in errors
    assert {"conv1d", "DelayedLinear, auto", "DelayedLinear, reference"} <= errors.keys()
    assert "it is asleep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        (train_step, ["--case", "gsc"], "argument --case: invalid choice: 'gsc'"),
        (train_step, ["--rounds", "0"], "0 is not a whole number of at least 1"),
        (train_step, ["--taps", "4"], "model.taps=4 must be odd; use 5."),
        (train_step, ["--backend", "nothing"], "argument --backend: invalid choice"),
        (scaling, ["--values", "5"], "--values needs --factor"),
        (inference, ["--batch", "1,x"], "x is not a whole number of at least 1"),
        (epoch, ["--out", __file__], "cannot be written"),
    ],
)
def test_wrong_options_end_in_one_sentence(script, arguments, sentence, capsys) -> None:
    try:
        code = script.main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert sentence in printed.err.splitlines()[-1]
    assert "usage" not in printed.err


def test_a_cold_start_has_an_empty_folder_of_kernels_and_a_cached_one_its_files(
    monkeypatch, capsys
) -> None:
    found = []

    def python(code, environment):
        if code == [start.IMPORT]:
            return ""
        folder = Path(environment["NUMBA_CACHE_DIR"])
        found.append((code[1:], sorted(path.name for path in folder.iterdir())))
        for name in ("one.kernel", "two.kernel", "two.lock"):
            (folder / name).touch()
        return f"{3 - len(found) % 2 * 2}\n"

    monkeypatch.setattr(start, "_python", python)
    assert start.main(["--case", "ssc", "--rounds", "2", "--seed", "7"]) == 0
    case, files = ["ssc", "auto", "7"], ["one.kernel", "two.kernel", "two.lock"]
    assert found == [(case, []), (case, files)] * 2
    cells = [cell.strip() for cell in tables(capsys.readouterr().out)[2].split("|")]
    assert (cells[1], *cells[3:6]) == ("ssc", "3.00 (3.00-3.00)", "1.00 (1.00-1.00)", "2")


def test_the_codes_of_a_start_run(capsys, monkeypatch) -> None:
    small = SHD.resized(hidden=4, steps=6, taps=3, batch=2)
    monkeypatch.setitem(networks.CASES, "shd", small)
    monkeypatch.setattr(sys, "argv", ["-c", "shd", "reference", "1"])
    exec(start.STEP, {})
    assert float(capsys.readouterr().out) > 0


@pytest.mark.parametrize("script", [train_step, scaling, inference, epoch, start])
def test_help(script, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert script.__doc__.splitlines()[0] in capsys.readouterr().out


def test_fewer_samples_are_compared_where_more_spikes_could_flip() -> None:
    sizes = [{}, {"batch": 2}, {"hidden": 1024}, {"steps": 1000}, {"steps": 10**6}]
    batches = [agreement._small_batch(SHD.resized(**size)) for size in sizes]
    assert batches == [4, 2, 2, 1, 1]


def test_a_deviation_is_allowed_where_plain_fp32_deviates_too() -> None:
    agreement.require("x", 9e-4, own=0)
    agreement.require("x", 2e-2, own=1e-2)
    for found, own in ((2e-3, 0.9e-3), (float("nan"), 0.0), (float("inf"), 0.0)):
        with pytest.raises(common.Disagreement):
            agreement.require("x", found, own)
    assert agreement.relative(torch.tensor([torch.nan]), torch.ones(1).double()) == float("inf")


@pytest.mark.parametrize(("memory", "cell"), [(True, "("), (False, "out of memory")])
def test_every_size_beside_the_reference(memory, cell, monkeypatch, capsys) -> None:
    if not memory:
        monkeypatch.setattr(scaling, "reference_step", give_starve)
    sizes = [*TINY, "--batch", "4", "--factor", "demo", "--values", "2"]
    assert scaling.main([*sizes, "--reference"]) == 0
    header, _, row = (line.split(" | ") for line in tables(capsys.readouterr().out))
    assert header[-2:] == ["reference, ms", "times as fast |"]
    assert row[0] == "| batch, the demo's network"
    assert cell in row[-2]
    assert ("(" in row[-1]) == memory


def test_the_demos_network_is_that_of_the_demo() -> None:
    demo = compose("train", ["experiment=demo/learned"])
    assert networks.DEMO.hidden == tuple(demo.model.hidden)
    assert networks.DEMO.steps == LENGTH_MS / demo.data.step_ms
    assert (networks.DEMO.taps, networks.DEMO.dropout) == (demo.model.taps, demo.model.dropout)
    assert (networks.DEMO.batch, networks.DEMO.classes) == (demo.train.batch_size, 16)
    assert networks.configure(networks.DEMO).data.channels == demo.data.channels == 14
    assert networks.configure(networks.DEMO).tau == pytest.approx(demo.tau)


def test_slow_rounds_are_fewer(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])

    class Slow:
        warm_up = staticmethod(lambda: 1)

        def run(self, calls: int) -> float:
            now[0] += 50
            return 50.0

    assert workers.alternate({"one": Slow()}, 7, 120) == {"one": [50.0] * 3}
    assert workers.alternate({"one": Slow()}, 7, 0) == {"one": [50.0]}
    assert workers.alternate({"one": Slow()}, 7) == {"one": [50.0] * 7}


# ---- the whole run -----------------------------------------------------------------------------

SMALL = replace(SHD.resized(hidden=6, steps=20, taps=5, batch=4), backend="reference")


def test_a_part_does_not_count_the_parts_within_it(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(timed_run.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    class Owner:
        def outer(self) -> None:
            wait(1)
            self.inner()
            wait(2)
            self.inner()

        def inner(self) -> None:
            wait(10)

    monkeypatch.setattr(timed_run, "PARTS", {"out": [(Owner, "outer")], "in": [(Owner, "inner")]})
    outer = Owner.outer
    with timed_run.noted() as calls:
        Owner().outer()
    assert Owner.outer is outer
    assert calls == [("in", 1, 11, 10), ("in", 13, 23, 10), ("out", 0, 23, 3)]


def test_the_time_of_a_run_adds_up() -> None:
    calls = [
        ("frames", 12, 13, 1), ("steps", 21, 41, 20), ("evaluation", 42, 45, 3),
        ("end_of_epoch", 41, 50, 6), ("waiting", 50, 51, 1), ("steps", 51, 71, 20),
        ("end_of_epoch", 71, 75, 4), ("training", 20, 76, 2), ("evaluation", 80, 90, 10),
    ]  # fmt: skip
    found = whole_run.account({"imported": 8, "calls": calls}, 0, 100)
    percent = {"start": 20, "steps": 40, "waiting": 1, "evaluation": 13, "end_of_epoch": 10}
    percent |= {"checkpoints": 0, "rest": 16}
    assert found == {
        "minutes": [pytest.approx(100 / 60)],
        "epoch_seconds": [30, 25],
        **{f"{part}_percent": [pytest.approx(share)] for part, share in percent.items()},
        "imports_seconds": [8],
        "frames_seconds": [1],
    }
    assert math.isclose(sum(percent.values()), 100)


def test_every_part_of_a_run_is_noted(tmp_path) -> None:
    options = argparse.Namespace(samples=10, tested=6)
    settings = whole_run._settings(tmp_path, SMALL, options)
    notes = tmp_path / "notes.json"
    run = [*settings, "train.epochs=2", *whole_run._folders(tmp_path)]
    assert whole_run._run([str(notes), *run]) == 0
    calls = [timed_run.Call(*call) for call in json.loads(notes.read_text("utf-8"))["calls"]]
    counts = Counter(call.part for call in calls)
    assert counts.keys() == timed_run.PARTS.keys()
    assert counts["steps"] == 2 * 3
    assert counts["waiting"] == 2 * (3 + 1)
    assert counts["evaluation"] == 2 + 1
    assert counts["checkpoints"] > counts["end_of_epoch"] == 2
    assert all(call.seconds >= 0 for call in calls)


@pytest.mark.slow
def test_a_run_has_a_process_of_its_own(tmp_path) -> None:
    notes = tmp_path / "notes.json"
    assert in_new_process([str(notes), "--help"]) == 0
    assert json.loads(notes.read_text("utf-8"))["calls"] == []


def test_a_run_that_fails(monkeypatch, capsys) -> None:
    monkeypatch.setattr(whole_run, "_run", lambda arguments: 2)
    assert whole_run.main(COMMANDS["whole_run"][1]) == 2
    assert "The run ended with exit code 2" in capsys.readouterr().err


def test_epochs_by_turns_train_on_the_same_recordings(tmp_path, monkeypatch) -> None:
    @contextlib.contextmanager
    def here(make, *arguments):
        with contextlib.closing(make(*arguments)) as made:
            yield lambda: next(made)

    seen: list[torch.Tensor] = []
    update = epochs.reference_update

    def watched(network, optimizers):
        step = update(network, optimizers)
        return lambda x, y: (seen.append(x), step(x, y))

    monkeypatch.setattr(whole_run, "process_of", here)
    monkeypatch.setattr(epochs, "reference_update", watched)
    options = argparse.Namespace(samples=10, tested=6, epochs=1, reference_epochs=2)
    settings = whole_run._settings(tmp_path, SMALL, options)
    ours, reference = whole_run._by_turns(tmp_path, SMALL, settings, options)
    lines = (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()
    assert ["test_accuracy" in json.loads(line) for line in lines] == [True] * 4
    assert (ours["epoch_seconds"]["n"], reference["epoch_seconds"]["n"]) == (3, 2)
    train = load_data(compose("train", [*settings, *whole_run._folders(tmp_path)])).train
    assert sorted(x.shape[1] for x in seen) == [2, 2, 4, 4, 4, 4]
    assert sum(x.sum() for x in seen) == 2 * sum(train.frames(n).sum() for n in range(10))
    for row in (ours, reference):
        parts = (row[f"{part}_seconds"]["values"] for part in ("training", "evaluation"))
        assert row["epoch_seconds"]["values"] == [sum(both) for both in zip(*parts, strict=True)]
    a, b, c = ours["epoch_seconds"]["values"]
    first, second = reference["epoch_seconds"]["values"]
    wanted = [2 * first / (a + b), 2 * second / (b + c)]
    assert reference["ratio"]["values"] == pytest.approx(wanted)


def count_up():
    yield from enumerate(range(10, 20))


def test_epochs_in_another_process() -> None:
    with epochs.process_of(count_up) as following:
        assert [following(), following()] == [(0, 10), (1, 11)]


def test_the_whole_run_is_the_papers(tmp_path) -> None:
    """The sizes that its numbers are checked at are those of the experiment."""
    options = argparse.Namespace(samples=1, tested=1)
    config = compose("train", whole_run._settings(tmp_path, SHD, options))
    paper = compose("train", ["experiment=paper/shd"])
    assert config.model == paper.model
    assert (config.train, config.data.channels) == (
        replace(paper.train, protocol="paper"), paper.data.channels,
    )  # fmt: skip
    assert config.tau == pytest.approx(SHD.tau)


def fail() -> None:
    raise ArithmeticError("wrong sum")


def give_fail():
    return fail


def starve() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def give_starve(problem):
    return starve


def die() -> None:
    import os

    os._exit(9)


def give_die():
    return die


def test_a_stream_that_computes_something_else_gets_no_speed(monkeypatch, capsys) -> None:
    right = stream.Stream.step
    monkeypatch.setattr(stream.Stream, "step", lambda self, frame: right(self, 2 * frame))
    assert stream.main([*COMMANDS["stream"][1]]) == 1
    told = capsys.readouterr()
    assert "predictions differ from evaluation. No speed is reported" in told.err
    assert not told.out


def test_a_recurrent_layer_that_computes_something_else_gets_no_speed(monkeypatch, capsys) -> None:
    step = recurrent.published_step
    monkeypatch.setattr(recurrent, "published_step", lambda p: step(replace(p, sigma=p.sigma + 1)))
    assert recurrent.main([*COMMANDS["recurrent"][1]]) == 1
    told = capsys.readouterr()
    assert "differ. No speed is reported" in told.err
    assert not told.out


def test_a_worker_tells_why_it_failed() -> None:
    with (
        workers.started({"one": (give_fail,)}) as started,
        pytest.raises(RuntimeError, match="wrong sum"),
    ):
        started["one"].run()


def test_a_worker_that_was_killed() -> None:
    with (
        workers.started({"one": (give_die,)}) as started,
        pytest.raises(workers.OutOfMemory, match="killed"),
    ):
        started["one"].run()


def test_recordings_last_as_asked(tmp_path: Path) -> None:
    problem = SHD.resized(steps=30)
    path = epoch.write_recordings(tmp_path / "train.h5", 5, problem)
    store = epoch.open_recordings(epoch.data_config(problem, path))
    assert epoch.Samples.of(store).longest == 30
    assert len(store) == 5
