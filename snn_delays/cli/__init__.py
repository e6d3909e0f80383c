"""The command line: ``snn-delays <command> [option=value ...]``."""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata

from snn_delays.cli.groups import complete
from snn_delays.cli.wrapping import wrapped
from snn_delays.config.options import nearest
from snn_delays.output import guarded, own_descriptors

COMMANDS = {
    "train": "train a network and test it",
    "evaluate": "accuracy of a run's deployed network",
    "analyse": "report on what the delays of a run learned, or compare runs",
    "benchmark": "train the networks of a suite with several seeds, and compare them",
    "predict": "what a run's deployed network says of recordings",
    "export": "a run's deployed network in another form, compared with it spike by spike",
    "live": "what a run's deployed network says of what a microphone hears",
    "runs": "list runs: seed, accuracy or state, changed options",
    "data": "prepare, verify and describe data sets; encode audio as spikes",
    "demo": "train with learned, fixed and no delays on data made here, and compare",
}
DATA_ACTIONS = ("prepare", "verify", "info", "encode")

USAGE = "usage: snn-delays <command> [option=value ...]\n\ncommands:\n{commands}\n\n{rest}"
REST = """`snn-delays <command> --help` lists its options.
Tab completion: eval "$(snn-delays -sc install=bash)"  (or zsh, fish)"""


def main() -> None:
    """Run the command that the first argument names."""
    own_descriptors()
    with guarded():
        _main(sys.argv[1:])


def _main(arguments: list[str]) -> None:
    command, *rest = arguments or ["--help"]
    if command in ("-sc", "--shell-completion"):
        _complete(arguments)
    elif command in ("-h", "--help", "help"):
        named = [word for word in rest if word in COMMANDS]
        _run(named[0], ["--help"]) if named else print(_usage())
    elif "--version" in arguments:
        print(metadata.version("snn_delays"))
    elif command in COMMANDS:
        _run(command, rest)
    else:
        print(_no_command(command), file=sys.stderr)
        sys.exit(2)


def _no_command(word: str) -> str:
    """A sentence about a first word that is no command."""
    sentence = f"There is no command {word!r}; choose from {', '.join(COMMANDS)}."
    if word.startswith("-") or "=" in word:
        return f"{sentence} Options follow the command, as in `snn-delays train train.epochs=3`."
    return f"{sentence}{nearest(word, list(COMMANDS))}"


def _run(command: str, arguments: list[str]) -> None:
    sys.argv = [sys.argv[0], *arguments]
    importlib.import_module(f"snn_delays.cli.{command}").main()


def _usage() -> str:
    commands = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    return wrapped(USAGE.format(commands=commands, rest=REST))


def _complete(arguments: list[str]) -> None:
    """Print completions; Hydra installs the shell's side, but does not know these commands."""
    shell = arguments[-1].rpartition("=")[2]
    if not arguments[-1].startswith("query="):
        return _run("train", arguments)
    words = os.environ.get("COMP_LINE", "").split(" ")
    command, word = words[1] if len(words) > 1 else "", words[-1]
    if len(words) <= 2:
        found = [name for name in COMMANDS if name.startswith(command)]
    elif command == "data":
        found = _complete_data(words[2:-1], word)
    else:
        found = complete(command, word) if command in COMMANDS else []
    print(("\n" if shell == "fish" else " ").join(found))
    return None


def _complete_data(before: list[str], word: str) -> list[str]:
    if not before:
        return [name for name in DATA_ACTIONS if name.startswith(word)]
    return complete("encode" if before[0] == "encode" else "train", word)
