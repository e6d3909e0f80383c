"""The command line as a person meets it: runs, help, completion, one-sentence errors."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from snn_delays import cli
from snn_delays.cli import demo
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import groups, option_names
from snn_delays.nn import build_network, count_parameters
from tests.conftest import FSDD, needs_fsdd, random_spikes, write_spikes
from tests.processes import Command

COMMAND = [sys.executable, "-m", "snn_delays.cli.train"]


@pytest.fixture
def small(spike_files, tmp_path, monkeypatch) -> list[str]:
    """Overrides that make `train` take a second, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return options_of(spike_files)


def options_of(spike_files) -> list[str]:
    return [
        "data=spikes", f"data.train_file={spike_files['train']}",
        f"data.test_file={spike_files['test']}", "data.units_per_channel=50", "data.cache=cache",
        "model.hidden=[8]", "model.taps=5", "train.epochs=2", "train.batch_size=16", "device=cpu",
    ]  # fmt: skip


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `snn-delays ...`."""
    monkeypatch.setattr(sys, "argv", ["snn-delays", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_train_then_evaluate(small, spike_files, tmp_path, capsys, monkeypatch) -> None:
    small[1] = "data.train_file=train.h5"
    small[2] = "data.test_file=test.h5"
    code, printed, _ = run(capsys, monkeypatch, "train", *small, "out=here")
    assert code == 0
    result = json.loads(Path("here/result.json").read_text("utf-8"))
    assert f"{result['accuracy']:6.1%}" in printed
    assert "unseen speakers" in printed
    assert "written to here/" in printed
    code, printed, _ = run(capsys, monkeypatch, "evaluate", "run=here")
    assert code == 0
    assert re.search(rf"all +{result['accuracy']:.1%} +\[.*\] +n = 30", printed)
    assert f"loss {result['loss']:.4f}" in printed
    for k in range(3):
        assert re.search(rf"class {k} +\d+\.\d% .* n = 10", printed)
    code, printed, _ = run(capsys, monkeypatch, "evaluate", "run=here", "split=valid")
    assert code == 0
    assert re.search(r"all .* n = 12  \(the epoch was selected on these\)", printed)
    assert run(capsys, monkeypatch, "evaluate", "run=here", "checkpoint=last")[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # paths were relative to where training started
    for more in ("batch_size=1", "backend=reference", f"file={spike_files['test']}"):
        code, printed, error = run(capsys, monkeypatch, "evaluate", "run=../here", more)
        assert code == 0, error
        assert re.search(rf"all +{result['accuracy']:.1%} +\[.*\] +n = 30", printed)


def test_the_module_is_the_command(small) -> None:
    done = subprocess.run([*COMMAND, *small, "out=run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test accuracy of epoch" in done.stdout
    assert done.stderr == ""
    assert Path("run/result.json").is_file()


def test_a_run_imports_no_compiler_of_torch(small, tmp_path) -> None:
    code = "import sys; from snn_delays.cli import main; main(); print(*sys.modules)"
    command = Command(["train", *small, "out=run"], tmp_path / "said", code=code)
    assert command.wait() == 0, command.errors
    loaded = command.printed.split()
    assert "torch.optim.adam" in loaded
    assert not {"torch._dynamo", "torch._inductor"} & {*loaded}


def test_default_folder_is_under_runs(small, capsys, monkeypatch) -> None:
    assert run(capsys, monkeypatch, "train", *small, "name=mine", "seed=3")[0] == 0
    (folder,) = Path("runs/mine").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-s3", folder.name)
    assert not Path("outputs").exists()


def test_multirun_writes_a_folder_each(small, capsys, monkeypatch) -> None:
    lines = [
        "-m", "seed=0,1", "train.lr_weight=0.1,1e-09", "train.epochs=1", "out=many",
        "train.test=false",
    ]  # fmt: skip
    code, printed, error = run(capsys, monkeypatch, "train", *small, *lines)
    assert code == 0, error
    heads = [line for line in printed.splitlines() if re.match(r"run \d, seed", line)]
    assert heads == [
        "run 0, seed 0: train.lr_weight=0.1", "run 1, seed 0: train.lr_weight=1e-09",
        "run 2, seed 1: train.lr_weight=0.1", "run 3, seed 1: train.lr_weight=1e-09",
    ]  # fmt: skip
    results = [json.loads(Path(f"many/{n}/result.json").read_text("utf-8")) for n in range(4)]
    for value, pair in (("0.1", (0, 2)), ("1e-09", (1, 3))):
        mean = 100 * sum(results[n]["valid"]["accuracy"] for n in pair) / 2
        row = rf"\| train.lr_weight={value} \| \d+ \| 2 \| {mean:.1f} ± .* % \[.*\] \| 0.0 \|"
        assert re.search(row, printed)
    assert "all (n = 12)" in printed
    assert "\nValidation accuracy of the deployed networks" in printed
    seeds = [
        yaml.safe_load(Path(f"many/{n}/config.yaml").read_text("utf-8"))["seed"] for n in (0, 2)
    ]
    assert seeds == [0, 1]
    assert sorted(p.name for p in Path().iterdir()) == ["cache", "many", "test.h5", "train.h5"]


def test_the_papers_protocol_marks_every_number(small, capsys, monkeypatch) -> None:
    _, printed, _ = run(capsys, monkeypatch, "train", *small, "train.protocol=paper", "out=here")
    numbers = [line for line in printed.splitlines() if "n = " in line or "over batches" in line]
    assert len(numbers) == 4
    assert all("test-selected" in line for line in numbers)
    epochs = [line for line in printed.splitlines() if line.startswith("train ")]
    assert all("test-selected" in line for line in epochs)
    _, printed, _ = run(capsys, monkeypatch, "evaluate", "run=here")
    numbers = [line for line in printed.splitlines() if "n = " in line or "loss" in line]
    assert len(numbers) == 7
    assert all("test-selected" in line for line in numbers)
    result = json.loads(Path("here/result.json").read_text("utf-8"))
    for score in (result, *result["per_class"].values(), *result["per_speaker_group"].values()):
        assert score["selection"] == "test-selected"
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=here", "split=valid")
    assert code == 2
    assert "which has no validation data" in error
    _, printed, _ = run(capsys, monkeypatch, "evaluate", "run=here", "checkpoint=last")
    assert "test-selected" not in printed


# ---- errors ------------------------------------------------------------------------------------

NONSENSE = {
    "misspelt key": (["model.hiden=[3]"], "no option model.hiden. Did you mean 'model.hidden'?"),
    "misspelt group": (["modl=shd"], "no option modl. Did you mean 'model'?"),
    "misspelt choice": (
        ["data=shdd"],
        "data=shdd is not one of audio_folder, fsdd, gsc, localisation, mackey_glass, shd, spikes",
    ),
    "misspelt experiment": (["experiment=paper/sdh"], "Did you mean 'paper/shd'?"),
    "misspelt value": (["model.delays=lerned"], "Did you mean 'learned'?"),
    "wrong type": (["model.taps=many"], "model.taps: 'many' is not a whole number."),
    "wrong list": (["model.hidden=[a]"], "model.hidden"),
    "unreadable": (["model.hidden=[3"], "The override model.hidden=[3 cannot be read"),
    "no model": (["model=null"], "The options cannot be read"),
    "no equals sign": (["here"], "Write option=value"),
    "one layer as a number": (["model.hidden=128"], "model.hidden"),
    "added key": (["+model.more=3"], "There is no option model.more"),
    "out of bounds": (["train.epochs=0"], "train.epochs=0 must be at least 1"),
    "even taps": (["model.taps=4"], "must be odd"),
    "no such backend": (
        ["backend=magic"],
        "backend=magic is not one of auto, reference, dense, fft",
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_one_sentence_and_exit_code_2(name, small, capsys, monkeypatch) -> None:
    overrides, words = NONSENSE[name]
    code, printed, error = run(capsys, monkeypatch, "train", *small, *overrides, "out=here")
    assert code == 2
    assert words in error
    assert len(error.splitlines()) == 1
    assert printed == ""
    assert not Path("here").exists()


BAD_FILES = {
    "missing": (None, "There is no file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:3000]), "not a readable HDF5 file"),
    "foreign": (lambda p: h5py.File(p, "w").close(), "is not of SHD's format"),
    "unit": (lambda p: write_spikes(p, [[0.0]], [[700]], [0]), "sample 0 has unit 700"),
    "time": (lambda p: write_spikes(p, [[np.nan]], [[0]], [0]), "sample 0 has the spike time nan"),
    "empty": (lambda p: write_spikes(p, [[]], [[]], [0]), "sample 0 holds no spike"),
    "label": (
        lambda p: write_spikes(p, [[0.0]], [[0]], [5], keys=["a"]),
        "sample 0 has label 5, outside the 1 classes",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("which", ["train", "test"])
def test_bad_data_is_one_sentence_and_exit_code_2(
    name, which, small, spike_files, capsys, monkeypatch
) -> None:
    spoil, words = BAD_FILES[name]
    path = spike_files[which]
    path.unlink() if spoil is None else spoil(path)
    code, _, error = run(capsys, monkeypatch, "train", *small, "out=here")
    assert code == 2
    assert words in error
    assert str(path) in error
    assert len(error.splitlines()) == 1
    assert not Path("here").exists()


def test_bad_runs_are_one_sentence_and_exit_code_2(small, capsys, monkeypatch) -> None:
    assert run(capsys, monkeypatch, "train", *small, "out=here")[0] == 0
    cases = {
        ("run=none",): "is not the folder of a run",
        (): "run=... is missing",
        ("run=here", "backend=magic"): "backend=magic",
        ("run=here", "device=cuda"): "torch sees no GPU",
        ("run=here", "file=none.h5"): "There is no file",
        ("rn=here",): "no option rn. Did you mean 'run'?",
        ("run=here", "file=test.h5", "split=valid"): "exclude each other",
    }
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for arguments, words in cases.items():
        code, _, error = run(capsys, monkeypatch, "evaluate", *arguments)
        assert (code, len(error.splitlines())) == (2, 1), error
        assert words in error
    config = Path("here/config.yaml")
    config.write_text(config.read_text("utf-8").replace("- 8", "- 9"), encoding="utf-8")
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "says model.hidden=[9], but the checkpoint says model.hidden=[8]" in error
    Path("here/checkpoints/best.pt").unlink()
    config.write_text(config.read_text("utf-8").replace("- 9", "- 8"), encoding="utf-8")
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert code == 2
    assert "There is no checkpoint" in error


def test_interrupting_keeps_what_is_done(small, capsys, monkeypatch) -> None:
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("snn_delays.training.loop.evaluate", interrupted)
    code, _, error = run(capsys, monkeypatch, "train", *small)
    assert code == 130
    assert "Interrupted" in error


# ---- help and completion -----------------------------------------------------------------------


def test_help_lists_commands_groups_and_options(capsys, monkeypatch) -> None:
    for arguments in ((), ("--help",)):
        code, printed, _ = run(capsys, monkeypatch, *arguments)
        assert code == 0
        assert all(command in printed for command in cli.COMMANDS)
    code, printed, _ = run(capsys, monkeypatch, "train", "--help")
    assert code == 0
    assert "data=audio_folder| fsdd| gsc| localisation| mackey_glass|" in printed
    assert "experiment=axonal/gsc| axonal/ssc|" in printed
    assert "model.tau_ms=10.05" in printed
    assert "one of learned, fixed, none" in printed
    _, printed, _ = run(capsys, monkeypatch, "train", "experiment=paper/ssc", "--help")
    assert "model.tau_ms=15" in printed
    _, printed, _ = run(capsys, monkeypatch, "evaluate", "--help")
    assert "run=\n" in printed


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_help_wraps_to_the_terminal_and_breaks_no_name(width, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in ([], ["data"], ["demo"], ["train"], ["benchmark"], ["data", "encode"]):
        _, printed, _ = run(capsys, monkeypatch, *command, "--help")
        lines = printed.splitlines()
        assert max(map(len, lines)) <= width
        if command == ["train"]:
            assert max(map(len, lines)) > width - 10
            assert all(any(ln.startswith(f"  {o}=") for ln in lines) for o in option_names("train"))
            words = printed.replace("|", " ").split()
            assert all(name in words for name in experiments()[1:])


def test_continued_lines_of_help_begin_below_their_text(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, printed, _ = run(capsys, monkeypatch, "--help")
    assert (
        "\n  data       prepare, verify and describe data sets; encode\n             a" in printed
    )
    _, printed, _ = run(capsys, monkeypatch, "train", "--help")
    assert re.search(r"\n  experiment=axonal/gsc\|.*\|\n      [a-z]+/[a-z]+\|", printed)
    assert "\n      folder to write; null:\n      runs/<name>/" in printed


def test_help_of_a_command_may_be_asked_for_first(capsys, monkeypatch) -> None:
    _, printed, _ = run(capsys, monkeypatch, "data", "--help")
    for word in ("--help", "-h", "help"):
        assert run(capsys, monkeypatch, word, "data") == (0, printed, "")


def test_options_in_front_of_the_command(capsys, monkeypatch) -> None:
    for word in ("--epochs", "epochs=3"):
        code, _, error = run(capsys, monkeypatch, word)
        assert code == 2
        assert f"There is no command {word!r}; choose from train," in error
        assert error.endswith("as in `snn-delays train train.epochs=3`.\n")


def test_unknown_commands_are_named(capsys, monkeypatch) -> None:
    code, _, error = run(capsys, monkeypatch, "trian")
    assert code == 2
    assert "no command 'trian'; choose from train, evaluate, analyse, benchmark" in error
    assert "data, demo. Did you mean 'train'?" in error


def test_cfg_job_prints_the_configuration(capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, "train", "experiment=paper/shd", "--cfg", "job")
    assert code == 0
    config = yaml.safe_load(printed)
    assert config["model"]["hidden"] == [256, 256]
    assert config["data"]["name"] == "shd"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("snn-delays tr", "train"),
        ("snn-delays train data=", "data=shd"),
        ("snn-delays train experiment=paper/s", "experiment=paper/shd"),
        ("snn-delays evaluate check", "checkpoint=best"),
        ("snn-delays train model.delays=f", "model.delays=fixed"),
        ("snn-delays evaluate run", "run="),
        ("snn-delays data pre", "prepare"),
        ("snn-delays data info data=s", "data=spikes"),
        ("snn-delays data encode ch", "channels="),
        ("snn-delays data encode i", "in="),
    ],
)
def test_completion_knows_commands_and_options(line, expected, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    _, printed, _ = run(capsys, monkeypatch, "-sc", "query=bash")
    assert expected in printed.split()


@pytest.fixture
def some_folders(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("runs/mine", "runs/other", "runs/.hidden", "runs/of two", "home/data"):
        Path(folder).mkdir(parents=True)
    Path("runs/table.md").touch()
    Path("runs/words.h5").touch()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluate run=", "run= run=home/ run=runs/"),
        ("evaluate run=ru", "run=runs/"),
        ("evaluate run=runs/", "run=runs/mine/ run=runs/other/"),
        ("analyse run=./runs/m", "run=./runs/mine/"),
        ("analyse run=~/", "run=~/data/"),
        ("analyse runs=[runs/mine,runs/o", "runs=[runs/mine,runs/other/"),
        ("evaluate run=runs/.", "run=runs/.hidden/"),
        ("evaluate run=nowhere/", ""),
        ("evaluate run=~nobody-here/", ""),
        ("evaluate run=runs/table.md/", ""),
        ("evaluate file=runs/w", "file=runs/words.h5"),
        ("data encode in=ru", "in=runs/"),
        ("train model.delays=ru", ""),
    ],
)
def test_paths_complete(words, expected, some_folders, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COMP_LINE", f"snn-delays {words}")
    _, printed, _ = run(capsys, monkeypatch, "-sc", "query=bash")
    assert printed.split() == expected.split()


def test_completion_installs_for_the_command(capsys, monkeypatch) -> None:
    _, printed, _ = run(capsys, monkeypatch, "-sc", "install=bash")
    assert "hydra_bash_completion snn-delays" in printed


# ---- experiments -------------------------------------------------------------------------------


def experiments() -> list[str]:
    return groups("train")["experiment"]


def test_demo_networks_have_equal_parameter_counts() -> None:
    counts = {}
    for variant in demo.VARIANTS:
        config = compose("train", [f"experiment=demo/{variant}"])
        counts[variant] = count_parameters(build_network(config, 16))
    assert max(counts.values()) / min(counts.values()) < 1.02


# ---- the demo, and real speech -----------------------------------------------------------------


def test_demo_compares_and_draws(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = [f"data.synthetic.{s}_samples=40" for s in ("train", "valid", "test")]
    code, printed, error = run(
        capsys, monkeypatch, "demo", "train.epochs=1", "data.cache=cache", "out=here", *sizes
    )
    assert code == 0, error
    assert [line.split("  ")[0] for line in printed.splitlines()[-7:-3]] == [
        "network", "learned delays", "fixed random delays", "no delays",
    ]  # fmt: skip
    assert Path("here/delays.png").stat().st_size > 10_000
    assert all(Path(f"here/{v}/result.json").is_file() for v in demo.VARIANTS)
    for arguments, words in (
        (["out=here"], "is not an empty folder"),
        (["model.delays=fixed"], "but not model.delays=fixed"),
        (["-m"], "-m has no use with this command"),
    ):
        code, printed, error = run(capsys, monkeypatch, "demo", *arguments)
        assert (code, len(error.splitlines())) == (2, 1)
        assert words in error


def test_a_home_folder_may_be_written_with_a_tilde(small, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, error = run(capsys, monkeypatch, "train", *small, "out=~/run", "data.root=~/data")
    assert code == 0, error
    assert (tmp_path / "run" / "result.json").is_file()
    assert run(capsys, monkeypatch, "evaluate", "run=~/run")[0] == 0


@needs_fsdd
def test_the_papers_network_learns_from_real_speech(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, error = run(
        capsys, monkeypatch, "train", "experiment=paper/shd", "data=spikes",
        f"data.train_file={FSDD / 'fsdd_train.h5'}", f"data.test_file={FSDD / 'fsdd_test.h5'}",
        "data.units_per_channel=25", "model.hidden=[32,32]", "model.taps=13", "train.epochs=3",
        "train.batch_size=100", "train.protocol=last", "train.weight_schedule=constant",
        "train.sigma_schedule=constant", "data.cache=cache", "out=here",
    )  # fmt: skip
    assert code == 0, error
    lines = [
        json.loads(line) for line in Path("here/metrics.jsonl").read_text("utf-8").splitlines()
    ]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    result = json.loads(Path("here/result.json").read_text("utf-8"))
    assert set(result["per_speaker_group"]) == {"known speakers", "unseen speakers"}
    assert result["interval"][0] > 0.12  # chance is 0.1
    assert "unseen speakers" in printed


@pytest.mark.slow
def test_the_demos_order_holds_over_five_seeds(tmp_path, monkeypatch, capsys) -> None:
    """Learned > fixed random > none, in every seed, after ten epochs already."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for seed in range(5):
        results = demo.demo(
            [f"seed={seed}", "train.epochs=10", "data.cache=cache", f"out=run{seed}"]
        )
        rows.append([results[v]["accuracy"] for v in demo.VARIANTS])
    with capsys.disabled():
        print("\nlearned, fixed random, none:")
        for row in rows:
            print("  ".join(f"{a:.1%}" for a in row))
    assert all(learned > fixed > none for learned, fixed, none in rows)


