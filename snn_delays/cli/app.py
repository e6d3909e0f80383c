"""What every command shares: Hydra, help, and errors in one sentence with exit code 2."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_delays.cli.groups import SCHEMAS, WRITTEN, Schema, config_folder, groups, option_names
from snn_delays.config import (
    PATHS,
    AnalyseConfig,
    BenchmarkConfig,
    Config,
    DataConfig,
    EncodeConfig,
    EvaluateConfig,
    nearest,
    options,
    validate,
)
from snn_delays.errors import Elsewhere, Interrupted, UserError
from snn_delays.output import guarded, needed_output, own_descriptors
from snn_delays.place import place

SIGNALLED = 128  # and the signal's number: the exit code of what a signal ended
HELP_END = """--cfg job shows the configuration, -m runs over comma-separated values, and
--hydra-help tells Hydra's own flags."""


def run_command(name: str, task: Callable[[Any], Any], *, prints: bool = False) -> None:
    """Run ``task`` with the configuration that the command line describes.

    Args:
        name: the command, and its primary configuration file.
        task: takes the validated configuration; what it returns is what a search maximises.
        prints: see ``report_errors``.
    """
    quiet_libraries()
    _register()
    if {"--help", "-h"} & set(sys.argv[1:]):
        report_errors(lambda: print(_help(name, list(filter(_is_override, sys.argv[1:])))))
        return

    started = False

    def job(config: DictConfig) -> Any:  # reports its own errors, or Hydra adds lines to them
        nonlocal started
        started = True
        made = report_errors(lambda: _checked(config), alike=True)
        return report_errors(lambda: task(made))

    def composed() -> None:
        try:
            hydra.main(version_base="1.3", config_path=folder, config_name=name)(job)()
        except ValueError as error:  # Hydra's own, for some overrides such as model=null
            if started:
                raise
            raise UserError(f"The options cannot be read: {error}") from error

    # argparse wants the flags together
    sys.argv[1:] = sorted(map(_argument, sys.argv[1:]), key=_is_override)
    folder = str(config_folder())
    report_errors(composed, alike=True, prints=prints)


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _argument(argument: str) -> str:
    """An argument as Hydra takes it.

    ``option=~/folder``: many shells leave the ~ there, and Hydra's grammar does not know it.
    """
    option, equals, value = argument.partition("=")
    fields = {written: field for field, written in WRITTEN.items()}
    if not equals:
        return argument
    home = value == "~" or value.startswith("~/")
    return f"{fields.get(option, option)}={Path(value).expanduser() if home else value}"


def compose(name: str, overrides: list[str]) -> Any:
    """The validated configuration of a command, from Python.

    Args:
        name: the command.
        overrides: as on the command line.
    """
    quiet_libraries()
    _register()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return _checked(hydra.compose(name, [_argument(o) for o in overrides]))


def check_launcher(overrides: list[str]) -> None:
    """Let Hydra say now what it does not know of launchers and their options."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        hydra.compose("jobs", overrides, return_hydra_config=True)


def quiet_libraries() -> None:
    """Keep remarks that help nobody off the screen.

    Triton is missing on every CPU build; Matplotlib lists fonts at its first start.
    """
    for name in ("torch._library.triton", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)


def report_errors(action: Callable[[], Any], *, alike: bool = False, prints: bool = False) -> Any:
    """Run ``action``; a mistake of the user's ends in one sentence and exit code 2.

    Args:
        action: what to run.
        alike: where several processes train together, all find the same mistake; the first says it.
        prints: what it prints is all that it makes: it ends where that cannot be written. What
            makes files goes on.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us, not Hydra's printer
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    own_descriptors()
    with guarded():
        return _reported(action, alike, needed_output() if prints else contextlib.nullcontext())


def _reported(action: Callable[[], Any], alike: bool, output: AbstractContextManager[None]) -> Any:
    try:
        with output:
            _check_working_folder()
            return action()
    except Elsewhere:
        sys.exit(2)
    except UserError as error:
        _fail(str(error), alike)
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_explain(error), alike)
    except Interrupted as stop:
        name = signal.Signals(stop.signal).name
        line = f"Stopped by {name} {stop}; all is saved in {stop.folder}, and resume=auto goes on."
        _say(line, alike=True)
        sys.exit(SIGNALLED + stop.signal)
    except KeyboardInterrupt:
        print("\nInterrupted; what was saved before is kept.", file=sys.stderr)
        sys.exit(SIGNALLED + signal.SIGINT)


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"The working folder cannot be read ({error.strerror}): cd to one that is there."
        ) from error


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """End with what is half-written removed."""
    sys.exit(SIGNALLED + number)


def _fail(sentence: str, alike: bool) -> None:
    _say(f"snn-delays: {sentence}", alike)
    sys.exit(2)


def _say(line: str, alike: bool) -> None:
    if not alike or _speaks():
        print(" ".join(line.splitlines()), file=sys.stderr)


def _speaks() -> bool:
    """Whether this process speaks for all that train together."""
    try:
        return place().is_first
    except UserError:  # the launcher's variables are wrong: no process knows of others
        return True


def refuse_company(command: str) -> None:
    """End where torchrun starts a command that trains several networks, each in one process."""

    def check() -> None:
        if place().processes > 1:
            raise UserError(f"torchrun starts `snn-delays train`, not {command}.")

    report_errors(check, alike=True)


