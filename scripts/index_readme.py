"""The README for the package index, which serves none of the files that its links lead to.

Hatchling runs the hook whenever it builds the package (``pyproject.toml``). A link into the
repository becomes one to the release's files at ``[project.urls] Repository``, the address of a
repository on GitHub; without an address the link becomes its text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# [text](target), where the target is no address; text may hold `code` and (parentheses)
LINK = re.compile(r"(!?)\[([^][]+)\]\((?!\w+:)([^)\s]+)\)")


class IndexReadme(MetadataHookInterface):
    """Sets the package's readme."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text of README.md, with its links rewritten, to the package's metadata."""
        address = metadata.get("urls", {}).get("Repository")
        release = f"{address.rstrip('/')}/{{kind}}/v{metadata['version']}" if address else None
        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": rewritten(text, release)}


def rewritten(text: str, release: str | None) -> str:
    """Markdown whose links lead out of the repository.

    Args:
        text: Markdown; its links are relative to the repository's root, or start with #.
        release: address of the release's files, with "{kind}" for "blob" (pages) or "raw"
            (pictures); None: links become their text, and pictures their description.
    """

    def one(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if release is None:
            return words
        path = f"README.md{target}" if target.startswith("#") else target
        return f"{picture}[{words}]({release.format(kind='raw' if picture else 'blob')}/{path})"

    return LINK.sub(one, text)
