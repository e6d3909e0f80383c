"""The command line: ``snn-delays <command> [option=value ...]``."""

from __future__ import annotations

import os
import sys

COMMANDS = {
    "train": "train a network and test it",
    "evaluate": "accuracy of a run's deployed network",
    "demo": "train with learned, fixed and no delays on data made here, and compare",
}

USAGE = "usage: snn-delays <command> [option=value ...]\n\ncommands:\n{commands}\n\n{rest}"
REST = """`snn-delays <command> --help` lists its options.
Tab completion: eval "$(snn-delays -sc install=bash)"  (or zsh, fish)"""


def main() -> None:
    """Run the command that the first argument names."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["-sc"] or arguments[:1] == ["--shell-completion"]:
        arguments = _completion(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    command = arguments[0]
    if command not in COMMANDS:
        from snn_delays.config import nearest

        hint = nearest(command, list(COMMANDS))
        print(
            f"There is no command {command!r}; choose from {', '.join(COMMANDS)}.{hint}",
            file=sys.stderr,
        )
        sys.exit(2)
    _run(command, arguments[1:])


def _run(command: str, arguments: list[str]) -> None:
    sys.argv = [sys.argv[0], *arguments]
    if command == "demo":
        from snn_delays.cli import demo

        demo.main()
    elif command == "evaluate":
        from snn_delays.cli import evaluate

        evaluate.main()
    else:
        from snn_delays.cli import train

        train.main()


def _usage() -> str:
    commands = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    return USAGE.format(commands=commands, rest=REST)


def _completion(arguments: list[str]) -> list[str]:
    """Hydra's shell completion knows no commands: complete those here and hide the chosen one."""
    if not arguments[1:] or not arguments[1].startswith("query="):
        return ["train", *arguments]
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    command = words[1] if len(words) > 1 else ""
    if command not in COMMANDS or line.endswith(command):
        print(" ".join(name for name in COMMANDS if name.startswith(command)))
        sys.exit(0)
    os.environ["COMP_LINE"] = line.replace(f" {command}", "", 1)
    return [command, *arguments]
