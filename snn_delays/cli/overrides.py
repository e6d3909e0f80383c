"""Translates the words of a command line for Hydra: flags, and ``option=value``.

Hydra parses every value by a grammar of its own, in which ``2026_11_27`` is a number and ``a=b`` or
``müller`` is an error. Values of options that are text in the schema are therefore quoted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from snn_delays.cli.groups import SCHEMAS, meant_options, option_names, use_folders
from snn_delays.config import BenchmarkConfig, Config
from snn_delays.config.options import (
    WRITTEN,
    close_matches,
    did_you_mean,
    is_own,
    options,
    shown,
)
from snn_delays.errors import UserError

HELP = "--help"
MULTIRUN = "--multirun"
CONFIG_DIR = "--config-dir"
SEARCH_PATH = "hydra.searchpath="
FILE = "file://"
# Hydra's flags and their values, without the flags that replace the program to run, and without
# --run, which changes nothing: --run <folder> is answered by run=<folder>.
FLAGS: dict[str, tuple[str, ...]] = {
    HELP: (),
    "--hydra-help": (),
    "--resolve": (),
    "--shell-completion": (),
    MULTIRUN: (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": ("PACKAGE",),
    CONFIG_DIR: ("FOLDER",),
    "--config-path": ("FOLDER",),
    "--config-name": ("NAME",),
}
SHORT = {
    "-h": HELP, "-m": MULTIRUN, "-c": "--cfg", "-i": "--info", "-p": "--package",
    "-sc": "--shell-completion",
    "-cd": "--config-dir", "-cp": "--config-path", "-cn": "--config-name",
}  # fmt: skip
UNKNOWN = "<value>"
SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
# an entry of a list: quoted, or up to a comma that is not within brackets
ENTRY = re.compile(rf"\s*({QUOTED.pattern}|(?:\[[^][]*\]|[^,])*?)\s*(?:,|$)", re.DOTALL)


def read(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides of a command line, in Hydra's form.

    Args:
        command: a key of ``SCHEMAS``.
        arguments: the words after the command.

    Returns:
        Flags in their long form, with ``=value`` if they have one; overrides.

    Raises:
        UserError: a word is neither a flag nor an override.
    """
    flags, overrides = split_words(command, arguments)
    sweep = MULTIRUN in flags or "hydra.mode=multirun" in map(str.lower, overrides)
    return flags, as_hydra(command, overrides, sweep=sweep)


def split_words(
    command: str, arguments: Sequence[str], allowed: Container[str] = tuple(FLAGS)
) -> tuple[list[str], list[str]]:
    """Flags in their long form, and the other words as they are.

    Folders of ``--config-dir`` become part of the override ``hydra.searchpath``. ``cli.groups``
    lists what is in these folders from then on.

    Args:
        command: a key of ``SCHEMAS``.
        arguments: the words after the command.
        allowed: the flags that the command takes, besides ``--config-dir``.

    Raises:
        UserError: a flag is not allowed, or a folder does not exist.
    """
    flags, words, places, left = [], [], [], list(arguments)
    while left:
        word = left.pop(0)
        flag = _flag(command, word, left, allowed) if word.startswith("-") else ""
        if flag.startswith(f"{CONFIG_DIR}="):
            places.append(_place(flag.partition("=")[2]))
        elif flag:
            flags.append(flag)
        elif word.startswith(SEARCH_PATH):
            places += map(_place, _entries(word.removeprefix(SEARCH_PATH).strip("[]")))
        else:
            words.append(word)
    use_folders([Path(p.removeprefix(FILE)) for p in places if p.startswith(FILE)])
    if places:
        words.append(f"{SEARCH_PATH}[{','.join(map(quoted, places))}]")
    return flags, words


def _place(text: str) -> str:
    """A place of configurations as Hydra names it; a folder's path is absolute."""
    name = text.strip("'\"").removeprefix(FILE)
    return name if name.startswith("pkg://") else f"{FILE}{Path(name).expanduser().absolute()}"


def _flag(command: str, word: str, following: list[str], allowed: Container[str]) -> str:
    """A flag in its long form; a value in the next word is removed from ``following``."""
    short, equals, value = word.partition("=")
    name = SHORT.get(short, short)
    if name not in allowed and name != CONFIG_DIR:
        raise UserError(_no_flag(command, word, following))
    values = FLAGS[name]
    if not values:
        if equals:
            raise UserError(f"{word} cannot be read: {short} takes no value.")
        return name
    if not equals and name == "--info" and (not following or following[0] not in values):
        return name
    if not equals and not following:
        raise UserError(f"{short} needs a value: write {short} {'|'.join(values)}.")
    value = value if equals else following.pop(0)
    if len(values) > 1 and value not in values:
        raise UserError(f"{name}={value} is not one of {', '.join(values)}.")
    return f"{name}={value}"


