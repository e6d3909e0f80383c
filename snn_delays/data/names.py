"""Checks of the names of classes and speakers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from snn_delays.errors import UserError

_UNSHOWABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control characters, surrogates and line ends


def is_showable(name: str) -> bool:
    """Whether a name has no control characters, line ends or bytes that are not text."""
    return not any(unicodedata.category(letter) in _UNSHOWABLE for letter in name)


def checked_names(names: Iterable[str], where: str) -> list[str]:
    """Names in Unicode's composed form, after a check that each can be shown and occurs once.

    Args:
        names: the names, in order of their number.
        where: the list's name in messages.

    Raises:
        UserError: ``names`` is one text instead of a list, or a name is empty, has a control
            character or occurs twice.
    """
    if isinstance(names, str):
        raise UserError(f"{where} must be a list of names, not the one text {names!a}.")
    numbers: dict[str, int] = {}
    for number, name in enumerate(unicodedata.normalize("NFC", name) for name in names):
        if not name.strip():
            raise UserError(f"{where} has an empty name, number {number}.")
        if not is_showable(name):
            raise UserError(f"{where} has a name with a control character, {name!a}: rename it.")
        first = numbers.setdefault(name, number)
        if first != number:
            raise UserError(
                f"{where} has the name {name} twice, as number {first} and number {number}: give"
                " each a name of its own."
            )
    return list(numbers)
