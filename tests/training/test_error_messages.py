"""What goes wrong while a run trains: what is said, and what is kept."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays import files
from snn_delays.data.loaders import Batch, Loader
from snn_delays.errors import UserError
from snn_delays.files import replacing
from snn_delays.nn import build_network
from snn_delays.training import checkpoint, run, tracking
from snn_delays.training import step as training_step
from snn_delays.training.checkpoint import (
    checkpoint_path,
    load_run,
    read_checkpoint,
    read_last,
)
from snn_delays.training.health import describe_activity, layer_activity
from snn_delays.training.run import train
from tests.training.test_resume import assert_same_run, metrics, train_for

# ---- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def finished(small_config):
    config = small_config()
    train(config)
    return config


def test_truncated_checkpoints_are_refused(finished) -> None:
    out = Path(finished.out)
    path = checkpoint_path(out, "best")
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"best\.pt is damaged"):
            read_checkpoint(out, "best")


def test_flipped_bits_are_noticed_or_harmless(finished) -> None:
    """In every block of 64 bytes; some bits of a zip archive mean nothing."""
    out = Path(finished.out)
    path = checkpoint_path(out, "best")
    whole = path.read_bytes()
    expected = checkpoint._digest(read_checkpoint(out, "best"))
    rng = np.random.default_rng(0)
    noticed = 0
    for first in range(0, len(whole), 64):
        place = min(first + int(rng.integers(64)), len(whole) - 1)
        flipped = bytes([whole[place] ^ (1 << int(rng.integers(8)))])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            read = read_checkpoint(out, "best")
        except UserError:
            noticed += 1
        else:
            assert checkpoint._digest(read) == expected
    assert noticed > len(whole) / 64 / 3


def test_a_changed_number_is_noticed(finished) -> None:
    out = Path(finished.out)
    saved = torch.load(checkpoint_path(out, "best"), weights_only=True)
    saved["model"]["readout.linear.weight"][0, 0, 0] += 1
    torch.save(saved, checkpoint_path(out, "best"))
    with pytest.raises(UserError, match="its checksum is wrong"):
        load_run(out)


def trained_to_the_test(small_config, tmp_path):
    """Options of a finished run, and of the same run as if it was killed before its result."""
    whole, config = small_config(epochs=4), small_config(epochs=4)
    config.out, config.resume = str(tmp_path / "other"), "auto"
    for one in (whole, config):
        train(one)
    Path(config.out, "result.json").unlink()
    return whole, config


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    small_config, tmp_path, caplog
) -> None:
    whole, config = trained_to_the_test(small_config, tmp_path)
    out = Path(config.out)
    last = checkpoint_path(out, "last")
    last.write_bytes(last.read_bytes()[:-100])
    assert read_last(out)["position"]["epoch"] == 3
    assert "last.pt is damaged" in caplog.text
    assert "The checkpoint before it is used." in caplog.text
    train(config)
    assert_same_run(whole.out, out)
    last.write_bytes(b"")
    checkpoint_path(out, "previous").write_bytes(b"")
    with pytest.raises(UserError, match=r"previous\.pt is damaged"):
        read_last(out)


@pytest.mark.parametrize("damage", ["gone", "truncated", "of another epoch"])
def test_the_best_checkpoint_can_be_had_again(damage, small_config, tmp_path) -> None:
    whole, config = trained_to_the_test(small_config, tmp_path)
    out = Path(config.out)
    best = checkpoint_path(out, "best")
    if damage == "gone":
        best.unlink()
    elif damage == "truncated":
        best.write_bytes(best.read_bytes()[:1000])
    else:
        read = torch.load(best, weights_only=True)
        read.pop("digest")
        read["model"]["readout.linear.weight"].zero_()
        torch.save({**read, "digest": checkpoint._digest(read)}, best)
    train(config)
    assert_same_run(whole.out, out)


def test_a_damaged_checkpoint_is_never_the_one_that_is_kept(small_config, monkeypatch) -> None:
    config = small_config(epochs=5)
    config.resume = "auto"
    train_for(8, config, monkeypatch)
    out = Path(config.out)
    last = checkpoint_path(out, "last")
    last.write_bytes(last.read_bytes()[:-50])
    train_for(3, config, monkeypatch)
    for which in ("last", "previous"):
        saved = checkpoint_path(out, which)
        assert not saved.is_file() or read_checkpoint(out, which)
    train(config)


def test_files_beside_the_checkpoints_may_be_lost(small_config, monkeypatch) -> None:
    config = small_config(epochs=5)
    config.resume = "auto"
    train_for(8, config, monkeypatch)
    out = Path(config.out)
    for name, content in (
        ("config.yaml", b"name: run\n"), ("config.yaml", b"\xff"), ("config.yaml", None),
        ("split.json", b"{"), ("split.json", b"\xff"), ("metrics.jsonl", b"{{"),
    ):  # fmt: skip
        path = out / name
        path.unlink() if content is None else path.write_bytes(content)
        train_for(1, config, monkeypatch)
    train(config)
    assert [m["epoch"] for m in metrics(out)] == [1, 2, 3, 4, 5]
    assert "model:" in (out / "config.yaml").read_text("utf-8")
    for content in (b"{}", b"[]", b"3", b"\xff", b""):
        (out / "result.json").write_bytes(content)
        with pytest.raises(UserError, match=r"result\.json is damaged: remove it"):
            train(config)


def test_a_configuration_that_is_not_the_checkpoints_is_refused(finished) -> None:
    path = Path(finished.out, "config.yaml")
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("  tau_ms")], encoding="utf-8")
    with pytest.raises(UserError, match=r"says .*, but the checkpoint says .*: the file was"):
        load_run(finished.out)
    path.write_text("name: run\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a configuration of this version"):
        load_run(finished.out)


def test_the_cure_for_nan_may_be_taken_on_resume(small_config, monkeypatch) -> None:
    config = small_config(protocol="last")
    with monkeypatch.context() as patch:
        poison(patch, 2)
        with pytest.raises(UserError, match=r"train\.nonfinite=skip"):
            train(config)
        config.resume, config.train.nonfinite = "auto", "skip"
        train(config)
    assert [m["skipped_batches"] for m in metrics(config.out)] == [1, 1, 1]


def test_another_backend_on_resume_is_told(small_config, monkeypatch, caplog) -> None:
    config = small_config(epochs=4)
    config.resume, config.backend = "auto", "dense"
    train_for(4, config, monkeypatch)
    config.backend = "reference"
    result = train(config)
    assert "is resumed with another backend than before" in caplog.text
    assert [session["backend"] for session in result["sessions"]] == ["dense", "reference"]


def test_a_run_that_was_faster_is_not_overwritten(small_config, monkeypatch) -> None:
    """It ended in the same folder while this one made its frames."""
    config, other = small_config(), small_config()
    other.seed = 5
    real = run.load_data

    def load(given):
        monkeypatch.setattr(run, "load_data", real)
        train(other)
        return real(given)

    monkeypatch.setattr(run, "load_data", load)
    with pytest.raises(UserError, match="is not an empty folder"):
        train(config)
    assert json.loads(Path(config.out, "result.json").read_text("utf-8"))["seed"] == 5


def test_checkpoints_of_earlier_formats_are_read(finished) -> None:
    out = Path(finished.out)
    saved = torch.load(checkpoint_path(out, "last"), weights_only=True)
    network = load_run(out, "last").network.state_dict()
    saved["format"], saved["meta"]["speakers"] = 1, [0, 1, 3]
    saved["meta"]["valid_speakers"] = None
    for key in ("digest", "position", "rng_cuda", "split", "best"):
        del saved[key]
    torch.save(saved, checkpoint_path(out, "last"))
    read = load_run(out, "last")
    assert read.meta.speakers == ["0", "1", "3"]
    assert all(torch.equal(v, network[k]) for k, v in read.network.state_dict().items())
    (out / "result.json").unlink()
    finished.resume = "auto"
    with pytest.raises(UserError, match="of an earlier version: train anew, in another out"):
        train(finished)
    saved["format"] = 99
    torch.save(saved, checkpoint_path(out, "last"))
    checkpoint_path(out, "previous").unlink()
    with pytest.raises(UserError, match="is of format 99, later than 4: upgrade"):
        load_run(out, "last")


# ---- disks -------------------------------------------------------------------------------------


class Quota:
    """Bytes that may still be written to temporary files; then the disk is full."""

    def __init__(self, monkeypatch, left: int) -> None:
        self.left = left

        def limited(path, mode, real=open, **options):
            file = real(path, mode, **options)
            write = file.write

            def checked(content):
                self.left -= len(content)
                if self.left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(content)

            return Writer(file, checked) if mode == "xb" else file

        monkeypatch.setattr(files, "open", limited, raising=False)


class Writer:
    """A file whose writing is another's."""

    def __init__(self, file, write) -> None:
        self.file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [10_000, 60_000, 120_000])