def _no_flag(command: str, word: str, following: Sequence[str]) -> str:
    """A sentence about an unknown flag, such as ``--epochs 3``, that suggests an option."""
    flag, equals, value = shown(word).partition("=")
    if flag in FLAGS or flag in SHORT:
        return f"{flag} has no use with this command."
    value = value if equals else _value_behind(following)
    if not flag.strip("-"):
        return f"{flag} is no option; write option=value. --help lists the options."
    name = flag.lstrip("-").replace("-", "_").lower()
    meant = [f"{option}={value}" for option in meant_options(command, name)]
    if value == UNKNOWN:
        meant = _choice_named(command, name) or meant
    if len(meant) == 1 and meant[0].partition("=")[0].endswith(name):
        return f"There is no flag {flag}. Write {meant[0]}."
    flags = close_matches(flag, [*FLAGS, "--version"], cutoff=0.7)
    close = [*flags, *meant] if value != UNKNOWN else flags or meant
    if close:
        return f"There is no flag {flag}.{did_you_mean(close)}"
    return f"There is no flag {flag}; write option=value. --help lists the options."


def _value_behind(following: Sequence[str]) -> str:
    """The value in the word behind a flag or a name, or ``UNKNOWN`` if there is none."""
    values = [word for word in following[:1] if not word.startswith("-") and "=" not in word]
    return (values or [UNKNOWN])[0]


def _choice_named(command: str, name: str) -> list[str]:
    """``option=choice`` for the one option that has a choice called ``name``, as in --gpu."""
    found = []
    for option, field in _fields(command).items():
        words = {choice: choice for choice in field.metadata["choices"]}
        words |= field.metadata["synonyms"]
        found += [f"{option}={words[name]}"] if name in words else []
    return found if len(found) == 1 else []


def as_hydra(command: str, overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Overrides in Hydra's grammar.

    Args:
        command: a key of ``SCHEMAS``.
        overrides: as a person writes them.
        sweep: whether commas separate the values of several runs.

    Raises:
        UserError: see ``refuse_words``.
    """
    refuse_words(command, overrides)
    fields = _fields(command)
    words = [word for override in overrides for word in _own_data(override)]
    return [_as_hydra(fields, word, sweep) for word in words]


def _own_data(override: str) -> list[str]:
    """``data=module:name`` as the option ``data.name``, with the group of files of spikes."""
    key, _, value = override.partition("=")
    return ["data=spikes", f"data.name={value}"] if key == "data" and is_own(value) else [override]


def refuse_words(command: str, words: Sequence[str]) -> None:
    """Refuse words that are not ``option=value``, or that would delete an option.

    Raises:
        UserError: a word is refused; the message says what to write instead.
    """
    for number, word in enumerate(words):
        key, equals, _ = word.partition("=")
        if word.startswith("-"):
            raise UserError(_no_flag(command, word, words[number + 1 :]))
        if key.startswith("~") and not key.startswith("~hydra"):
            raise UserError(
                f"{shown(word)} would delete an option; give it a value (null, where its help says"
                " so)."
            )
        if not key.strip("+") or not (equals or key.startswith("~")):
            written = _written(command, shown(word), words[number + 1 :])
            raise UserError(f"{shown(word)} cannot be read. Write {written}.")


def _as_hydra(fields: dict[str, Any], override: str, sweep: bool) -> str:
    key, equals, value = override.partition("=")
    plus = key[: len(key) - len(key.lstrip("+"))]
    name = key.removeprefix(plus)
    name = next((field for field, written in WRITTEN.items() if written == name), name)
    field = fields.get(name)
    if field is None or "str" not in field.type or (sweep and SWEEP.fullmatch(value)):
        return f"{plus}{name}={value}" if equals else override
    values = _entries(value) if sweep else [value]
    text = _list if "list" in field.type else _text
    return f"{plus}{name}={','.join(map(text, values))}"


def _written(command: str, word: str, following: Sequence[str]) -> str:
    """The right form of a lone word: an option's name, or a value of the first option, an input."""
    if SCHEMAS[command] not in (Config, BenchmarkConfig):
        first = option_names(command)[0]
        return f"{WRITTEN.get(first, first)}={word}"
    named = meant_options(command, word.lower())
    is_name = len(named) == 1 and word.lower() in named[0].split(".")
    return f"{named[0]}={_value_behind(following)}" if is_name else "option=value"


def _fields(command: str) -> dict[str, dataclasses.Field[Any]]:
    return {name: field for name, _, field in options(SCHEMAS[command]())}


def _entries(text: str) -> list[str]:
    """The entries between commas, outside of quotes and brackets."""
    return ENTRY.findall(text)[:-1]  # without the empty match at the end


def _list(value: str) -> str:
    if not (value.startswith("[") and value.endswith("]")):
        return _text(value)  # the schema will refuse it
    return f"[{','.join(map(_text, _entries(value[1:-1])))}]"


def _text(value: str) -> str:
    return value if value in ("", "null") or QUOTED.fullmatch(value) else quoted(value)


def quoted(text: str) -> str:
    """Text quoted for Hydra's grammar, in which commas, brackets and = are special."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def unquoted(override: str) -> str:
    """An override ``name=value`` of Hydra's grammar, with its text as a person writes it."""
    name, equals, value = override.partition("=")
    if QUOTED.fullmatch(value):
        value = re.sub(r"\\(\\|'|\")", r"\1", value[1:-1])
    return f"{name}{equals}{value}"
