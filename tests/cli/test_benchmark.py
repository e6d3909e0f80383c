"""`snn-delays benchmark` as a person meets it."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from snn_delays.benchmark.jobs import Host, Job, _note
from snn_delays.benchmark.results import read_results, reproducible_values
from snn_delays.benchmark.suite import load_suite, suites
from snn_delays.cli import benchmark
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.cli.launch import Launcher
from snn_delays.cli.suite_runs import member_configs, seed_configs
from snn_delays.config import Config
from snn_delays.errors import Interrupted, UserError
from snn_delays.files import locked
from tests.cli.test_cli import run
from tests.processes import Command

SIZES = [
    "data=spikes", "data.units_per_channel=50", "model.hidden=[8]", "model.taps=5",
    "train.epochs=3", "train.batch_size=16", "device=cpu",
]  # fmt: skip


@pytest.fixture
def words(spike_files, tmp_path, monkeypatch) -> Iterator[list[str]]:
    """A suite of two networks that train in a second, and the options that run it."""
    monkeypatch.chdir(tmp_path)
    members = {
        "learned": {"label": "learned delays", "options": ["model.delays=learned"]},
        "none": {"label": "no delays", "options": ["model.delays=none", "model.tau_ms=30"]},
    }
    suite = {"title": "Two networks", "seeds": 2, "options": SIZES, "baseline": "learned"}
    Path("suites").mkdir()
    Path("suites/words.yaml").write_text(
        yaml.safe_dump({**suite, "members": members}), encoding="utf-8"
    )
    monkeypatch.setattr(benchmark, "_folder", lambda: Path("suites"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    files = [f"data.{name}_file={path}" for name, path in spike_files.items()]
    yield ["benchmark", "suite=words", *files, "data.cache=cache", "jobs=1"]
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # Hydra's, of a standard output that is closed
            logging.root.removeHandler(handler)


def test_a_suite_is_run_tabulated_and_skipped_when_done(words, capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, *words)
    assert code == 0
    assert "2 networks x 2 seeds, in runs/benchmark/words/" in printed
    assert "4 runs, 0 done; 1 at a time, 1 threads each" in printed
    assert "[4/4] none, seed 1: done" in printed
    out = Path("runs/benchmark/words")
    lines = read_results(out / "results.jsonl")
    names = [(line["member"], line["seed"]) for line in lines]
    assert names == [("learned", 0), ("none", 0), ("learned", 1), ("none", 1)]
    assert all(len(line["epochs"]) == 3 for line in lines)
    assert {"config_hash", "data_hash", "commit", "versions", "machine", "config"} <= lines[
        0
    ].keys()
    assert lines[1]["config"]["model"]["delays"] == "none"
    table = (out / "table.md").read_text("utf-8")
    assert table in printed
    for line in lines:
        result = json.loads(
            (out / line["member"] / f"s{line['seed']}/result.json").read_text("utf-8")
        )
        assert line["accuracy"] == result["accuracy"]
    assert "train   3/3" in (out / "none/s1.log").read_text("utf-8")
    # again: nothing is trained; with a seed more: that one
    before = (out / "results.jsonl").read_bytes()
    code, printed, _ = run(capsys, monkeypatch, *words)
    assert "4 runs, 4 done" in printed
    assert (out / "results.jsonl").read_bytes() == before
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=3")
    assert "6 runs, 4 done" in printed
    assert len(read_results(out / "results.jsonl")) == 6
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 0
    assert printed.endswith("Left out because of seeds=1: s1, s2.\n")


@pytest.mark.slow
def test_it_repeats_bit_by_bit_whatever_runs_beside(words, capsys, monkeypatch) -> None:
    found = {}
    for jobs in (1, 2):
        options = ["seeds=1", f"jobs={jobs}", f"out=jobs{jobs}"]
        code, _, _ = run(capsys, monkeypatch, *words[:-1], *options)
        assert code == 0
        found[jobs] = [
            reproducible_values(line) for line in read_results(Path(f"jobs{jobs}/results.jsonl"))
        ]
    assert found[1] == found[2]


def test_a_failed_member_is_reported_and_the_rest_goes_on(words, capsys, monkeypatch) -> None:
    suite = yaml.safe_load(Path("suites/words.yaml").read_text("utf-8"))
    suite["members"]["learned"]["options"].append("train.lr_weight=1e38")
    Path("suites/words.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "learned, seed 0: FAILED: " in printed
    assert "**Failed**: learned, seed 0: " in Path("runs/benchmark/words/table.md").read_text(
        "utf-8"
    )
    assert "| no delays |" in printed
    assert errors.endswith("1 of 2 runs failed.\n")


def test_a_bug_of_ours_is_reported_too(words, capsys, monkeypatch) -> None:
    def broken(*arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("snn_delays.benchmark.jobs.train", broken)
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "FAILED: ZeroDivisionError: oh" in printed
    assert "Traceback" in Path("runs/benchmark/words/none/s0.log").read_text("utf-8")


def test_seeds_at_once_give_the_same_table(words, capsys, monkeypatch) -> None:
    exact = [*words, "precision=float64", "model.hidden=[8,7]"]
    run(capsys, monkeypatch, *exact, "out=alone")
    code, printed, _ = run(capsys, monkeypatch, *exact, "out=at_once", "batched=true")
    assert code == 0
    assert "1 at a time, 1 threads each; the seeds of a network count as one" in printed
    assert "[4/4] none, seed 1: done" in printed
    lone, joint = (read_results(Path(out, "results.jsonl")) for out in ("alone", "at_once"))
    for a, b in zip(lone, joint, strict=True):
        assert (a["member"], a["seed"], a["config"]) == (b["member"], b["seed"], b["config"])
        assert (a["accuracy"], a["epoch"]) == (b["accuracy"], b["epoch"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9)
        assert [session["batched"] for session in b["sessions"]] == [2]
        log = Path("at_once", b["member"], f"s{b['seed']}.log").read_text("utf-8")
        assert log.count("train   3/3") == 1
        assert f"/{b['member']}/s{b['seed']}/" in log
    tables = [Path(out, "table.md").read_text("utf-8") for out in ("alone", "at_once")]
    minutes = re.compile(r"\| \d+\.\d \|$", re.MULTILINE)
    assert minutes.sub("", tables[0]) == minutes.sub("", tables[1])
    code, printed, _ = run(capsys, monkeypatch, *exact, "out=at_once", "seeds=3")
    assert "6 runs, 4 done" in printed


def test_a_member_that_fails_with_all_its_seeds(words, capsys, monkeypatch) -> None:
    suite = yaml.safe_load(Path("suites/words.yaml").read_text("utf-8"))
    suite["members"]["learned"]["options"].append("train.lr_weight=1e38")
    Path("suites/words.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    code, printed, errors = run(capsys, monkeypatch, *words, "batched=true")
    assert code == 1
    assert all(f"learned, seed {seed}: FAILED: " in printed for seed in (0, 1))
    assert all(f"none, seed {seed}: done" in printed for seed in (0, 1))
    assert errors.endswith("2 of 4 runs failed.\n")


# ---- signals and kills -------------------------------------------------------------------------

MEMBERS = ("learned", "none")
PAUSED = """
import os, time
from pathlib import Path
from snn_delays.cli import benchmark, launch, main
from tests.processes import fork_joblibs_workers

