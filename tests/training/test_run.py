"""Whole runs: what they write, how they select, that they repeat bit by bit."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
import yaml

from snn_delays.config import Config
from snn_delays.data.frame_cache import FrameStore
from snn_delays.errors import UserError
from snn_delays.evaluate import evaluate
from snn_delays.nn import Network, build_network
from snn_delays.nn.block import How
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.training import loop, run
from snn_delays.training import step as training_step
from snn_delays.training.checkpoint import Position, checkpoint_path, load_run
from snn_delays.training.loop import build_loader
from snn_delays.training.run import train
from tests.training.test_resume import train_for


def metrics(out) -> list[dict]:
    return [json.loads(line) for line in Path(out, "metrics.jsonl").read_text("utf-8").splitlines()]


def test_a_run_leaves_everything_behind(small_config, capsys) -> None:
    config = small_config(weight_schedule="constant", lr_weight=0.03)
    result = train(config)
    out = Path(config.out)
    assert json.loads((out / "result.json").read_text("utf-8")) == {
        k: v for k, v in result.items() if k != "out"
    }
    assert {
        "accuracy", "interval", "n", "loss", "epoch", "protocol", "selection", "parameters",
        "config_hash", "data_hash", "commit", "versions", "machine", "seed", "seconds",
    } <= result.keys()  # fmt: skip
    assert result["n"] == 30
    assert result["accuracy"] > 0.9  # the class decides the channels
    network = load_run(out, "best").network
    assert result["delay_buffer_bytes"] == network.delay_buffer_bytes > 0
    groups = result["per_speaker_group"]  # three speakers train, one selects, two are new
    assert {name: group["n"] for name, group in groups.items()} == {
        "known speakers": 18, "validation speakers": 6, "unseen speakers": 6,
    }  # fmt: skip
    lines = metrics(out)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"train_loss", "valid_accuracy", "sigma", "lr_weight", "lr_delay"} <= lines[0].keys()
    assert lines[0]["selection"] == "selected on validation data"
    assert yaml.safe_load((out / "config.yaml").read_text("utf-8"))["model"]["hidden"] == [12]
    assert checkpoint_path(out, "last").is_file()
    assert "protocol validation" in capsys.readouterr().out


def test_the_selected_checkpoint_is_the_one_reported(small_config) -> None:
    config = small_config(epochs=4)
    result = train(config)
    read = load_run(config.out)
    assert read.meta.epoch == result["epoch"]
    accuracies = [(m["valid_accuracy"], -m["valid_loss"]) for m in metrics(config.out)]
    assert result["epoch"] == accuracies.index(max(accuracies)) + 1
    samples = run.load_data(config).test
    loader = build_loader(config, samples, read.meta.steps, torch.device("cpu"))
    assert evaluate(read.network, loader).score().accuracy == result["accuracy"]


def test_equal_seeds_give_equal_bits(small_config, tmp_path) -> None:
    states = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        config = small_config()
        config.out, config.seed = str(tmp_path / name), seed
        train(config)
        states.append(load_run(config.out, "last").network.state_dict())
    same = [all(torch.equal(states[0][k], s[k]) for k in s) for s in states[1:]]
    assert same == [True, False]


def spy(monkeypatch) -> list[tuple[str, int]]:
    """Record (when, samples) of every evaluation."""
    seen: list[tuple[str, int]] = []
    for module in (loop, run):
        original = module.evaluate

        def wrapped(network, loader, *loss, original=original, module=module, **more):
            seen.append((module.__name__.rpartition(".")[2], len(loader.samples)))
            return original(network, loader, *loss, **more)

        monkeypatch.setattr(module, "evaluate", wrapped)
    return seen


@pytest.mark.parametrize(
    ("protocol", "phases", "trained", "evaluated"),
    [
        ("validation", ["train"] * 3, [36], [("loop", 12)] * 3 + [("run", 30)]),
        ("last", ["train"] * 3, [48], [("run", 30)]),
        ("paper", ["train"] * 3, [48], [("loop", 30)] * 3 + [("run", 30)]),
    ],
)
def test_protocols_select_on_what_they_say(
    protocol, phases, trained, evaluated, small_config, monkeypatch, capsys
) -> None:
    seen = spy(monkeypatch)
    result = train(small_config(protocol=protocol))
    assert seen == evaluated
    assert [m["phase"] for m in metrics(result["out"])] == phases
    assert f"{trained[0]} training" in capsys.readouterr().out
    assert result["trained_on"] == trained[0]
    assert result["selected_on"] == (evaluated[0][1] if protocol != "last" else 0)
    assert ("held-out" in result["data"]["split"]) == (protocol == "validation")
    assert result["protocol"] == protocol
    if protocol == "last":
        assert result["epoch"] == 3
        assert "valid_accuracy" not in metrics(result["out"])[0]


def test_refit_trains_anew_on_everything(small_config, monkeypatch) -> None:
    seen = spy(monkeypatch)
    result = train(small_config(protocol="refit"))
    lines = metrics(result["out"])
    chosen = max(lines[:3], key=lambda m: (m["valid_accuracy"], -m["valid_loss"]))["epoch"]
    assert [m["phase"] for m in lines] == ["train"] * 3 + ["refit"] * chosen
    assert seen == [("loop", 12)] * 3 + [("run", 30)]
    assert result["epoch"] == chosen
    assert (result["trained_on"], result["selected_on"]) == (48, 12)
    meta = load_run(result["out"]).meta
    assert meta.speakers == ["0", "1", "2", "3"]
    assert meta.steps == run.load_data(small_config()).everything.longest


@pytest.mark.parametrize("protocol", ["validation", "refit", "last"])
def test_the_test_set_may_be_left_unread(protocol, small_config, monkeypatch) -> None:
    seen = spy(monkeypatch)
    result = train(small_config(protocol=protocol, test=False))
    assert seen == ([] if protocol == "last" else [("loop", 12)] * 3)
    assert not {"accuracy", "loss", "per_class", "per_speaker_group"} & result.keys()
    assert ("valid" in result) == (protocol != "last")


def test_the_validation_score_is_that_of_the_epoch_chosen(small_config) -> None:
    for protocol in ("validation", "refit"):
        config = small_config(protocol=protocol)
        config.out += protocol
        result = train(config)
        line = metrics(result["out"])[result["epoch"] - 1]
        assert result["valid"]["accuracy"] == line["valid_accuracy"]
        assert (result["valid"]["loss"], result["valid"]["n"]) == (line["valid_loss"], 12)


def test_the_papers_protocol_says_test_selected_and_pads_by_batch(small_config) -> None:
    result = train(small_config(protocol="paper"))
    assert result["selection"] == "test-selected"
    assert all(m["selection"] == "test-selected" for m in metrics(result["out"]))
    accuracies = [m["test_accuracy"] for m in metrics(result["out"])]
    assert result["epoch"] == accuracies.index(max(accuracies)) + 1  # ties to the first
    assert result["batch_accuracy"] == max(accuracies)
    assert load_run(result["out"]).meta.steps is None


def test_outside_the_papers_protocol_all_samples_have_one_length(small_config, monkeypatch) -> None:
    config = small_config()
    longest = run.load_data(config).train.longest
    lengths = set()
    original = training_step.take_step

    def step(network, optimizers, batch, *more):
        lengths.add(len(batch.x))
        return original(network, optimizers, batch, *more)

    monkeypatch.setattr(training_step, "take_step", step)
    train(config)
    assert lengths == {longest}
    assert load_run(config.out).meta.steps == longest


def test_sigma_and_speakers_travel_with_the_checkpoint(small_config) -> None:
    config = small_config(epochs=4)
    train(config)
    read = load_run(config.out, "last")
    assert [layer.sigma for layer in read.network.delayed_layers()] == [0.5, 0.5]
    assert len(read.meta.speakers) == 3
    assert not read.network.training


def test_double_precision(small_config) -> None:
    config = small_config()
    config.precision = "float64"
    train(config)
    assert load_run(config.out).network.blocks[0].linear.weight.dtype == torch.float64


@pytest.mark.parametrize("backend", ["dense", "matmul"])
def test_mixed_precision_trains_in_single_precision(backend, small_config) -> None:
    config = small_config()
    config.precision, config.backend = "mixed", backend
    train(config)
    assert load_run(config.out).network.blocks[0].linear.weight.dtype == torch.float32


def test_a_folder_in_use_is_not_overwritten(small_config) -> None:
    config = small_config()
    train(config)
    before = sorted(Path(config.out).rglob("*"))
    with pytest.raises(UserError, match="is not an empty folder"):
        train(config)
    assert sorted(Path(config.out).rglob("*")) == before


def test_nothing_is_written_when_the_input_is_bad(small_config, monkeypatch) -> None:
    for change, words in (
        (lambda c: setattr(c.data, "test_file", "/none.h5"), "There is no file /none.h5"),
        (lambda c: setattr(c, "backend", "magic"), "backend=magic"),
        (lambda c: setattr(c.data, "units", 600), "outside 0..599"),
        (lambda c: setattr(c.model, "taps", 4), "must be odd"),
    ):
        config = small_config()
        change(config)
        with pytest.raises(UserError, match=words):
            train(config)
        assert not Path(config.out).exists()
    config = small_config()
    config.precision, config.device = "tf32", "cpu"
    with pytest.raises(UserError, match="precision=tf32 needs a GPU"):
        train(config)
    config = small_config()
    config.precision, config.backend = "mixed", "fft"
    with pytest.raises(UserError, match="precision=mixed changes nothing with backend=fft"):
        train(config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = small_config()
    config.device = "cuda"
    with pytest.raises(UserError, match="torch sees no GPU"):
        train(config)


def test_a_loss_that_is_no_number_stops_with_a_sentence(small_config) -> None:
    config = small_config()
    config.train.lr_weight = 1e30
    config.model.batch_norm, config.model.readout = False, "last"
    config.train.weight_schedule = "constant"
    with pytest.raises(UserError, match=r"The loss became \w+ in epoch \d+, batch \d.*; lower"):
        train(config)


def test_unwritable_folders_are_named(small_config, tmp_path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    config = small_config()
    config.out = str(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        train(config)


# ---- reading a run back ------------------------------------------------------------------------


def spoil_config(out: Path, old: str, new: str) -> None:
    path = out / "config.yaml"
    path.write_text(path.read_text("utf-8").replace(old, new), encoding="utf-8")


def test_the_best_epoch_is_the_first_of_equals() -> None:
    best = Position()
    ranks = [(0.5, -2.0), (0.7, -1.0), (0.7, -1.0), (0.6, 0.0), (0.7, -0.9)]
    assert [best.update_best(n, rank) for n, rank in enumerate(ranks, 1)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert best.best_epoch == 5


def test_the_stored_configuration_says_what_was_done(small_config) -> None:
    config = small_config(protocol="paper")
    config.device = "auto"
    train(config)
    stored = yaml.safe_load(Path(config.out, "config.yaml").read_text("utf-8"))
    assert stored["out"] == config.out
    assert stored["device"] in ("cpu", "cuda")
    assert stored["data"]["frame_arithmetic"] == "float16"
    assert stored["model"]["extra_steps"] == 2


def test_what_is_not_a_whole_run_is_refused(small_config, tmp_path) -> None:
    config = small_config()
    train(config)
    out = Path(config.out)
    with pytest.raises(UserError, match="is not the folder of a run"):
        load_run(tmp_path)
    spoil_config(out, "- 12", "- 13")
    with pytest.raises(
        UserError, match=r"says model\.hidden=\[13\], but the checkpoint says model\.hidden=\[12\]"
    ):
        load_run(out)
    spoil_config(out, "- 13", "- 12")
    spoil_config(out, "taps:", "tapz:")
    with pytest.raises(UserError, match="not a configuration of this version"):
        load_run(out)
    spoil_config(out, "tapz:", "taps:")
    load_run(out, "last")
    best = checkpoint_path(out, "best")
    whole = best.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        best.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged or not a checkpoint"):
            load_run(out)
    for content in ({"format": 1}, {"format": 1, "meta": {"epoch": 1}}, {"meta": {}}, [1]):
        torch.save(content, best)
        with pytest.raises(UserError, match="is not a checkpoint of"):
            load_run(out)
    best.unlink()
    with pytest.raises(UserError, match="There is no checkpoint"):
        load_run(out)
    (out / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a configuration of this version"):
        load_run(out)


def test_a_checkpoint_cannot_run_code(small_config, tmp_path) -> None:
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    config = small_config()
    train(config)
    torch.save({"format": 1, "model": Attack()}, checkpoint_path(Path(config.out), "best"))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        load_run(config.out)
    assert not (tmp_path / "executed").exists()


# ---- tracking ----------------------------------------------------------------------------------


def test_wandb_works_offline_without_a_key(
    small_config, tmp_path, monkeypatch, capsys, caplog
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = small_config()
    config.tracking.name = "wandb"
    train(config)
    written = list(Path(config.out, "wandb").glob("offline-run-*/*.wandb"))
    assert len(written) == 1
    assert "wandb has no key (wandb login, or WANDB_API_KEY); it tracks offline" in caplog.text
    assert f"wandb sync {written[0].parent}\n" in capsys.readouterr().out
    deadline = time.monotonic() + 30  # wandb's own process closes the file after it has answered
    while b"train_loss" not in written[0].read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"train_loss" in written[0].read_bytes()


def test_a_failing_tracker_stops_nothing(small_config, monkeypatch, caplog) -> None:
    import wandb

    class Broken:
        def log(self, line):
            raise RuntimeError("no route to host")

    monkeypatch.setattr(wandb, "init", lambda **options: Broken())
    config = small_config()
    config.tracking.name = "wandb"
    train(config)
    assert len(metrics(config.out)) == 3
    assert caplog.text.count("Tracking stopped (no route to host)") == 1


def test_wandb_out_of_reach_goes_on_offline(small_config, monkeypatch, caplog) -> None:
    import wandb

    modes = []

    def init(mode, **options):
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("timed out")
        raise RuntimeError("nor offline")

    monkeypatch.setenv("WANDB_API_KEY", "secret-key")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "init", init)
    config = small_config()
    config.tracking.name = "wandb"
    train(config)
    assert modes == ["online", "offline"]
    assert "cannot be reached (timed out)" in caplog.text
    for path in Path(config.out).rglob("*"):
        assert path.is_dir() or b"secret-key" not in path.read_bytes()


@pytest.mark.parametrize("protocol", ["validation", "refit", "last"])
def test_the_test_set_is_read_once_after_training(protocol, small_config, monkeypatch) -> None:
    read = []

    def frames(store, number, real=FrameStore.frames):
        read.append(store.source.name)
        return real(store, number)

    monkeypatch.setattr(FrameStore, "frames", frames)
    train(small_config(protocol=protocol))
    first = read.index("test.h5")
    assert set(read[:first]) == {"train.h5"}
    assert read[first:] == ["test.h5"] * 30


def test_the_split_stands_beside_the_run(small_config) -> None:
    config = small_config()
    train(config)
    noted = json.loads(Path(config.out, "split.json").read_text("utf-8"))
    assert noted["rule"] == "held-out speakers 2"
    assert noted["valid"]["speakers"] == ["2"]
    numbers = noted["train"]["samples"] + noted["valid"]["samples"]
    assert sorted(numbers) == list(range(48))
    assert (noted["test"]["file"], noted["test"]["samples"]) == ("test", "all")


def test_the_log_says_why_a_gpu_is_slower_than_it_could_be(small_config, monkeypatch) -> None:
    config = small_config()
    network = build_network(config, 3).to("meta")  # a device that is not the CPU
    monkeypatch.setattr(triton_jit, "triton", None)
    assert run._describe_backend(config, network, [How("dense")]).endswith(
        f"; slower: {triton_jit.MISSING}"
    )


def test_the_result_says_what_computed_each_layer(small_config, capsys) -> None:
    config = small_config(epochs=1)
    config.backend = "dense"
    why = "backend=dense takes no spectra"
    (session,) = train(config)["sessions"]
    block = {"backend": "dense", "path": "modules", "why": why}
    assert session["layers"] == [block] * len(config.model.hidden) + [{**block, "why": ""}]
    assert f"backend dense: dense (module by module: {why}); " in capsys.readouterr().out


def test_another_plan_on_resume_is_told(caplog) -> None:
    position, here = Position(), (Config(), torch.device("cpu"), 1, [])
    run._note_session(position, *here, [How("numba", "spectra"), How("numba")])
    run._note_session(
        position, *here, [How("numba", "spectra"), How("numba", why="in other words")]
    )
    assert not caplog.text
    run._note_session(position, *here, [How("numba"), How("numba")])
    assert "is resumed with another way to compute its layers than before" in caplog.text


# ---- backends by the clock ---------------------------------------------------------------------


def test_a_run_keeps_to_the_backends_that_were_timed(small_config, monkeypatch) -> None:
    monkeypatch.setattr(run, "_is_on_gpu", lambda network: True)
    timed = iter([["fft", "dense"], ["matmul", "matmul"]])
    monkeypatch.setattr(Network, "fastest_backends", lambda network, x: next(timed))
    config = small_config(epochs=1, protocol="refit", checkpoint_minutes=1e-9)
    config.resume, used = "auto", []
    real = Network.set_backends
    monkeypatch.setattr(
        Network, "set_backends", lambda n, names: (used.append(names), real(n, names))
    )
    train_for(2, config, monkeypatch)
    result = train(config)
    assert [session["backends"] for session in result["sessions"]] == [["fft", "dense"]] * 2
    assert used == [["fft", "dense"]] * len(used)
    assert len(used) == 5  # the network described and that trained, twice; and the refit's


def test_mixed_precision_is_not_refused_for_what_is_not_taken(small_config, monkeypatch) -> None:
    config = small_config(epochs=1)
    config.precision = "mixed"
    monkeypatch.setattr("snn_delays.nn.plan.choose_backend", lambda problem: "fft")  # if long
    with pytest.raises(UserError, match="changes nothing with backend=fft"):
        train(config)
    monkeypatch.setattr(run, "_is_on_gpu", lambda network: True)
    (backends,) = {tuple(session["backends"]) for session in train(config)["sessions"]}
    assert len(backends) == 2
    assert set(backends) <= {"dense", "matmul"}


@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
def test_mixed_precision_is_refused_by_what_events_compute(small_config) -> None:
    config = small_config(epochs=1)
    config.model.delays = "fixed"
    config.precision, config.backend = "mixed", "event"
    with pytest.raises(UserError, match="changes nothing with backend=event"):
        train(config)


@pytest.mark.parametrize("setting", ["backend", "deterministic", "device"])
def test_backends_are_not_timed_where_they_are_given(setting, small_config, monkeypatch) -> None:
    config = small_config(epochs=1, deterministic=setting == "deterministic")
    config.backend = "dense" if setting == "backend" else "auto"
    if setting != "device":
        monkeypatch.setattr(run, "_is_on_gpu", lambda network: True)
    assert train(config)["sessions"][0]["backends"] == []


def test_timed_backends_are_of_every_layer() -> None:
    config = Config()
    config.model.hidden, config.model.taps, config.model.extra_steps = [6, 4], 3, 1
    network = build_network(config, 5)
    names = network.fastest_backends(torch.empty(1).expand(7, 2, config.data.channels))
    assert len(names) == 3
    assert set(names) <= {"dense", "matmul", "fft"}
