"""The groups of YAML files in configs/, and their values."""

from __future__ import annotations

import re
from pathlib import Path

from snn_delays.benchmark.suite import suites
from snn_delays.config import (
    AnalyseConfig,
    BenchmarkConfig,
    Config,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    LiveConfig,
    PredictConfig,
    RunsConfig,
)
from snn_delays.config.options import MOST_MEANT, WRITTEN, close_matches, options
from snn_delays.errors import UserError

Schema = (
    Config
    | EvaluateConfig
    | EncodeConfig
    | BenchmarkConfig
    | AnalyseConfig
    | RunsConfig
    | PredictConfig
    | ExportConfig
    | LiveConfig
)
SCHEMAS: dict[str, type[Schema]] = {
    "train": Config,
    "demo": Config,
    "evaluate": EvaluateConfig,
    "encode": EncodeConfig,
    "benchmark": BenchmarkConfig,
    "analyse": AnalyseConfig,
    "runs": RunsConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "live": LiveConfig,
}
SUITES = "suites"  # a folder of configs/ for `snn-delays benchmark`; not a group


def config_folder() -> Path:
    """The folder configs/: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


_own_folders: list[Path] = []  # of this process's command line


def use_folders(folders: list[Path]) -> None:
    """Set the user's own folders of configurations, which are laid out as configs/.

    Raises:
        UserError: a folder does not exist, or Hydra would prefer a file of configs/ to its own.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} for --config-dir or hydra.searchpath.")
        for path in (p for group in _group_folders() for p in _files(folder / group.name)):
            if (config_folder() / path.relative_to(folder)).is_file():
                raise UserError(
                    f"{path} would not be read, since a configuration of this name is part of"
                    " snn_delays: rename the file."
                )
    _own_folders[:] = folders


def own_suite_folders() -> list[Path]:
    """The folders of suites in the folders of ``use_folders``."""
    return [folder / SUITES for folder in _own_folders]


def _group_folders() -> list[Path]:
    return sorted(path for path in config_folder().iterdir() if path.is_dir())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))


def groups(command: str) -> dict[str, list[str]]:
    """The groups of a command, each with its values."""
    if SCHEMAS[command] is not Config:
        return {}
    names = [path.name for path in _group_folders() if path.name != SUITES]
    return {
        name: [
            file.relative_to(folder / name).with_suffix("").as_posix()
            for folder in [config_folder(), *_own_folders]
            for file in _files(folder / name)
        ]
        for name in names
    }


def option_names(command: str) -> list[str]:
    """Dotted names of a command's options."""
    return [name for name, _, _ in options(SCHEMAS[command]())]


def meant_options(command: str, word: str) -> list[str]:
    """Options and groups of a command that ``word`` may mean, by their names, else by their help.

    Args:
        command: a key of ``SCHEMAS``.
        word: a name in small letters with _.
    """
    schemas = [SCHEMAS[command], *([Config] if command == "benchmark" else [])]
    known = {WRITTEN.get(name, name): f for kind in schemas for name, _, f in options(kind())}
    phrase = word.replace("_", " ")
    explained = [name for name, f in known.items() if phrase in f.metadata["help"]]
    return close_matches(word, [*known, *groups(command)]) or explained[:MOST_MEANT]


def complete(command: str, word: str) -> list[str]:
    """Completions of ``word``: groups, options and their values.

    Args:
        command: a key of ``SCHEMAS``.
        word: the word under the cursor.
    """
    found = [f"{group}={value}" for group, values in groups(command).items() for value in values]
    if command == "benchmark":
        found += [f"suite={name}" for name in suites(config_folder() / SUITES)]
    for field_name, _, field in options(SCHEMAS[command]()):
        name = WRITTEN.get(field_name, field_name)
        choices = field.metadata["choices"]
        found += [f"{name}={choice}" for choice in choices] if choices else [f"{name}="]
        kind = field.metadata["path"]
        if kind and word.startswith(f"{name}="):
            found += _complete_path(word, with_files=kind != "folder")
    return [name for name in found if name.startswith(word)]


def _complete_path(word: str, with_files: bool) -> list[str]:
    """Completions of the last path in ``option=path`` or ``option=[path,path``; folders end in /.

    Left out are names with spaces, which separate completions, and hidden ones unless asked for.
    """
    begun = re.split(r"[=[,]", word)[-1]
    parent = begun[: begun.rfind("/") + 1]
    hidden = begun[len(parent) :].startswith(".")
    try:
        entries = sorted(Path(parent).expanduser().iterdir())
    except (OSError, RuntimeError):  # no such folder, or no such user
        return []
    names = [
        f"{entry.name}{'/' * entry.is_dir()}"
        for entry in entries
        if (with_files or entry.is_dir()) and hidden == entry.name.startswith(".")
    ]
    before = word.removesuffix(begun)
    return [f"{before}{parent}{name}" for name in names if len(name.split()) == 1]
