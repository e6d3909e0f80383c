"""Shared by all commands: Hydra, help, and errors as one sentence with exit code 2."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from snn_delays.benchmark.suite import named
from snn_delays.cli.compose import (
    checked,
    compose,
    composed,
    in_own_folder,
    number_in_multirun,
    register,
)
from snn_delays.cli.explain import explain, unforeseen
from snn_delays.cli.groups import config_folder
from snn_delays.cli.help import command_help, help_text
from snn_delays.cli.overrides import HELP, read
from snn_delays.cli.search import searches
from snn_delays.cli.sweep import Failed, announce, checked_sweeps
from snn_delays.cli.wrapping import wrapped
from snn_delays.errors import Interrupted, OtherRankFailed, UserError
from snn_delays.output import guarded, needed_output, own_descriptors
from snn_delays.runtime.distributed import process_info

SIGNALLED = 128  # plus the signal's number: exit code after a signal


def run_command(
    name: str,
    task: Callable[[Any], Any],
    *,
    prints: bool = False,
) -> None:
    """Run ``task`` with the configuration that the command line describes.

    Args:
        name: name of the command and of its primary configuration file.
        task: takes the validated configuration; a search reads its return value.
        prints: see ``report_errors``.
    """
    report_errors(lambda: _run(name, task), once=True, prints=prints)


def run_without_hydra(name: str, task: Callable[[Any], Any], *, prints: bool = True) -> None:
    """Run ``task`` with the options of a command that takes none of Hydra's flags.

    Args:
        name: name of the command.
        task: takes the validated configuration.
        prints: see ``report_errors``.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):
        report_errors(lambda: print(wrapped(help_text(name, []))), prints=True)
        return
    report_errors(lambda: task(compose(name, sys.argv[1:])), prints=prints)


def _run(name: str, task: Callable[[Any], Any]) -> None:
    flags, overrides = read(name, sys.argv[1:])
    if HELP in flags:
        with needed_output():
            print(wrapped(command_help(name, overrides)))
    elif not flags and not any(named(override).startswith("hydra") for override in overrides):
        made = checked(name, composed(name, overrides))  # Hydra's main would compose twice
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
        task(made)
    else:
        _run_with_hydra(name, task, flags, overrides)


def _run_with_hydra(
    name: str, task: Callable[[Any], Any], flags: list[str], overrides: list[str]
) -> None:
    """Run a multirun, a search, or a command with other settings of Hydra."""
    started = False

    def job(config: DictConfig) -> Any:  # reports its errors itself: Hydra would add lines
        nonlocal started
        started = True
        made = report_errors(lambda: in_own_folder(checked(name, config)), once=True)
        if number_in_multirun() is None:
            return report_errors(lambda: task(made))
        return report_errors(lambda: _one_of_many(made, task, overrides))

    register()
    sys.argv[1:] = [*flags, *overrides]
    folder = str(config_folder())
    try:
        with checked_sweeps(name), searches(name):
            hydra.main(version_base="1.3", config_path=folder, config_name=name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, name)) from error
    except UserError:
        raise
    except Exception as error:
        if started:
            raise
        if not any(flag.startswith("--config") for flag in flags):
            composed(name, overrides)  # raises an error that names the override, if one is wrong
        raise UserError(unforeseen(error, [o for o in overrides if "hydra" in o], name)) from error


def _one_of_many(config: Any, task: Callable[[Any], Any], overrides: list[str]) -> Any:
    """Run one job of a multirun: a failure is printed, and the other jobs continue."""
    if _is_first():
        announce(config, overrides)
    try:
        return task(config)
    except Interrupted:
        raise
    except Exception as error:
        if not isinstance(error, UserError):  # a bug of this package
            traceback.print_exception(error)
        if not isinstance(error, OtherRankFailed):
            _say(f"snn-delays: run {number_in_multirun()} failed: {error}", once=False)
        return Failed()


def quiet_libraries() -> None:
    """Hide warnings of libraries that are of no use: missing Triton, Matplotlib's font list."""
    for name in ("torch._library.triton", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)


def report_errors(action: Callable[[], Any], *, once: bool = False, prints: bool = False) -> Any:
    """Run ``action``; a mistake of the user ends in one sentence and exit code 2.

    Args:
        action: the function to run.
        once: all ranks find the same mistake, so only the first rank prints it.
        prints: the action makes nothing but its output, so a failure of the output is an error; an
            action that writes files continues.
    """
    quiet_libraries()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise its exceptions, not print them
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    own_descriptors()
    with guarded():
        return _reported(action, once, needed_output() if prints else contextlib.nullcontext())


def _reported(action: Callable[[], Any], once: bool, output: AbstractContextManager[None]) -> Any:
    try:
        with output:
            _check_working_folder()
            return action()
    except OtherRankFailed:
        sys.exit(2)
    except UserError as error:
        _fail(str(error), once)
    except Interrupted as stop:
        name = signal.Signals(stop.signal).name
        saved = f"all is saved in {stop.folder}: resume by resume=auto out={stop.folder}"
        _say(f"Stopped by {name} {stop}; {saved}.", once=True)
        sys.exit(SIGNALLED + stop.signal)
    except KeyboardInterrupt:
        print("\nInterrupted; files written before are kept.", file=sys.stderr)
        sys.exit(SIGNALLED + signal.SIGINT)


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"The working folder cannot be read ({error.strerror}): cd to one that exists."
        ) from error


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Exit by an exception, so that half-written files are removed."""
    sys.exit(SIGNALLED + number)


def _fail(sentence: str, once: bool) -> None:
    _say(f"snn-delays: {sentence}", once)
    sys.exit(2)


def _say(line: str, once: bool) -> None:
    if not once or _is_first():
        print(" ".join(line.splitlines()), file=sys.stderr)


def _is_first() -> bool:
    """Whether this process prints for all ranks."""
    try:
        return process_info().is_first
    except UserError:  # torchrun's variables are wrong: no process knows its rank
        return True


def refuse_torchrun(command: str) -> None:
    """Refuse torchrun for a command that trains several networks, each in one process."""

    def check() -> None:
        if process_info().world_size > 1:
            raise UserError(f"torchrun starts `snn-delays train`, not {command}.")

    report_errors(check, once=True)
