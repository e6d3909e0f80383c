"""Composes a validated configuration from overrides and YAML files."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_delays.cli.explain import explain, unforeseen
from snn_delays.cli.groups import SCHEMAS, Schema, config_folder
from snn_delays.cli.overrides import as_hydra
from snn_delays.config import (
    PATHS,
    AnalyseConfig,
    BenchmarkConfig,
    Config,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    LiveConfig,
    PredictConfig,
    RunsConfig,
    SearchConfig,
    validate,
)
from snn_delays.config.options import WRITTEN, nearest, options
from snn_delays.config.own_parts import pinned
from snn_delays.errors import UserError


@functools.cache
def register() -> None:
    """Register the schema of every command and of a search with Hydra."""
    Plugins.instance()  # first, so that no installed plugin replaces our hydra/sweeper=optuna
    store = ConfigStore.instance()
    store.store("schema", Config)
    store.store("schema_evaluate", EvaluateConfig)
    store.store("schema_encode", EncodeConfig)
    store.store("schema_benchmark", BenchmarkConfig)
    store.store("schema_analyse", AnalyseConfig)
    store.store("schema_runs", RunsConfig)
    store.store("schema_predict", PredictConfig)
    store.store("schema_export", ExportConfig)
    store.store("schema_live", LiveConfig)
    store.store("optuna", SearchConfig, group="hydra/sweeper")
    OmegaConf.register_new_resolver("or", _path_or, replace=True)


def _path_or(path: str | None, other: str) -> str:
    """The path, or ``other`` if it is not set."""
    return os.path.expanduser(path or other)


def compose(name: str, overrides: list[str]) -> Any:
    """The validated configuration of a command, for use from Python.

    Args:
        name: the command.
        overrides: as on the command line.

    Raises:
        UserError: an override cannot be read, or an option is invalid.
    """
    return checked(name, composed(name, as_hydra(name, overrides)))


def composed(name: str, overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    """The options as Hydra composes them from a YAML file and overrides.

    Args:
        name: name of the file, a command's or another.
        overrides: overrides in Hydra's grammar.
        with_hydra: include Hydra's own options.

    Raises:
        UserError: an override cannot be read.
    """
    register()
    command = name if name in SCHEMAS else "train"
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return hydra.compose(name, overrides, return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, command)) from error
        except Exception as error:
            raise UserError(unforeseen(error, _culprit(name, overrides), command)) from error


def values_of(name: str, overrides: list[str]) -> dict[str, Any]:
    """The value of each option of a command after ``overrides``; "" where one must be given."""
    made = composed(name, overrides)
    missing = OmegaConf.missing_keys(made)
    names = [option for option, _, _ in options(SCHEMAS[name]())]
    return {key: "" if key in missing else OmegaConf.select(made, key) for key in names}


def _culprit(name: str, overrides: list[str]) -> list[str]:
    """The first override with which Hydra fails."""
    for count, override in enumerate(overrides):
        try:
            hydra.compose(name, overrides[: count + 1])
        except Exception:
            return [override]
    return []


def check_launcher(overrides: list[str]) -> None:
    """Refuse unknown launchers and options of launchers, before a run starts.

    Raises:
        UserError: an override is wrong; the message names it.
    """
    hydras = composed("jobs", overrides, with_hydra=True).hydra
    for part in ("launcher", "sweeper"):
        if "_target_" not in (hydras[part] if isinstance(hydras[part], DictConfig) else ()):
            raise UserError(f"hydra.{part}={hydras[part]} is not a group of options; leave it out.")


def checked(name: str, config: DictConfig) -> Schema:
    """The validated configuration of a command as its dataclass.

    Paths of its inputs are absolute, and a user's own parts pinned.

    Raises:
        UserError: an option is missing or invalid, or ``config`` is another command's.
    """
    if OmegaConf.get_type(config) is not SCHEMAS[name]:
        raise UserError(f"This configuration does not hold the options of {name}.")
    try:
        _refuse_missing(config)
        _refuse_additions(config)
        made: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(explain(error, name)) from error
    validate(made)
    _expand_home(made)
    if isinstance(made, Config):
        _make_absolute(made)
    return pinned(made)


def _refuse_missing(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        name = WRITTEN.get(missing[0], missing[0])
        raise UserError(f"{name}=... is missing; give it on the command line.")


def _refuse_additions(config: DictConfig, prefix: str = "") -> None:
    """Refuse ``+key=value`` for an unknown key, which Hydra would accept."""
    kind: Any = OmegaConf.get_type(config)
    known = [f.name for f in dataclasses.fields(kind)]
    for key, value in ((str(k), v) for k, v in config.items()):
        if key not in known:
            raise UserError(f"There is no option {prefix}{key}.{nearest(key, known)}")
        if isinstance(value, DictConfig):
            _refuse_additions(value, f"{prefix}{key}.")


def _make_absolute(config: Config) -> None:
    """Make the paths that a run reads absolute, so that it can be loaded from any folder."""
    for group, name in (*((config.data, path) for path in PATHS), (config.train, "init")):
        path = getattr(group, name)
        if path is not None:
            setattr(group, name, str(Path(path).absolute()))


def _expand_home(config: Any) -> None:
    """Replace ``~`` in every path; many shells leave it in ``option=~/folder``."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _expand_home(value)
        elif value is not None and field.metadata["path"]:
            made = [_at_home(p) for p in value] if isinstance(value, list) else _at_home(value)
            setattr(config, field.name, made)


def _at_home(path: str) -> str:
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UserError(f"{path}: the system knows no user {found[1:].partition('/')[0]!r}.")
    return found


def number_in_multirun() -> int | None:
    """The number of this job in a multirun, or None if there is no multirun."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return int(HydraConfig.get().job.num)


def in_own_folder(config: Schema) -> Schema:
    """In a multirun, give every job an ``out`` folder of its own."""
    number = number_in_multirun()
    if isinstance(config, Config) and config.out is not None and number is not None:
        config.out = os.path.join(config.out, str(number))
    return config