def told(signals):
    return any(stop.received for stop in signals._in_use)

def run_task(task, host, real=launch.run_task):
    os.setpgid(0, host.process)  # joblib's own are of its group
    from snn_delays.data.loaders import Loader
    from snn_delays.training import signals

    load, go = Loader._batch, host.stop.with_name("go")

    def batch(loader, epoch, place, numbers):
        if loader.shuffle_seed is not None and (epoch, place) == (1, 1):
            host.stop.with_name(f"paused-{os.getpid()}").touch()
            end = time.monotonic() + 60
            while time.monotonic() < end and not go.exists() and not told(signals):
                time.sleep(0.01)
        return load(loader, epoch, place, numbers)

    Loader._batch = batch
    try:
        real(task, host)
    finally:
        Loader._batch = load

fork_joblibs_workers()
launch.run_task = run_task
benchmark._folder = lambda: Path("suites")
main()
"""


class Paused(Command):
    """The command in a terminal's group of its own; its runs are within the second epoch.

    They wait there until they are told to stop, or until ``go``.
    """

    def __init__(self, options: list[str], folder: Path = Path("runs/benchmark/words")) -> None:
        super().__init__(options, Path("said").absolute(), code=PAUSED, group=True)
        self._folder = folder
        self.wait_for(lambda: len([*folder.glob("paused-*")]) == 2)

    def go(self) -> None:
        (self._folder / "go").touch()

    def stop(self, number: int) -> str:
        """What the command says that gets a signal."""
        if number == signal.SIGINT:  # a terminal's reaches the workers too
            os.killpg(self.pid, number)
        else:
            self.send_signal(number)
        assert self.wait() == 128 + number
        return self.said()


def positions() -> list[tuple[int, int]]:
    """Epochs and batches after which the runs went on, and how many runs did."""
    found = []
    for member in MEMBERS:
        log = Path(f"runs/benchmark/words/{member}/s0.log").read_text("utf-8")
        found += re.findall(r"resuming after (\d+) epochs and (\d+) batches", log)
    return [(int(epochs), int(batches)) for epochs, batches in found]


def results(out: str) -> list[dict[str, Any]]:
    return [reproducible_values(line) for line in read_results(Path(out, "results.jsonl"))]


def test_a_suite_that_was_killed_goes_on(words, capsys, monkeypatch) -> None:
    options = [*words[:-1], "seeds=1"]
    process = Paused([*options, "jobs=2"])
    process.kill()
    process.wait()
    assert not Path("runs/benchmark/words/learned/s0/result.json").is_file()
    code, printed, _ = run(capsys, monkeypatch, *options, "jobs=1")  # its workers may still save
    assert code == 0, printed
    assert len(positions()) == 2
    code, _, _ = run(capsys, monkeypatch, *options, "jobs=1", "out=whole")
    assert results("runs/benchmark/words") == results("whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_run_save(number, words, capsys, monkeypatch) -> None:
    options = [*words[:-1], "seeds=1"]
    printed = Paused([*options, "jobs=2"]).stop(number)
    assert f"Stopped by {signal.Signals(number).name}; all is saved" in printed
    assert "Traceback" not in printed
    assert printed.count("stopping at the next batch") == 1
    code, printed, _ = run(capsys, monkeypatch, *options, "jobs=1")
    assert code == 0, printed
    assert len(positions()) == 2
    assert any(batches > 0 for _, batches in positions())  # not the last epoch's checkpoint


def test_a_signal_lets_all_seeds_save(words, capsys, monkeypatch) -> None:
    options = [*words[:-1], "seeds=2", "batched=true"]
    printed = Paused([*options, "jobs=2"]).stop(signal.SIGTERM)
    assert "Stopped by SIGTERM; all is saved" in printed
    logs = [Path(f"runs/benchmark/words/{m}/s{s}.log") for m in MEMBERS for s in range(2)]
    assert all(log.read_text("utf-8").endswith("Stopped by SIGTERM.\n") for log in logs)
    assert run(capsys, monkeypatch, *options, "jobs=1")[0] == 0
    found = [re.findall(r"resuming after (.*),", log.read_text("utf-8")) for log in logs]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert all(len(places) == 1 for places in found)


def test_a_worker_that_is_killed_does_not_end_the_suite(words) -> None:
    process = Paused([*words[:-1], "seeds=1", "jobs=2"])
    lock = Path("runs/benchmark/words/learned/s0/.lock")
    os.kill(int(lock.read_text("utf-8")), signal.SIGKILL)
    process.go()
    assert process.wait() == 0, process.said()
    assert "Traceback" not in process.said()
    assert len(positions()) == 2  # the other one fell with it
    assert [line["member"] for line in results("runs/benchmark/words")] == list(MEMBERS)


class Fallible(Launcher):
    """Launches that train nothing, two at a time; the process of one job is always killed."""

    marks = True  # whether before that it notes what it runs

    def _launch(self, jobs: list[Job]) -> bool:
        for job in jobs:
            job.out.mkdir(exist_ok=True)
            if job.member == "large":
                for beside in jobs[: jobs.index(job) + 2][-3:] if self.marks else []:
                    beside.running.touch()
                return False
            (job.out / "result.json").touch()
        return True


@pytest.mark.parametrize("marks", [True, False])
def test_a_run_whose_process_is_killed_also_alone_has_failed(marks, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Fallible, "marks", marks)
    jobs = [Job(m, Config(out=str(tmp_path / m / "s0"))) for m in ("a", "b", "large", "c", "d")]
    for job in jobs:
        job.out.parent.mkdir()
    Fallible(Host(platform.node(), os.getpid(), 1, tmp_path / ".stop"), 2, []).run(jobs)
    assert [job.is_done() for job in jobs] == [True, True, False, True, True]
    assert "killed, even as the only one" in str(jobs[2].failure())


def test_workers_of_a_suite_that_died_train_nothing(words, tmp_path) -> None:
    """Their own interpreter is its child, so that it ends alone."""
    script = (
        "import platform; from pathlib import Path; from snn_delays.benchmark.jobs import *;"
        "from snn_delays.config import Config;"
        "job = Job('a', Config(out=str(Path('a/s0').absolute())));"
        f"run_task(job, Host(platform.node(), {2**22 + 1}, 1, Path('.stop')))"
    )
    assert Command([], tmp_path, code=script).wait() == 128 + signal.SIGTERM
    assert not Path("a").exists()


@pytest.mark.parametrize("alive", [True, False])
def test_a_stopped_worker_tells_its_own_suite_alone(alive, tmp_path) -> None:
    """If its suite has died, the file would stop the next one in the folder."""
    job = Job("a", Config(out=str(tmp_path / "s0")))
    host = Host(platform.node(), os.getpid() if alive else 2**22 + 1, 1, tmp_path / ".stop")
    _note(job, Interrupted(signal.SIGTERM, "", ""), host)
    assert host.stop.exists() == alive


def test_what_a_full_disk_does_not_let_note_is_left_open(words, capsys, monkeypatch) -> None:
    def broken(*arguments):
        raise ZeroDivisionError("oh")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snn_delays.benchmark.jobs.train", broken)
    monkeypatch.setattr("snn_delays.benchmark.jobs.replace_file", full)
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert errors == "Not finished: learned, seed 0; none, seed 0. The same command resumes.\n"
    assert "Without a result so far: learned delays, no delays." in printed


def test_a_cluster_that_is_not_there_is_one_sentence(words, capsys, monkeypatch) -> None:
    pytest.importorskip("submitit")
    options = ["seeds=1", "hydra/launcher=submitit_slurm"]
    code, printed, errors = run(capsys, monkeypatch, *words, *options)
    assert code == 2
    assert errors.startswith("snn-delays: hydra/launcher=submitit_slurm cannot run here: ")
    assert errors.count("\n") == 1
    assert "as many as the launcher takes at a time" in printed


@pytest.mark.parametrize("option", ["hydra.verbose=1e9", "hydra.job_logging={version:9}"])
def test_an_option_that_no_launcher_can_start_with_is_named(
    option, words, capsys, monkeypatch
) -> None:
    code, _, errors = run(capsys, monkeypatch, *words, "seeds=1", "jobs=1", option)
    assert code == 2
    assert errors.startswith(f"snn-delays: The options cannot be read: {option}: ")
    assert errors.count("\n") == 1


def test_a_folder_has_one_suite(words, capsys, monkeypatch) -> None:
    with locked(Path("runs/benchmark/words/.lock"), wait=False):
        code, _, errors = run(capsys, monkeypatch, *words)
    assert code == 2
    assert errors.startswith("snn-delays: Another suite (process ")
    assert not list(Path("runs").rglob("*.log"))


def test_a_run_that_another_process_writes_is_waited_for_and_left_open(
    words, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("snn_delays.benchmark.jobs.IN_USE_RETRIES", 0)
    with locked(Path("runs/benchmark/words/none/s0/.lock"), wait=False):
        code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "FAILED" not in printed
    assert errors == "Not finished: none, seed 0. The same command resumes.\n"
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 0


# ---- mistakes ----------------------------------------------------------------------------------


def test_finished_runs_are_not_taken_for_those_of_other_options(words, capsys, monkeypatch) -> None:
    run(capsys, monkeypatch, *words, "seeds=1")
    before = Path("runs/benchmark/words/results.jsonl").read_bytes()
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=2", "train.epochs=4")
    assert code == 2
    assert "learned/s0 holds a run of other options: train.epochs=4 (3 there)" in errors
    assert printed == ""
    assert Path("runs/benchmark/words/results.jsonl").read_bytes() == before
    assert not list(Path("runs").rglob("s1*"))
    elsewhere = [*words[:2], *(f"data.{n}_file={n}.h5" for n in ("train", "test")), *words[4:]]
    for name in ("train", "test"):
        Path(f"{name}.h5").exists() or Path(f"{name}.h5").symlink_to(words[2].partition("=")[2])
    code, printed, _ = run(capsys, monkeypatch, *elsewhere, "seeds=1", "train.checkpoint_minutes=3")
    assert code == 0  # neither shapes the numbers
    assert "2 runs, 2 done" in printed


def test_options_that_are_not_the_suites_stand_in_the_table(words, capsys, monkeypatch) -> None:
    options = ["seeds=1", "train.epochs=1", "train.checkpoint_minutes=3"]
    code, printed, _ = run(capsys, monkeypatch, *words, *options)
    assert code == 0
    assert "Options that differ from the suite's: train.epochs=1." in printed


def test_a_folder_with_any_name(words, capsys, monkeypatch) -> None:
    name = "it's [1,2] = x"
    quoted = name.replace("'", "\\'")
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=1", f"out='{quoted}'")
    assert code == 0, printed
    assert len(read_results(Path(name, "results.jsonl"))) == 2


def test_a_finished_run_that_is_damaged_is_a_failure(words, capsys, monkeypatch) -> None:
    run(capsys, monkeypatch, *words, "seeds=1")
    Path("runs/benchmark/words/none/s0/metrics.jsonl").unlink()
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "**Failed**: none, seed 0: " in printed
    assert "metrics.jsonl or result.json beside it, of a finished run, is missing" in printed
    assert errors == "1 of 2 runs failed.\n"


@pytest.mark.parametrize(
    ("options", "words_said"),
    [
        (["suite=wrods"], "suite=wrods is not one of words. Did you mean 'words'?"),
        ([], "suite=... is missing"),
        (["suite=words", "seed=3"], "seed=... is set by the suite"),
        (["suite=words", "++seed=3"], "seed=... is set by the suite"),
        (["suite=words", "seeds=0"], "seeds=0 must be at least 1"),
        (["suite=words", "model.tapps=3"], "There is no option model.tapps"),
        (["suite=words", "quick"], "quick cannot be read. Write option=value."),
        (["suite=words", "hydra/launcher=sbatch"], "launcher"),
        (["suite=words", "hydra.launcher.n_job=3"], "n_job"),
        (
            ["suite=words", "model.tau_ms=20"],
            "model.tau_ms=20 would replace an option of the row none",
        ),
        (["suite=words", "train.test=false"], "leave train.test=false out"),
        (
            ["suite=words", "batched=true", "train.protocol=paper"],
            "batched=true cannot train the row learned: train.protocol=paper pads every batch",
        ),
        (["suite=words", "batched=true", "model.batch_norm=false"], "it has no BatchNorm"),
        (["suite=words", "out=suites/words.yaml/x"], "cannot be written: Not a directory"),
    ],
)
def test_nonsense_is_one_sentence(options, words_said, words, capsys, monkeypatch) -> None:
    code, _, errors = run(capsys, monkeypatch, "benchmark", *options, *words[2:-1])
    assert code == 2
    assert words_said in errors
    assert errors.count("\n") == 1
    assert not Path("runs").exists()


def test_what_tells_the_rows_of_a_suite_apart_cannot_be_replaced() -> None:
    def configs(name: str, *options: str) -> dict[str, Config]:
        suite = load_suite(config_folder() / SUITES, name)
        return member_configs(suite, options)

    with pytest.raises(UserError, match=r"would replace 10.05 in the row .*suite=demo differ"):
        configs("demo", "model.tau_ms=20")
    with pytest.raises(UserError, match=r"train.protocol=last would replace an option of the row"):
        configs("protocol", "train.protocol=last")
    assert configs("demo", "train.epochs=2")["none"].train.epochs == 2
    replaced = configs("protocol", "experiment=paper/shd")
    assert {config.train.epochs for config in replaced.values()} == {150}
    assert [config.train.protocol for config in replaced.values()] == list(replaced)


def test_help_names_the_suites(capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, "benchmark", "--help")
    assert code == 0
    assert all(f"  {name}" in printed for name in suites(config_folder() / SUITES))
    assert "seeds=" in printed


@pytest.mark.parametrize("name", suites(config_folder() / SUITES))
def test_every_committed_suite_composes(name) -> None:
    suite = load_suite(config_folder() / SUITES, name)
    configs = seed_configs(member_configs(suite, []), 2, Path("x"))
    assert len(configs) == 2 * len(suite.members)
    selected = {config.selection for key, config in configs if key != "paper"}
    assert "test-selected" not in selected
