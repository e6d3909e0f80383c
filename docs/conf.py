"""Settings of Sphinx; ``make docs`` builds the pages into ``docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs import generate

project = "snn_delays"
author = "the snn_delays authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False
html_theme = "furo"
html_title = "snn_delays"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
autodoc_typehints = "none"  # signatures have them


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    app.connect("config-inited", lambda *_: generate.write(Path(__file__).parent / "reference"))
