"""What every command shares: Hydra, help, and errors in one sentence with exit code 2."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_delays.cli.compose import (
    checked,
    composed,
    in_own_folder,
    number_in_multirun,
    register,
)
from snn_delays.cli.explain import explain, unforeseen
from snn_delays.cli.groups import SCHEMAS, config_folder, groups
from snn_delays.cli.overrides import HELP, read
from snn_delays.cli.sweep import Failed, is_search, watched_sweeps
from snn_delays.config.options import WRITTEN, options
from snn_delays.errors import Interrupted, OtherRankFailed, UserError
from snn_delays.output import guarded, needed_output, own_descriptors
from snn_delays.runtime.distributed import process_info

SIGNALLED = 128  # and the signal's number: the exit code of what a signal ended
HELP_END = """--cfg job shows the configuration, -m runs over comma-separated values, and
--hydra-help tells Hydra's own flags."""


def run_command(
    name: str,
    task: Callable[[Any], Any],
    check: Callable[[Any], None] | None = None,
    *,
    prints: bool = False,
) -> None:
    """Run ``task`` with the configuration that the command line describes.

    Args:
        name: the command, and its primary configuration file.
        task: takes the validated configuration; what it returns is what a search maximises.
        check: raises UserError where a valid configuration is not fit for ``task`` here.
        prints: see ``report_errors``.
    """
    report_errors(lambda: _run(name, task, check), alike=True, prints=prints)


def _run(name: str, task: Callable[[Any], Any], check: Callable[[Any], None] | None) -> None:
    flags, overrides = read(name, sys.argv[1:])
    if HELP in flags:
        with needed_output():
            print(_help(name, overrides))
        return
    started = False

    def ready(config: DictConfig) -> Any:
        made = in_own_folder(checked(name, config))
        if check is not None:
            check(made)
        return made

    def job(config: DictConfig) -> Any:  # reports its own errors, or Hydra adds lines to them
        nonlocal started
        started = True
        made = report_errors(lambda: ready(config), alike=True)
        many = number_in_multirun() is not None
        return report_errors(lambda: _one_of_many(made, task) if many else task(made))

    register()
    sys.argv[1:] = [*flags, *overrides]
    folder = str(config_folder())
    try:
        with watched_sweeps(name):
            hydra.main(version_base="1.3", config_path=folder, config_name=name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, name)) from error
    except UserError:
        raise
    except Exception as error:
        if started:
            raise
        if not any(flag.startswith("--config") for flag in flags):
            composed(name, overrides)  # which names the override, if that is what is wrong
        raise UserError(unforeseen(error, [o for o in overrides if "hydra" in o], name)) from error


def _one_of_many(config: Any, task: Callable[[Any], Any]) -> Any:
    """Run one of several runs: a failure is printed, and the other runs go on."""
    try:
        return task(config)
    except Interrupted:
        raise
    except Exception as error:
        if not isinstance(error, UserError):  # a fault of ours
            traceback.print_exception(error)
        if not isinstance(error, OtherRankFailed):
            _say(f"snn-delays: run {number_in_multirun()} failed: {error}", alike=False)
        if is_search():
            raise OtherRankFailed("said above") from error
        return Failed()


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
    quiet_libraries()
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
    except OtherRankFailed:
        sys.exit(2)
    except UserError as error:
        _fail(str(error), alike)
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
        return process_info().is_first
    except UserError:  # the launcher's variables are wrong: no process knows of others
        return True


def refuse_company(command: str) -> None:
    """End where torchrun starts a command that trains several networks, each in one process."""

    def check() -> None:
        if process_info().world_size > 1:
            raise UserError(f"torchrun starts `snn-delays train`, not {command}.")

    report_errors(check, alike=True)


# ---- help --------------------------------------------------------------------------------------


def _help(name: str, overrides: list[str]) -> str:
    text = f"{help_text(name, overrides)}\n\n{HELP_END}"
    if groups(name):
        text += "\nGroups change the values above: try"
        text += f" `snn-delays {name} experiment=paper/shd --help`."
    return text


def help_text(name: str, overrides: list[str]) -> str:
    """A command's groups and options, with their values as ``overrides`` make them."""
    made = composed(name, overrides)
    command = "data encode" if name == "encode" else name
    lines = [f"usage: snn-delays {command} [option=value ...]", ""]
    if groups(name):
        lines += ["groups (choose one value of each):"]
        lines += [_group_line(group, values) for group, values in groups(name).items()]
        lines += [""]
    lines += ["options (with their values as given here):"]
    required = OmegaConf.missing_keys(made)
    for key, _, field in options(SCHEMAS[name]()):
        value = "" if key in required else OmegaConf.select(made, key)
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
