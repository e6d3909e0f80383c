"""What goes to the package index: the files are whole, valid, and work where they are installed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling import build
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twine.commands.check import check

from scripts.index_readme import rewritten

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The source distribution, the folder of its files, and a wheel that is built from them."""
    folder = tmp_path_factory.mktemp("dist")
    with contextlib.chdir(ROOT):
        source = folder / build.build_sdist(str(folder))
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source", filter="data")
    unpacked = folder / "source" / source.name.removesuffix(".tar.gz")
    with contextlib.chdir(unpacked):
        wheel = folder / build.build_wheel(str(folder))
    return {"sdist": source, "wheel": wheel, "source": unpacked}


@pytest.fixture(scope="module")
def site(files, tmp_path_factory) -> Path:
    """A folder in which the wheel is installed."""
    site = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile",
         "--disable-pip-version-check", "--target", str(site), str(files["wheel"])],
        check=True,
    )  # fmt: skip
    return site


def run(site: Path, folder: Path, *command: str) -> str:
    """What a command prints that finds the installed package first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def test_the_package_index_takes_the_files(files, capsys) -> None:
    failed = check([str(files[kind]) for kind in ("sdist", "wheel")], strict=True)
    assert not failed, capsys.readouterr().out


def readme(wheel: Path) -> str:
    """The text that the package index shows."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return archive.read(name).decode().partition("\n\n")[2]


def test_the_index_shows_no_dead_link(files) -> None:
    shown = readme(files["wheel"])
    links = re.findall(r"\]\(([^)]*)\)", shown)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert shown.strip() == rewritten((ROOT / "README.md").read_text("utf-8"), None).strip()


def test_with_an_address_the_index_links_to_the_files_of_the_release(files, tmp_path) -> None:
    source = tmp_path / "source"
    shutil.copytree(files["source"], source, ignore=shutil.ignore_patterns("PKG-INFO"))
    with (source / "pyproject.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[project.urls]\nRepository = "https://github.com/nobody/nothing"\n')
    with contextlib.chdir(source):
        wheel = tmp_path / build.build_wheel(str(tmp_path))
    assert not check([str(wheel)], strict=True)
    here = f"https://github.com/nobody/nothing/blob/v{PROJECT['version']}/"
    linked = re.findall(rf"\]\({re.escape(here)}([^)#]*)", readme(wheel))
    assert {"README.md", "docs/glossary.md"} <= {*linked}
    assert all((ROOT / path).is_file() for path in linked)
    assert not re.search(r"\]\((?!https://)", readme(wheel))


def test_pictures_become_their_description_or_lead_to_the_raw_file() -> None:
    text = "![a `b` (c)](docs/x.png) [d](#e) [f](https://g.org/h)"
    assert rewritten(text, None) == "a `b` (c) d [f](https://g.org/h)"
    assert rewritten(text, "https://i/{kind}/v1") == (
        "![a `b` (c)](https://i/raw/v1/docs/x.png) [d](https://i/blob/v1/README.md#e)"
        " [f](https://g.org/h)"
    )


def test_the_source_distribution_carries_what_the_tests_need(files) -> None:
    with tarfile.open(files["sdist"]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    committed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    left_out = (".ci/", ".github/", ".githooks/")
    assert {name for name in committed if not name.startswith(left_out)} <= packed


def test_an_installed_wheel_is_whole_and_says_its_release(site, tmp_path) -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert (site / "snn_delays" / "configs" / path.relative_to(ROOT / "configs")).is_file()
    assert (site / "snn_delays" / "py.typed").is_file()
    assert (site / "snn_delays" / "networks" / "fsdd-best.h5").is_file()
    code = """
import json, snn_delays
from dataclasses import asdict
from snn_delays.cli.compose import compose
from snn_delays.training import provenance
config = compose("train", ["experiment=paper/ssc"])
print(json.dumps([snn_delays.__file__, provenance.commit(), config.data.name]))
"""
    file, commit, data = json.loads(run(site, tmp_path, "-c", code))
    assert Path(file).is_relative_to(site)
    assert commit == f"v{PROJECT['version']}"
    assert data == "ssc"


def test_the_installed_command_runs(site, tmp_path) -> None:
    script = str(site / "bin" / "snn-delays")
    assert run(site, tmp_path, script, "--version") == f"{PROJECT['version']}\n"


def test_the_version_stands_in_the_citation_and_the_changelog() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"\n## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_constraints_hold_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = PROJECT["optional-dependencies"].values()
    for text in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(text)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, text