def test_the_readme_is_whole_and_its_options_exist() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert not re.search(r"@[A-Z_]+@", text)
    commands = (
        "train",
        "evaluate",
        "encode",
        "benchmark",
        "analyse",
        "runs",
        "predict",
        "export",
        "live",
    )
    known = {name for command in commands for name in option_names(command)} | {*groups("train")}
    used = set(re.findall(r"(?<![\w.])([a-z_]+(?:\.[a-z_]+)*)=", text))
    assert used - known <= {"query", "install", "taps", "extra_steps", "in", "signal", "launcher"}


# ---- data --------------------------------------------------------------------------------------


def test_data_prepare_info_and_verify(small, spike_files, capsys, monkeypatch) -> None:
    data = [option for option in small if option.startswith("data")]
    code, printed, error = run(capsys, monkeypatch, "data", "prepare", *data)
    assert code == 0, error
    assert re.search(r"train +48 samples .* samples/s", printed)
    cached = sorted(Path("cache").glob("*.frames"))
    assert [p.name.split("-")[0] for p in cached] == ["test", "train"]
    code, printed, _ = run(capsys, monkeypatch, "data", "info", *data)
    assert code == 0
    assert "samples   48\n" in printed
    assert "classes   3: class 0, class 1, class 2\n" in printed
    assert "speakers  4: 0, 1, 2, 3\n" in printed
    assert "channels  14 of 14 hold spikes: 0 to 13\n" in printed
    with h5py.File(spike_files["train"]) as file:
        counts = [len(times) for times in file["spikes/times"]]
    assert f"spikes    {sum(counts):,}; per sample" in printed
    assert re.search(r"frames    [\d,]+ of 10 ms and 14 channels; per sample", printed)
    code, printed, _ = run(capsys, monkeypatch, "data", "verify", *data)
    assert code == 0
    assert printed.count("frames sound") == 2
    whole = cached[1].read_bytes()
    cached[1].write_bytes(whole[:80] + b"\xff" + whole[81:])
    code, printed, _ = run(capsys, monkeypatch, "data", "verify", *data)
    assert code == 0
    assert "frames damaged (sample 0 is damaged), made anew" in printed
    assert cached[1].read_bytes() == whole
    cached[1].write_bytes(whole[:500])
    _, printed, _ = run(capsys, monkeypatch, "data", "verify", *data)
    assert "frames damaged (its index is damaged), made anew" in printed
    _, printed, _ = run(capsys, monkeypatch, "data", "prepare", *data)
    assert printed.count("there already") == 2
    stamp = cached[1].stat().st_mtime_ns
    assert run(capsys, monkeypatch, "train", *small)[0] == 0  # reads the same
    assert cached[1].stat().st_mtime_ns == stamp


