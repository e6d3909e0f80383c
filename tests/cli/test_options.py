"""Options as people write them: paths of any letters, flags that are not there, large values."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins

from snn_delays.cli.compose import compose
from snn_delays.cli.groups import SCHEMAS, groups
from snn_delays.cli.overrides import FLAGS, SHORT, as_hydra, read
from snn_delays.config import validate
from snn_delays.config.options import WRITTEN, options
from snn_delays.errors import UserError
from tests.cli.test_cli import run, small  # noqa: F401

KINDS = list(dict.fromkeys(SCHEMAS.values()))


def numbers(kind):
    return [(n, f) for n, _, f in options(kind()) if {"int", "float"} & set(words(f))]


def words(field) -> list[str]:
    return field.type.replace("[", " ").replace("]", " ").split()


def required_words(kind) -> dict[str, str]:
    """A word for each option that must be given and takes words of a list."""
    listed = ((n, v, f.metadata["choices"]) for n, v, f in options(kind()))
    return {name: choices[0] for name, value, choices in listed if value == "???" and choices}


def with_value(kind, name: str, value):
    """The defaults, with one option changed."""
    config = kind(**required_words(kind))
    *groups, key = name.split(".")
    place = config
    for group in groups:
        place = getattr(place, group)
    setattr(place, key, value)
    return config


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_has_bounds_and_keeps_to_them(kind) -> None:
    for name, field in numbers(kind):
        bounds = field.metadata["bounds"]
        lower = [bounds[k] for k in ("at_least", "above") if bounds[k] is not None]
        upper = [bounds[k] for k in ("at_most", "below") if bounds[k] is not None]
        assert (len(lower), len(upper)) == (1, 1), name
        assert -math.inf < lower[0] < upper[0] < 2**63 or "float" in words(field), name
        assert upper[0] < 2**127  # float32 holds it
        whole = "int" in words(field)
        beyond = [10**20, -(10**20), 10**5000] + ([] if whole else [math.inf, -math.inf, math.nan])
        for value in beyond if upper[0] < 10**20 else beyond[1:]:
            given = [value] if "list" in words(field) else value
            with pytest.raises(UserError, match=rf"\b{name}\b.* must be (at|above|below)"):
                validate(with_value(kind, name, given))


def test_numbers_beyond_64_bits_are_named(capsys, monkeypatch) -> None:
    digits = "9" * 30
    for command, option in (
        (["train"], "seed"), (["train"], "data.augment.channel_shift"),
        (["data", "info"], "data.units_per_channel"), (["benchmark", "suite=demo"], "seeds"),
        (["evaluate", "run=x"], "batch_size"), (["analyse", "run=x"], "sample"),
        (["data", "encode", "in=a", "out=b"], "seed"), (["demo"], "train.epochs"),
    ):  # fmt: skip
        code, _, error = run(capsys, monkeypatch, *command, f"{option}={digits}")
        assert (code, len(error.splitlines())) == (2, 1), error
        assert f"{option}=a number of 100 bits must be at most" in error


# ---- text is what was written ------------------------------------------------------------------

HARD = [
    "a=b", "a,b", "[x]", "a[1,2].h5", "it's", "müller", "日本", "a b", "2026_11_27", "1e5", "true",
    "007", "1:30", "a(b)", "{a}", "a#b", "-x", "@a", "\\", "a\\", "a\\'b", "$x", "x*", "a\nb", "no",
    "0x10", "inf", "range(3)", "choice(a,b)",
]  # fmt: skip


def texts(command: str) -> list:
    return [
        (name, field)
        for name, _, field in options(SCHEMAS[command]())
        if "str" in words(field) and not field.metadata["choices"]
    ]


@pytest.mark.parametrize(
    "command",
    ["train", "evaluate", "analyse", "benchmark", "encode", "runs", "predict", "export", "live"],
)
def test_text_is_what_was_written(command, monkeypatch) -> None:
    """Many values in few compositions, each of which takes a fifth of a second."""
    rng = random.Random(7)
    alphabet = [*"ab/.=,[](){}'\"\\$#@%&*?!:;<>|^~`-_ ü日\t", "{", "'"]
    strange = ["".join(rng.choices(alphabet, k=rng.randrange(1, 9))) for _ in range(40)]
    monkeypatch.setattr(
        "snn_delays.cli.compose.validate", lambda config: None
    )  # rules between them
    values = iter([t for t in HARD + strange if not unlike(t)] if command == "train" else HARD[:8])
    while batch := list(zip(texts(command), values, strict=False)):
        given = {}
        for (name, field), value in batch:
            given[name] = ["x", value.replace(",", "")] if "list" in field.type else value
        overrides = [
            f"{WRITTEN.get(name, name)}={f'[{chr(44).join(v)}]' if isinstance(v, list) else v}"
            for name, v in given.items()
        ]
        overrides += [f"{n}={word}" for n, word in required_words(SCHEMAS[command]).items()]
        made = {n: v for n, v, _ in options(compose(command, overrides))}
        for name, value in given.items():
            found = made[name]
            if (
                name.startswith(("data.", "train.init"))
                and isinstance(value, str)
                and Path(str(found)).is_absolute()
            ):
                value = str(Path(value).absolute())
            assert found == value, (name, value)


def unlike(text: str) -> bool:
    """Whether the text is more than text: quoted, of another option, a home folder, or empty."""
    return "${" in text or text.startswith("~") or text[:1] in "'\"" or text.strip() != text


def test_what_is_more_than_text(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for written, found in {
        "null": None, "~": str(tmp_path), "~/a=b": f"{tmp_path}/a=b", "'a,b'": "a,b", '"x"': "x",
        "${name}/ü": "run/ü", "'null'": "null", "'~/x'": f"{tmp_path}/x",
    }.items():  # fmt: skip
        assert compose("train", [f"out={written}"]).out == found
    assert compose("analyse", ["runs=[~/a, 'b,c',d[1,2],it's]"]).runs == [
        f"{tmp_path}/a", "b,c", "d[1,2]", "it's",
    ]  # fmt: skip
    with pytest.raises(UserError, match="knows no user 'nobody-here'"):
        compose("evaluate", ["run=~nobody-here/x"])


def test_commas_separate_the_values_of_several_runs() -> None:
    for written, found in {
        "out=a=b,ü": "out='a=b','ü'",
        "out='a,b',c[1,2]": "out='a,b','c[1,2]'",
        "name=choice(a,b)": "name=choice(a,b)",
        "data.valid_speakers=[a,007],[b]": "data.valid_speakers=['a','007'],['b']",
        "seed=1,2": "seed=1,2",
        "+name=1e5": "+name='1e5'",
    }.items():
        assert as_hydra("train", [written], sweep=True) == [found]


def test_a_run_lies_in_a_folder_of_any_name(small, capsys, monkeypatch, tmp_path) -> None:  # noqa: F811
    place = tmp_path / "a=b, [ü] 'x'"
    place.mkdir()
    for name in ("train.h5", "test.h5"):
        (tmp_path / name).rename(place / name)
    small[1:3] = [f"data.{name}_file={place}/{name}.h5" for name in ("train", "test")]
    out = f"{place}/2026_11_27"
    assert run(capsys, monkeypatch, "train", *small, f"out={out}")[0] == 0
    assert json.loads(Path(out, "result.json").read_text("utf-8"))["n"] == 30
    code, printed, error = run(
        capsys, monkeypatch, "evaluate", f"run={out}", f"file={place}/test.h5"
    )
    assert (code, error) == (0, "")
    assert "n = 30" in printed
    code, printed, error = run(
        capsys, monkeypatch, "data", "info", *small, f"data.cache={place}/cache"
    )
    assert (code, error) == (0, "")


# ---- words that are no options -----------------------------------------------------------------


def test_the_flags_are_hydras() -> None:
    actions = [a for a in get_args_parser()._actions if a.option_strings]
    hydras = {string for a in actions for string in a.option_strings}
    left_out = {
        "--version",  # ours says its own
        "--experimental-rerun",  # loads a pickle
        "--run", "-r",  # change nothing
    }  # fmt: skip
    assert {*FLAGS, *SHORT} == hydras - left_out
    for action in actions:
        values = FLAGS.get(action.option_strings[0], ())
        assert bool(values) == (action.nargs != 0) or action.option_strings[0] in left_out
        assert action.choices is None or tuple(action.choices) == values


WORDS = {
    ("train", "--data.root=y"): "There is no flag --data.root. Write data.root=y.",
    ("train", "--epochs", "3"): "There is no flag --epochs. Write train.epochs=3.",
    ("train", "--lr-weight=1"): "Write train.lr_weight=1.",
    ("train", "--data", "shd"): "Write data=shd.",
    ("train", "--epohs", "3"): "Did you mean 'train.epochs=3'?",
    ("train", "--EPOCHS", "3"): "Write train.epochs=3.",
    ("train", "--lr", "0.1"): "Did you mean 'train.lr_weight=0.1' or 'train.lr_delay=0.1'?",
    ("train", "--learning-rate=1"): "Did you mean 'train.lr_weight=1' or 'train.lr_delay=1'?",
    ("train", "-e", "3"): "'train.epochs=3'",
    ("train", "-s", "3"): "Did you mean 'seed=3', ",
    ("train", "--cuda"): "Did you mean 'device=cuda'?",
    ("train", "--gpu"): "Did you mean 'device=cuda'?",
    ("train", "--model", "shd"): "Write model=shd.",
    ("train", "--"): "-- is no option; write option=value.",
    ("train", "epochs", "3"): "epochs cannot be read. Write train.epochs=3.",
    ("train", "--help", "train"): "train cannot be read. Write train=<value>.",
    ("train", "LR=1"): "Did you mean 'train.lr_weight' or 'train.lr_delay'?",
    ("train", "--multi"): "Did you mean '--multirun'?",
    ("train", "--cfg", "jbo"): "--cfg=jbo is not one of job, hydra, all.",
    ("train", "--cfg"): "--cfg needs a value: write --cfg job|hydra|all.",
    ("train", "-m=3"): "-m takes no value",
    ("train", "--config-name=evaluate"): "does not hold the options of train",
    ("train", "~seed"): "~seed would delete an option",
    ("train", "+seed=1"): "There is an option seed already; leave the + in front of it out.",
    ("train", "=3"): "=3 cannot be read. Write option=value.",
    ("train", "seed=1,2"): "seed=1,2 gives several values; add -m",
    ("train", "epochs=3"): "There is no option epochs. Did you mean 'train.epochs'?",
    ("train", "device=gpu"): "Did you mean 'cuda'?",
    ("train", "device=CUDA:0"): "Did you mean 'cuda'?",
    ("train", "train.protocol=val"): "Did you mean 'validation'?",
    ("train", "model.readout=AVG"): "Did you mean 'mean'?",
    ("train", "data=SHD"): "Did you mean 'shd'?",
    ("train", "tracking=tb"): "Did you mean 'tensorboard'?",
    ("train", "precision=bf16"): "Did you mean 'mixed'?",
    ("train", "model.delays=null"): "model.delays=null is not allowed; give a value.",
    ("train", "train.epochs=two"): "train.epochs: 'two' is not a whole number.",
    ("train", "train.lr_weight=high"): "train.lr_weight: 'high' is not a number.",
    ("train", "train.test=maybe"): "train.test: 'maybe' is neither true nor false.",
    ("train", "tracking=[0]"): "tracking=[0] names no file; leave it out, or choose one of none",
    ("train", "hydra.verbose=1e9"): "hydra.verbose=1e9",
    ("train", "hydra/sweeper=[[1]]"): "hydra/sweeper=[[1]]",
    ("train", "hydra.mode=fast"): "hydra.mode: Invalid value 'fast', expected one of",
    ("train", "hydra.run.dir=null"): "hydra.run.dir=null is not allowed; give a value.",
    ("train", "seed=" + "9" * 5000): "seed=999",
    ("data", "info", "experiment=null"): "experiment=null names no file; leave it out",
    ("data", "info", "-m"): "-m has no use with this command",
    ("data", "encode", "in=", "out=x"): "in= is empty",
    ("data", "encode", "in=null", "out=x"): "in=null is not allowed",
    ("evaluate", "runs/x"): "runs/x cannot be read. Write run=runs/x.",
    ("analyse", "runs=a,b"): "runs is a list; write 'runs=[a,b]'.",
    ("benchmark", "--jobs", "3"): "There is no flag --jobs. Write jobs=3.",
    ("benchmark", "suite=demo", "hydra.launcher=1"): "hydra.launcher=1 is not a group of options",
    ("benchmark", "suite=demo", "hydra/launcher=[1]"): "hydra/launcher=[1]",
    (
        "benchmark",
        "suite=demo",
        "hydra.launcher.n_jobs=few",
    ): "n_jobs: 'few' is not a whole number.",
    ("benchmark", "--epochs", "3"): "There is no flag --epochs. Write train.epochs=3.",
    ("demo", "--epochs=3"): "Write train.epochs=3.",
    ("demo", "--epochs", "3"): "Write train.epochs=3.",
    ("evaluate", "--runs", "x"): "Did you mean 'run=x'?",
    ("evaluate", "--run", "runs/x"): "There is no flag --run. Write run=runs/x.",
    ("data", "encode", "--in", "x"): "Write in=x.",
    ("demo", "++model.delays=fixed"): "but not ++model.delays=fixed",
    ("demo", "experiment=fsdd/none"): "but not experiment=fsdd/none",
}


def test_a_flag_with_the_name_of_any_option_answers_with_the_option() -> None:
    for command, kind in SCHEMAS.items():
        names = [WRITTEN.get(name, name) for name, _, _ in options(kind())]
        for name in names:
            last = name.rpartition(".")[2]
            ends = [other for other in [*names, *groups(command)] if other.split(".")[-1] == last]
            with pytest.raises(UserError, match=r"^There is no flag -.*\. Write ") as refused:
                read(command, [f"--{last.replace('_', '-').title()}", "3"])
            assert str(refused.value).endswith(f" Write {min(ends, key=len)}=3.")


def test_synonyms_mean_a_choice_and_are_none() -> None:
    for kind in KINDS:
        for name, _, field in options(kind()):
            choices, synonyms = field.metadata["choices"], field.metadata["synonyms"]
            assert {*synonyms.values()} <= {*choices}, name
            assert not {*synonyms} & {*choices}, name
            assert all(word == word.lower() for word in synonyms), name


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words)[:40])
def test_a_wrong_word_is_one_sentence(words, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, error = run(capsys, monkeypatch, *words)
    assert (code, printed, len(error.splitlines())) == (2, "", 1), error
    assert WORDS[words] in error
    assert len(error) < 400 or "experiment" in error
    assert not list(tmp_path.iterdir())


def test_every_command_tells_our_version(capsys, monkeypatch) -> None:
    told = {run(capsys, monkeypatch, *words, "--version") for words in ((), ("train",), ("data",))}
    assert len(told) == 1
    assert not any("Hydra" in printed for _, printed, _ in told)


# ---- several runs ------------------------------------------------------------------------------


def test_no_run_of_several_starts_where_one_is_wrong(small, capsys, monkeypatch) -> None:  # noqa: F811
    values = "train.lr_weight=0.01,inf,0.02"
    code, printed, error = run(capsys, monkeypatch, "train", "-m", *small, values, "out=many")
    assert (code, printed, len(error.splitlines())) == (2, "", 1)
    assert "No run was started. Run 1 (train.lr_weight=inf): train.lr_weight=inf must be" in error
    _, _, error = run(capsys, monkeypatch, "train", "-m", *small, "device=cpu,gpu", "out=many")
    assert "No run was started. Run 1 (device=gpu): device=gpu is not" in error
    assert not Path("many").exists()


def test_a_command_leaves_the_sweeper_as_it_was(capsys, monkeypatch) -> None:
    Plugins.instance()
    before = basic_sweeper.BasicSweeper.sweep
    make = Plugins.instantiate_sweeper
    run(capsys, monkeypatch, "train", "-m", "seed=0,x")
    assert basic_sweeper.BasicSweeper.sweep is before
    assert Plugins.instantiate_sweeper is make


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_failed_run_of_several_stops_no_other(launcher, small, capsys, monkeypatch) -> None:  # noqa: F811
    Path("many/1").mkdir(parents=True)
    Path("many/1/mine").touch()
    options = ["train.epochs=1", "seed=0,1,2", "out=many", f"hydra/launcher={launcher}"]
    if launcher == "joblib":
        options.append("hydra.launcher.n_jobs=1")
    code, printed, error = run(capsys, monkeypatch, "train", "-m", *small, *options)
    assert code == 1
    assert re.search(r"\| run \| \d+ \| 2 \| .* ± .* \|", printed)  # the seeds that ended
    assert "\nTest accuracy of the deployed networks" in printed
    assert "snn-delays: run 1 failed: out=many/1 is not an empty folder" in error
    assert error.endswith("1 of 3 runs failed: 1 (seed=1)\n")
    assert [Path(f"many/{n}/result.json").is_file() for n in range(3)] == [True, False, True]


def test_a_fault_of_ours_in_one_of_several_runs_is_shown(small, capsys, monkeypatch) -> None:  # noqa: F811
    def broken(config):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("snn_delays.training.run.train", broken)
    code, _, error = run(capsys, monkeypatch, "train", "-m", *small, "seed=0,1", "out=many")
    assert code == 1
    assert error.count("Traceback") == 2
    assert "2 of 2 runs failed: 0 (seed=0); 1 (seed=1)" in error


# ---- YAML files --------------------------------------------------------------------------------

FILES = {
    "no is no text": ("model: {delays: no}", "model.delays"),
    "yes is no number": ("train: {epochs: yes}", "train.epochs"),
    "a date is no number": ("seed: 2026-11-27", "seed"),
    "a date as text": ("name: 2026-11-27", None),
    "a version as text": ("name: 1.10", None),
    "twice": ("seed: 1\nseed: 2", "found duplicate key seed"),
    "an anchor": ("model: &a {taps: 5}", None),
    "an unknown anchor": ("model: *a", "undefined alias"),
    "a tag": ("seed: !!python/object:os.system 1", "could not determine a constructor"),
    "no mapping": ("[1, 2]", ""),
    "not YAML": ("a: b: c", "mapping values are not allowed"),
    "unknown": (
        "model: {tapz: 3}",
        "experiment/mine.yaml: There is no option model.tapz. Did you mean",
    ),
    "huge": (f"seed: {'9' * 40}", "seed=a number of"),
    "null": ("model: null", ""),
    "NUL": ("name: \0", ""),
}


@pytest.mark.parametrize("name", FILES)
def test_an_experiment_of_ones_own_is_read_or_refused(name, capsys, monkeypatch, tmp_path) -> None:
    text, words_ = FILES[name]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snn_delays.training.run.train", lambda config: pytest.fail("it runs"))
    flags = ["--config-dir", str(tmp_path)]
    if words_ is None:
        flags += ["--cfg", "job"]
    code, printed, error = run(capsys, monkeypatch, "train", *flags, "experiment=mine")
    if words_ is None:
        assert (code, error) == (0, "")
        assert yaml.safe_load(printed)
    else:
        assert (code, printed, len(error.splitlines())) == (2, "", 1), error
        assert words_ in error