def test_a_full_disk_keeps_the_last_checkpoint(room, small_config, tmp_path, monkeypatch) -> None:
    whole = small_config(epochs=6)
    train(whole)
    config = small_config(epochs=6)
    config.out, config.resume = str(tmp_path / "full"), "auto"
    with monkeypatch.context() as patch:
        Quota(patch, room)
        with pytest.raises(UserError, match=r"cannot be written: No space left on device"):
            train(config)
    assert not list(Path(config.out).rglob("*.part"))
    for which in ("last", "best"):
        read_checkpoint(Path(config.out), which)  # whole, or not there yet
    train(config)
    assert_same_run(whole.out, config.out)


def test_a_file_is_whole_or_as_it_was(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_text("before", encoding="utf-8")
    with contextlib.suppress(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text("utf-8") == "before"
    with replacing(path, tmp_path / "kept") as file:
        file.write(b"after")
        assert path.read_text("utf-8") == "before"
    assert (path.read_text("utf-8"), (tmp_path / "kept").read_text("utf-8")) == ("after", "before")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "kept"]


def test_a_file_that_cannot_be_read_is_not_taken_for_the_runs(small_config, monkeypatch) -> None:
    def batch(loader, *arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/data/train.h5")

    monkeypatch.setattr(Loader, "_batch", batch)
    with pytest.raises(UserError, match=r"/data/train\.h5: Input/output error"):
        train(small_config())


def test_a_reader_that_has_seen_enough_is_no_fault(small_config, monkeypatch) -> None:
    def write(*arguments, **options):
        raise BrokenPipeError

    monkeypatch.setattr("tqdm.tqdm.write", write)
    with pytest.raises(BrokenPipeError):
        train(small_config())


def test_too_little_memory_is_one_sentence(small_config, monkeypatch) -> None:
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    for error in (MemoryError(), RuntimeError(words), torch.OutOfMemoryError("CUDA out of memory")):
        config = small_config()
        config.resume = "auto"

        def step(*arguments, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(training_step, "take_step", step)
            with pytest.raises(
                UserError, match=r"Memory ran out .* with a lower train\.batch_size"
            ):
                train(config)
    train(config)


# ---- numbers that are none ---------------------------------------------------------------------


def poison(monkeypatch, bad: int) -> None:
    """NaN in batch ``bad`` of every epoch of training, counted from 0."""
    real = Loader._batch

    def batch(loader, epoch, place, numbers):
        made = real(loader, epoch, place, numbers)
        if place == bad and loader.shuffle_seed is not None:
            made.x[0, 0, 0] = float("nan")
        return made

    monkeypatch.setattr(Loader, "_batch", batch)


@pytest.mark.parametrize("backend", ["dense", "auto", "numba"])
def test_a_nan_stops_the_run_and_names_the_samples(backend, small_config, monkeypatch) -> None:
    from snn_delays.runtime import numba_jit

    if backend == "numba" and not numba_jit.available():
        pytest.skip("numba is not installed")
    seen: list[Batch] = []
    poison(monkeypatch, 2)
    real = training_step.take_step
    monkeypatch.setattr(training_step, "take_step", lambda *a: (seen.append(a[2]), real(*a))[1])
    config = small_config(protocol="last")
    config.backend = backend
    with pytest.raises(UserError, match=r" became .* in epoch 1, batch 3 \("):
        train(config)
    noted = json.loads(Path(config.out, "nonfinite.json").read_text("utf-8"))
    assert (noted["epoch"], noted["batch"]) == (1, 3)
    assert [s["sample"] for s in noted["samples"]] == seen[-1].indices.tolist()
    assert {s["file"] for s in noted["samples"]} == {config.data.train_file}


def test_a_nan_batch_can_be_skipped(small_config, monkeypatch) -> None:
    poison(monkeypatch, 1)
    config = small_config(protocol="last", nonfinite="skip")
    train(config)
    assert [m["skipped_batches"] for m in metrics(config.out)] == [1, 1, 1]
    state = load_run(config.out, "last").network.state_dict()
    assert all(v.isfinite().all() for v in state.values())


def test_a_gradient_that_is_no_number_stops_the_run(small_config, monkeypatch) -> None:
    real = torch.nn.functional.cross_entropy

    def loss(scores, target):  # finite, with an infinite slope
        return real(scores, target) + 1e-30 * (scores * 0).sqrt().sum()

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", loss)
    with pytest.raises(UserError, match="A gradient became infinite or NaN in epoch 1, batch 1"):
        train(small_config())


def test_dead_and_saturated_layers_are_reported(small_config, capsys) -> None:
    config = small_config()
    network = build_network(config, 3)
    x = torch.ones(30, 4, 14)
    with torch.no_grad():
        network.blocks[0].norm.weight.fill_(0)
        network.blocks[0].norm.bias.copy_(torch.tensor([-1.0] * 9 + [5.0] * 3))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    found = layer_activity(network, x)
    assert found == {"rate_1": 0.25, "dead_1": 0.75, "saturated_1": 0.25}
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert describe_activity(found) == "layer 1 75% dead"
    assert describe_activity({"dead_1": 0.1, "saturated_2": 0.5}) == "layer 2 50% saturated"
    config.model.v_threshold = 1e9
    train(config)
    assert "layer 1 100% dead" in capsys.readouterr().out
    assert [m["dead_1"] for m in metrics(config.out)] == [1.0] * 3


# ---- trackers ----------------------------------------------------------------------------------


class Fake(tracking.NoTracker):
    """Does what ``on_log`` does."""

    def __init__(self, on_log) -> None:
        self.on_log = on_log

    def log(self, line) -> None:
        self.on_log()


def with_tracker(monkeypatch, on_log, patience=0.2) -> None:
    def open_tracker(config, out):
        return tracking.BackgroundTracker(lambda: Fake(on_log), patience)

    monkeypatch.setattr("snn_delays.training.run_folder.open_tracker", open_tracker)


def test_a_tracker_that_raises_stops_nothing(small_config, monkeypatch, caplog) -> None:
    def broken():
        raise RuntimeError("no route to host")

    with_tracker(monkeypatch, broken)
    config = small_config()
    train(config)
    assert len(metrics(config.out)) == 3
    assert caplog.text.count("Tracking stopped (no route to host)") == 1


def test_a_tracker_that_hangs_stops_nothing(small_config, monkeypatch, caplog) -> None:
    waiting = threading.Event()
    with_tracker(monkeypatch, waiting.wait)
    config = small_config()
    started = time.monotonic()
    train(config)
    assert time.monotonic() - started < 20
    waiting.set()
    assert len(metrics(config.out)) == 3
    assert "has not answered for 0.2 s" in caplog.text


def test_tensorboard_gets_the_numbers(small_config, capsys) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small_config()
    config.tracking.name = "tensorboard"
    train(config)
    assert f"tensorboard --logdir {config.out}/tensorboard\n" in capsys.readouterr().out
    events = EventAccumulator(str(Path(config.out, "tensorboard"))).Reload()
    values = [event.value for event in events.Scalars("train/train_loss")]
    assert values == pytest.approx([m["train_loss"] for m in metrics(config.out)])


def test_no_secret_enters_a_run(small_config, tmp_path, monkeypatch) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = small_config()
    config.tracking.name = "wandb"
    train(config)
    written = [p for p in Path(config.out).rglob("*") if p.is_file()]
    assert len(written) > 5
    assert not [p for p in written if secret.encode() in p.read_bytes()]


# ---- determinism -------------------------------------------------------------------------------


def test_deterministic_runs_are_equal_and_leave_torch_as_it_was(small_config, tmp_path) -> None:
    outs = []
    for name in ("a", "b"):
        config = small_config(deterministic=True)
        config.out = str(tmp_path / name)
        train(config)
        outs.append(config.out)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_run(*outs)


def test_threads_change_rounding_alone(small_config, tmp_path) -> None:
    """Sums are split among threads, so one thread and two agree to rounding, not to the bit."""
    before, losses = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            config = small_config(epochs=1, batch_size=48, protocol="last")
            config.out = str(tmp_path / str(threads))
            train(config)
            losses.append(metrics(config.out)[0]["train_loss"])
    finally:
        torch.set_num_threads(before)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