def test_what_is_odd_about_recordings_is_said(small, spike_files, capsys, monkeypatch) -> None:
    odd = [*(option for option in small if "test_file" not in option), "data.units=800"]
    odd += [f"data.test_file={spike_files['train']}", "train.protocol=last", "train.epochs=1"]
    said = (
        "2 of 16 channels hold no spike: 14 to 15; data.units=700 leaves out the 2 above channel"
        " 13.\n48 of 48 test recordings have the same frames as training recordings: accuracy on"
        " them says nothing about new recordings.\n"
    )
    _, printed, _ = run(capsys, monkeypatch, "data", "info", *filter(of_data, odd))
    assert printed.endswith(said)
    _, printed, _ = run(capsys, monkeypatch, "train", *odd, "out=here")
    assert said in printed
    result = json.loads(Path("here/result.json").read_text("utf-8"))
    assert result["data"]["remarks"] == said.splitlines()


def of_data(option: str) -> bool:
    return option.startswith("data")


def test_a_changed_test_file_is_not_tested_on(small, spike_files, capsys, monkeypatch) -> None:
    assert run(capsys, monkeypatch, "train", *small, "out=here")[0] == 0
    random_spikes(spike_files["test"], 30, 7, speakers=6)
    code, printed, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert (code, printed, len(error.splitlines())) == (2, "", 1)
    assert "has changed since the run" in error
    assert run(capsys, monkeypatch, "evaluate", "run=here", f"file={spike_files['test']}")[0] == 0
    Path("here/split.json").write_text("{", encoding="utf-8")
    code, _, error = run(capsys, monkeypatch, "evaluate", "run=here")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "is missing or damaged; `snn-delays evaluate` also takes recordings by file=" in error


