"""The groups of YAML files in configs/, and their values."""

from __future__ import annotations

from pathlib import Path

from snn_delays.benchmark.suite import suites
from snn_delays.config import (
    AnalyseConfig,
    BenchmarkConfig,
    Config,
    EncodeConfig,
    EvaluateConfig,
    RunsConfig,
)
from snn_delays.config.options import WRITTEN, options

Schema = Config | EvaluateConfig | EncodeConfig | BenchmarkConfig | AnalyseConfig | RunsConfig
SCHEMAS: dict[str, type[Schema]] = {
    "train": Config,
    "demo": Config,
    "evaluate": EvaluateConfig,
    "encode": EncodeConfig,
    "benchmark": BenchmarkConfig,
    "analyse": AnalyseConfig,
    "runs": RunsConfig,
}
SUITES = "suites"  # a folder of configs/ for `snn-delays benchmark`; not a group


def config_folder() -> Path:
    """The folder configs/: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def groups(command: str) -> dict[str, list[str]]:
    """The groups of a command, each with its values."""
    if SCHEMAS[command] is not Config:
        return {}
    folder = config_folder()
    found = {}
    for group in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != SUITES):
        files = sorted(group.rglob("*.yaml"))
        found[group.name] = [f.relative_to(group).with_suffix("").as_posix() for f in files]
    return found


def option_names(command: str) -> list[str]:
    """Dotted names of a command's options."""
    return [name for name, _, _ in options(SCHEMAS[command]())]


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
    return [name for name in found if name.startswith(word)]
