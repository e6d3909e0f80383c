"""Folders of runs that were damaged, or made to harm: one sentence, or the same numbers."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import json
import os
import random
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from snn_delays.analysis.trained_run import held_out_samples, open_run
from snn_delays.cli.evaluate import _evaluate
from snn_delays.config import EvaluateConfig
from snn_delays.errors import UserError
from snn_delays.nn import build_network, weight_shapes
from snn_delays.training import checkpoint
from snn_delays.training.checkpoint import checkpoint_path, load_run, read_config
from snn_delays.training.run import train
from snn_delays.training.run_folder import read_metrics, read_result
from tests.conftest import random_spikes
from tests.training.test_resume import assert_same_run, train_for


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run that nobody changes."""
    from snn_delays.config import Config

    place = tmp_path_factory.mktemp("whole")
    config = Config(out=str(place / "run"), device="cpu", backend="dense")
    config.data.name, config.data.cache = "spikes", str(place / "cache")
    config.data.train_file = str(random_spikes(place / "train.h5", 48, 0))
    config.data.test_file = str(random_spikes(place / "test.h5", 30, 1, speakers=6))
    config.data.units_per_channel, config.model.hidden, config.model.taps = 50, [12], 5
    config.train.epochs, config.train.batch_size = 2, 16
    train(config)
    return Path(config.out)


@pytest.fixture
def out(whole, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "copy")