def test_one_file_of_spikes_is_split_by_speakers(small, spike_files, capsys, monkeypatch) -> None:
    one = [option for option in small if not option.startswith("data.test_file")]
    for more, words in (
        ("data.test_fold=1", "test: held-out speakers 1, fold 2 of 4"),
        ("data.test_speakers=[3]", "test: held-out speakers 3"),
        ("data.test_share=0.5", "test: held-out speakers"),
    ):
        out = f"out={more.partition('=')[0]}"
        code, printed, error = run(capsys, monkeypatch, "train", *one, more, out)
        assert code == 0, error
        assert words in printed
        split = json.loads(Path(out[4:], "split.json").read_text("utf-8"))
        held = [split[name]["samples"] for name in ("train", "valid", "test")]
        assert sorted(itertools.chain(*held)) == list(range(48))
        code, again, error = run(capsys, monkeypatch, "evaluate", f"run={out[4:]}")
        assert code == 0, error
        assert re.search(r"all .*n = (12|24)", again)


def test_data_mistakes_are_one_sentence(small, capsys, monkeypatch) -> None:
    for arguments, words in (
        (["prepair"], "no action data prepair; choose from prepare, verify, info, encode. Did you"),
        (["prepare", "here"], "Write option=value"),
        (["prepare", "data=shdd"], "data=shdd is not one of"),
        (["info", "data=shd", "data.root=none", "data.train_file=none.h5"], "There is no file"),
        (["info", "data=shd", "data.train_file=none.h5"], "data.train_file must name shd_train.h5"),
        (["info", "data=gsc", "data.folder=none"], "data.folder must name speech_commands_v0.02"),
        (["prepare", "data=fsdd"], "set data.root to the folder that holds fsdd/fsdd_train.h5"),
        (["prepare", "data=fsdd"], "or make it by `snn-delays data encode in="),
        (
            ["info", "data=spikes", "data.train_file=none.h5"],
            "none.h5: name the file by data.train",
        ),
        (["info", "data.time_unit=ms"], "data.time_unit=ms has no use with data=synthetic"),
        (["info", "data=audio_folder"], "data=audio_folder needs data.folder="),
        (["info", "data=audio_folder", "data.folder=none"], "There is no folder"),
        (["info", "data.test_list=a.txt"], "data.test_list has no use with data=synthetic"),
        (["info", "data.cache="], "data.cache= is empty"),
        (["info", "data.fold=1"], "data.fold=1 has a use with data.split=fold alone"),
        (["info", "data=audio_folder", "data.folder=none", "data.seconds=1e9"], "at most 60"),
        (["info", "data.augment.roll_ms=3"], "data.augment.roll_ms needs audio"),
        (["encode", "in=none"], "out=... is missing"),
        (["encode", "out=a.h5"], "in=... is missing"),
        (["encode", "in=none", "out=a.h5"], "There is no folder"),
        (["encode", "in=none", "out=a.h5", "chanels=3"], "Did you mean 'channels'?"),
    ):
        code, printed, error = run(capsys, monkeypatch, "data", *arguments)
        assert (code, printed, len(error.splitlines())) == (2, "", 1), error
        assert words in error


def test_data_help(capsys, monkeypatch) -> None:
    for arguments in ([], ["--help"], ["prepare", "--help"]):
        code, printed, _ = run(capsys, monkeypatch, "data", *arguments)
        assert code == 0
        assert "snn-delays data encode in=<folder> out=<file.h5>" in printed
    code, printed, _ = run(capsys, monkeypatch, "data", "encode", "--help")
    assert code == 0
    assert printed.startswith("usage: snn-delays data encode")
    assert "\n  in=\n" in printed
    assert "channels=700" in printed


@pytest.mark.parametrize("command", ["train", "data"])
def test_a_working_folder_that_was_removed(command, tmp_path, capsys, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, _, error = run(capsys, monkeypatch, command, "info")
    assert code == 2
    assert error.startswith("snn-delays: The working folder cannot be read (No such file")