def _register() -> None:
    store = ConfigStore.instance()
    store.store("schema", Config)
    store.store("schema_evaluate", EvaluateConfig)
    store.store("schema_encode", EncodeConfig)
    store.store("schema_benchmark", BenchmarkConfig)
    store.store("schema_analyse", AnalyseConfig)
    OmegaConf.register_new_resolver("or", lambda first, other: first or other, replace=True)


def _checked(config: DictConfig) -> Schema:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        name = WRITTEN.get(missing[0], missing[0])
        raise UserError(f"{name}=... is missing; give it on the command line.")
    _refuse_additions(config)
    made: Any = OmegaConf.to_object(config)
    validate(made)
    if isinstance(made, Config):
        made.out = _own_folder(made.out)
        _make_absolute(made.data)
    return made


def _refuse_additions(config: DictConfig, prefix: str = "") -> None:
    """``+key=value`` gets past Hydra; an option that nothing reads would mislead."""
    kind: Any = OmegaConf.get_type(config)
    known = [f.name for f in dataclasses.fields(kind)]
    for key, value in ((str(k), v) for k, v in config.items()):
        if key not in known:
            raise UserError(f"There is no option {prefix}{key}.{nearest(key, known)}")
        if isinstance(value, DictConfig):
            _refuse_additions(value, f"{prefix}{key}.")


def _make_absolute(data: DataConfig) -> None:
    """Paths are the shell's; a run can then be read from any other folder."""
    for name in PATHS:
        path = getattr(data, name)
        if path is not None:
            setattr(data, name, str(Path(path).expanduser().absolute()))


def _own_folder(out: str | None) -> str | None:
    """In a multirun every job writes a folder of its own."""
    if out is None or not HydraConfig.initialized():
        return out
    context = HydraConfig.get()
    if context.mode != RunMode.MULTIRUN:
        return out
    return os.path.join(out, str(context.job.num))


def is_search() -> bool:
    """Whether a sweeper that chooses by results, such as optuna, started this job."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    return not str(HydraConfig.get().sweeper._target_).endswith("BasicSweeper")


# ---- errors ------------------------------------------------------------------------------------


def _explain(error: Exception) -> str:
    """Hydra's and OmegaConf's errors as one sentence with the nearest valid name."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = " ".join(str(error).split())
    key = getattr(cause, "full_key", None) or ""
    kinds = {kind.__name__: name for name, kind in SCHEMAS.items() if kind is not Config}
    command = next((name for kind, name in kinds.items() if kind in str(cause)), "train")
    names = option_names(command)
    valid = [*names, *groups(command)]
    if "not in '" in str(cause):
        return f"There is no option {key}.{nearest(key, valid)}"
    if key in names and "is not a ListConfig" in str(cause):
        return f"{key} is a list; write '{key}=[a,b]'."
    if key.partition("[")[0] in names and cause is not error:
        return f"{key}: {str(cause).splitlines()[0].rstrip('.')}."
    absent = re.search(r"Could not find '([^']+)'", text)
    if absent:
        return _no_such_value(absent[1])
    absent = re.search(r"Could not override '([^']+)'. No match in the defaults list", text)
    if absent:
        return f"There is no option {absent[1]}.{nearest(absent[1], valid)}"
    if isinstance(error, OverrideParseException):
        hint = "" if "=" in str(error.override) else " Write option=value."
        return f"The override {error.override} cannot be read.{hint}"
    return text


def _no_such_value(path: str) -> str:
    """``path`` is group/value, and the group may itself have slashes."""
    for group, values in groups("train").items():
        if path.startswith(f"{group}/"):
            value = path.removeprefix(f"{group}/")
            return f"{group}={value} is not one of {', '.join(values)}.{nearest(value, values)}"
    return f"There is no configuration {path}."


# ---- help --------------------------------------------------------------------------------------


def _help(name: str, overrides: list[str]) -> str:
    text = f"{help_text(name, overrides)}\n\n{HELP_END}"
    if groups(name):
        text += "\nGroups change the values above: try"
        text += f" `snn-delays {name} experiment=paper/shd --help`."
    return text


def help_text(name: str, overrides: list[str]) -> str:
    """A command's groups and options, with their values as ``overrides`` make them."""
    quiet_libraries()
    _register()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        composed = hydra.compose(name, overrides)
    command = "data encode" if name == "encode" else name
    lines = [f"usage: snn-delays {command} [option=value ...]", ""]
    if groups(name):
        lines += ["groups (choose one value of each):"]
        lines += [_group_line(group, values) for group, values in groups(name).items()]
        lines += [""]
    lines += ["options (with their values as given here):"]
    required = OmegaConf.missing_keys(composed)
    for key, _, field in options(SCHEMAS[name]()):
        value = "" if key in required else OmegaConf.select(composed, key)
        lines += _option_lines(WRITTEN.get(key, key), value, field)
    return "\n".join(lines)


def _group_line(group: str, values: list[str]) -> str:
    """The values of a group, over several lines where there are many."""
    text = f"{group}={'| '.join(values)}"
    line = textwrap.fill(
        text, 98, initial_indent="  ", subsequent_indent=6 * " ", break_on_hyphens=False
    )
    return line if "\n" in line else line.replace("| ", "|")


def _option_lines(key: str, value: Any, field: dataclasses.Field[Any]) -> list[str]:
    shown = "null" if value is None else str(value)
    lines = [f"  {key}={shown}", f"      {field.metadata['help']}"]
    choices = field.metadata["choices"]
    if choices:
        lines.append(f"      one of {', '.join(choices)}")
    return lines