def evaluated(out: Path, split: str = "test") -> str:
    """What ``snn-delays evaluate`` prints, but for the folder's name."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _evaluate(EvaluateConfig(run=str(out), split=split, backend="dense"))
    return printed.getvalue().replace(str(out), "")


def analysed(out: Path) -> str:
    """All that a report is made from."""
    subject = open_run(out)
    network = {name: value.tolist() for name, value in subject.network.state_dict().items()}
    samples = held_out_samples(subject, out).rows.tolist()
    result = [value for key, value in (subject.result or {}).items() if not key.startswith("che")]
    return repr((network, subject.classes, subject.metrics, result, samples))


def assert_one_sentence(error: UserError) -> None:
    sentence = str(error)
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 600


# ---- single bytes ------------------------------------------------------------------------------

FILES = {
    "config.yaml": evaluated,
    "split.json": functools.partial(evaluated, split="valid"),
    "checkpoints/best.pt": evaluated,
    "metrics.jsonl": analysed,
    "result.json": analysed,
}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_or_changes_nothing(name, out) -> None:
    rng = random.Random(name)
    path, action = out / name, FILES[name]
    before, expected = path.read_bytes(), action(out)
    noticed = 0
    for first in range(0, len(before), -(-len(before) // 16)):
        place = min(first + rng.randrange(200), len(before) - 1)
        flipped = before[place] ^ (1 << rng.randrange(8))
        path.write_bytes(before[:place] + bytes([flipped]) + before[place + 1 :])
        try:
            assert action(out) == expected, (place, flipped)
        except UserError as error:
            noticed += 1
            assert_one_sentence(error)
    assert noticed >= 8


def test_a_flipped_byte_in_an_unfinished_run_changes_nothing(
    small_config, tmp_path, monkeypatch
) -> None:
    reference = small_config(epochs=2, batch_size=8, checkpoint_minutes=1e-9)
    reference.resume = "auto"
    stopped = copy.deepcopy(reference)
    stopped.out = str(tmp_path / "stopped")
    train(reference)
    train_for(6, stopped, monkeypatch)
    rng = random.Random(0)
    for name in ("config.yaml", "split.json", "checkpoints/last.pt", "checkpoints/best.pt"):
        config = copy.deepcopy(stopped)
        config.out = str(tmp_path / name.replace("/", "-"))
        shutil.copytree(stopped.out, config.out)
        path = Path(config.out, name)
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        train(config)
        assert_same_run(reference.out, config.out)


# ---- config.yaml -------------------------------------------------------------------------------

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghij")]
)
CONFIGS = {
    "code": "name: !!python/object/apply:os.system ['touch pwned']\n",
    "aliases without end": f"{BOMB}\n",
    "depth without end": f"name: {'[' * 300}\n",
    "no group": "model: 3\n",
    "a list": "- 3\n",
    "an unhashable key": "? [1, 2]\n: 3\n",
    "a number as a key": "5: 6\n",
    "a zero byte": 'name: "a\\0b"\n',
    "another option": "_target_: os.system\n",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_that_means_harm_is_refused(kind, out, monkeypatch) -> None:
    monkeypatch.chdir(out)
    path = out / "config.yaml"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    key = CONFIGS[kind].partition(":")[0]
    rest = "".join(line for line in lines if not line.startswith("name:") or key != "name")
    path.write_text(
        CONFIGS[kind] + rest if kind not in ("no group", "a list") else CONFIGS[kind], "utf-8"
    )
    with pytest.raises(UserError, match=r"is not a configuration of this version") as refused:
        load_run(out)
    assert_one_sentence(refused.value)
    assert not (out / "pwned").exists()


def test_an_interpolation_stays_text(out, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "0123456789")
    path = out / "config.yaml"
    path.write_text(
        path.read_text("utf-8").replace("name: run", "name: ${oc.env:SECRET}", 1), "utf-8"
    )
    assert read_config(out).name == "${oc.env:SECRET}"


def test_a_cache_that_is_not_there_is_not_made(out, tmp_path) -> None:
    expected = evaluated(out)
    path, elsewhere = out / "config.yaml", tmp_path / "of" / "another machine"
    text = re.sub(r"  cache: .*", f"  cache: {elsewhere}", path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    assert evaluated(out) == expected
    assert not elsewhere.exists()


# ---- checkpoints -------------------------------------------------------------------------------


def rewritten(out: Path, change) -> None:
    """The best checkpoint changed, with a checksum that fits."""
    path = checkpoint_path(out, "best")
    saved = torch.load(path, weights_only=True)
    saved.pop("digest")
    change(saved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_check_plain", lambda value: None)
        torch.save({**saved, "digest": checkpoint._digest(saved)}, path)


def parameter(name: str, make):
    return lambda saved: saved["model"].update({name: make(saved["model"][name])})


def meta(**values):
    return lambda saved: saved["meta"].update(values)


def options(group: str, **values):
    return lambda saved: saved["config"][group].update(values)


WEIGHT, DELAY = "blocks.0.linear.weight", "blocks.0.linear.delay"
CHECKPOINTS = {
    "NaN": parameter(WEIGHT, lambda w: w * torch.nan),
    "another type": parameter(WEIGHT, torch.Tensor.double),
    "complex": parameter(WEIGHT, lambda w: w.to(torch.complex64)),
    "another shape": parameter(WEIGHT, lambda w: w[:1].clone()),
    "more than is stored": parameter(WEIGHT, lambda w: torch.zeros(1).expand(w.shape)),
    "a delay too long": parameter(DELAY, lambda d: d + 10),
    "a delay below 0": parameter(DELAY, lambda d: d - 10),
    "a delay that is NaN": parameter(DELAY, lambda d: d * torch.nan),
    "no tensor": parameter(WEIGHT, lambda w: "abc"),
    "a name that is none": lambda saved: saved["model"].update({5: torch.zeros(1)}),
    "no names": lambda saved: saved.update(model=[1]),
    "no classes": meta(classes=[]),
    "classes of letters": meta(classes="abc"),
    "steps below 1": meta(steps=0),
    "steps in words": meta(steps="30"),
    "no sigma": meta(sigma=float("nan")),
    "speakers that are no names": meta(speakers=[[1], {2: 3}]),
    "no options": lambda saved: saved.update(config=None),
    "options of another kind": lambda saved: saved["config"].update(data=torch.zeros(2)),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_that_means_harm_is_refused(kind, out) -> None:
    rewritten(out, CHECKPOINTS[kind])
    with pytest.raises(UserError) as refused:
        load_run(out)
    assert_one_sentence(refused.value)


class Code:
    """What a pickle would run."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_code_in_a_checkpoint_is_not_run(out, monkeypatch) -> None:
    monkeypatch.chdir(out)
    torch.save({"format": 3, "meta": Code()}, checkpoint_path(out, "best"))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        load_run(out)
    assert not (out / "pwned").exists()


def test_a_packed_checkpoint_is_refused(out) -> None:
    path = checkpoint_path(out, "best")
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data + bytes(10**7) if name.endswith("data.pkl") else data)
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        load_run(out)


