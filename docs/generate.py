"""The reference pages that are made of the code: options, experiments, API."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from snn_delays.cli.groups import SCHEMAS, config_folder
from snn_delays.config.options import WRITTEN, options

FACTS = ("Parameters", "Published", "Measured", "Cost")  # that an experiment's comment states
API = {
    "Networks": ["nn.delayed_linear", "nn.network", "nn.neurons", "nn.readout"],
    "Operations": ["ops.maps", "ops.taps"],
    "Training": ["training.run", "training.checkpoint", "evaluate", "regression"],
    "Data": ["data.dataset", "data.loaders", "data.augment"],
    "Deployment": [
        "deploy.network",
        "deploy.describe",
        "deploy.quantise",
        "deploy.plain",
        "deploy.stream",
        "deploy.events",
        "deploy.recordings",
        "deploy.predict",
        "deploy.export",
        "deploy.verify",
        "deploy.margin",
        "deploy.hardware",
    ],
    "Analysis": [
        "analysis.trained_run",
        "analysis.tables",
        "analysis.delays",
        "analysis.curves",
        "analysis.spikes",
        "analysis.activity",
        "analysis.causal",
        "analysis.operations",
        "analysis.compare",
    ],
    "Benchmarks": ["benchmark.statistics", "benchmark.results"],
}


def write(folder: Path) -> None:
    """Write the pages into a folder, each only if it changed."""
    folder.mkdir(exist_ok=True)
    for name, lines in (("options", _options()), ("experiments", _experiments()), ("api", _api())):
        path, text = folder / f"{name}.md", "\n".join(lines) + "\n"
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _options() -> Iterator[str]:
    yield "# Options\n"
    yield "Every option of every command. `snn-delays <command> --help` lists them, too.\n"
    for command, schema in SCHEMAS.items():
        if command == "demo":  # takes train's
            continue
        yield f"\n## {'data ' if command == 'encode' else ''}{command}\n"
        yield "| option | default | meaning | values |\n|---|---|---|---|"
        for name, value, field in options(schema()):
            choices = field.metadata["choices"]
            values = ", ".join(f"`{choice}`" for choice in choices) if choices else ""
            meaning = _cell(field.metadata["help"])
            default = _cell(_written(value))
            yield f"| `{WRITTEN.get(name, name)}` | `{default}` | {meaning} | {values} |"


def _written(value: object) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return text.replace("|", r"\|").replace("<", r"\<")


def _experiments() -> Iterator[str]:
    yield "# Experiments\n"
    yield "`snn-delays train experiment=<name>` trains one; `configs/experiment` holds the files.\n"
    folder = config_folder() / "experiment"
    paths = sorted(folder.rglob("*.yaml"))
    for group, files in itertools.groupby(paths, lambda path: path.parent.name):
        yield f"\n## {group}\n"
        for path in files:
            what, said = _header(path.read_text("utf-8"))
            facts = (f"  - {fact}: {said[fact]}" for fact in FACTS if fact in said)
            name = path.relative_to(folder).with_suffix("").as_posix()
            yield "\n".join([f"`{name}`", f": {what}\n", *facts, ""])


def _header(text: str) -> tuple[str, dict[str, str]]:
    """What an experiment is, and the facts that its comment states."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()[1:])
    comment = [line.removeprefix("#") for line in lines]
    facts: dict[str, str] = {}
    what, key = [], ""
    for line in comment:
        named = re.match(r" ([A-Z][a-z]+): (.*)", line)
        if named:
            key = named[1]
            facts[key] = named[2]
        elif line.startswith("   ") and key:
            facts[key] += f" {line.strip()}"
        elif not line.startswith("   ") and not facts:
            what.append(line.strip())
    return " ".join(what), facts


def _api() -> Iterator[str]:
    yield "# API\n"
    for title, modules in API.items():
        yield f"\n## {title}\n"
        for module in modules:
            yield f"```{{eval-rst}}\n.. automodule:: snn_delays.{module}\n   :members:\n```\n"
