"""Text wrapped to the width of the terminal."""

from __future__ import annotations

import re
import shutil
import textwrap

# Continued lines begin below the text of this line: after its indent, its "usage: ", or the word in
# front of two spaces.
BEFORE_TEXT = re.compile(r"usage: | *\S+  +| *")


def wrapped(text: str, indent: int = 0) -> str:
    """``text`` with long lines broken at spaces; words longer than the terminal stay whole.

    Args:
        text: any number of lines, of which none is joined to the next.
        indent: additional spaces before the continuation of a line.
    """
    width = shutil.get_terminal_size().columns
    return "\n".join(_wrapped(line, width, indent) for line in text.splitlines())


def _wrapped(line: str, width: int, indent: int) -> str:
    before = BEFORE_TEXT.match(line)
    assert before is not None  # the pattern matches nothing, too
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * (before.end() + indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