@pytest.mark.parametrize(
    "claim", [{"hidden": [10**6]}, {"hidden": [12, 12]}, {"kernel_count": 10**6}]
)
def test_a_size_that_is_only_claimed_takes_no_memory(claim, out, monkeypatch) -> None:
    rewritten(out, options("model", **claim))
    path = out / "config.yaml"
    values = yaml.safe_load(path.read_text("utf-8"))
    values["model"].update(claim)
    path.write_text(yaml.safe_dump(values), "utf-8")
    monkeypatch.setattr(checkpoint, "build_network", None)  # would raise a TypeError
    with pytest.raises(UserError, match="does not fit the network") as refused:
        load_run(out)
    assert_one_sentence(refused.value)


def test_weight_shapes_are_those_of_the_network(out) -> None:
    config = read_config(out)
    config.model.hidden, config.model.kernel_count = [4, 3], 2
    there = build_network(config, 5).state_dict()
    shapes = weight_shapes(config, 5)
    assert shapes == {name: there[name].shape for name in there if name.endswith("linear.weight")}


# ---- what is not what it claims ----------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


NOT_FILES = {"a folder": Path.mkdir, "a pipe": pipe, "a loop": lambda path: path.symlink_to(path)}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_no_file_is_refused(kind, out) -> None:
    actions = {
        "split.json": lambda: evaluated(out),
        "metrics.jsonl": lambda: open_run(out),
        "result.json": lambda: read_result(out),
        "config.yaml": lambda: read_config(out),
    }
    for name, action in actions.items():
        (out / name).rename(out / "aside")
        NOT_FILES[kind](out / name)
        with pytest.raises(UserError) as refused:
            action()
        assert_one_sentence(refused.value)
        (out / name).rmdir() if kind == "a folder" else (out / name).unlink()
        (out / "aside").rename(out / name)


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"a": 1' + "0" * 5000 + "}", "NaN", '{"epoch": {}}', "null", '"abc"'],
    ids=["deep", "huge", "NaN", "other", "null", "text"],
)
def test_documents_that_are_something_else_are_refused(content, out) -> None:
    for name in ("result.json", "metrics.jsonl", "split.json"):
        before = (out / name).read_text("utf-8")
        (out / name).write_text(content, "utf-8")
        with pytest.raises(UserError) as refused:
            analysed(out)
        assert_one_sentence(refused.value)
        (out / name).write_text(before, "utf-8")


@pytest.mark.parametrize(
    ("key", "value"),
    [("epoch", "3"), ("accuracy", 2.5), ("n", -1), ("selection", 5), ("seconds", None)],
)
def test_a_result_of_other_kinds_is_refused(key, value, out) -> None:
    """Without checksums, as earlier versions wrote it."""
    result = json.loads((out / "result.json").read_text("utf-8"))
    del result["checksums"]
    (out / "result.json").write_text(json.dumps(result), "utf-8")
    assert read_result(out) == result
    (out / "result.json").write_text(json.dumps({**result, key: value}), "utf-8")
    with pytest.raises(UserError, match=r"result\.json is damaged: remove it"):
        read_result(out)


def test_the_metrics_of_a_finished_run_can_be_had_again(out, whole) -> None:
    """As the sentence says."""
    (out / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"damaged or missing: remove it and result\.json beside"):
        open_run(out)
    (out / "result.json").unlink()
    config = read_config(out)
    config.out, config.resume = str(out), "auto"
    train(config)
    assert_same_run(whole, out)
    assert len(read_metrics(out, read_result(out))) == 2


@pytest.mark.parametrize("samples", [[10**6], [-(10**6)], ["a"], "some", None, [[1, 2], [3]]])
def test_a_split_of_recordings_that_are_not_there_is_refused(samples, out) -> None:
    rewritten(out, lambda saved: saved.pop("split"))  # as earlier versions wrote it
    noted = json.loads((out / "split.json").read_text("utf-8"))
    noted["valid"]["samples"] = samples
    (out / "split.json").write_text(json.dumps(noted), "utf-8")
    with pytest.raises(
        UserError, match="does not have the recordings of the run's valid data"
    ) as refused:
        evaluated(out, "valid")
    assert_one_sentence(refused.value)


def test_a_lock_that_is_a_link_leads_nowhere(out, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a letter", "utf-8")
    (out / ".lock").unlink()
    (out / ".lock").symlink_to(precious)
    (out / "result.json").unlink()
    config = read_config(out)
    config.out, config.resume = str(out), "auto"
    with pytest.raises(UserError, match="cannot be written"):
        train(config)
    assert precious.read_text("utf-8") == "a letter"
