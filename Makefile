# make demo: see what learned delays are worth.  make test: all tests but the slow ones.
PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/pip install -q --no-compile --disable-pip-version-check
# The CPU build of torch; a plain `pip install torch` may fetch gigabytes of CUDA.
TORCH = torch==2.13.0
CPU_INDEX = https://download.pytorch.org/whl/cpu

.PHONY: demo test test-all lint docs dist strip hooks clean

demo: .venv/installed
	$(BIN)/snn-delays demo

# A file's tests stay in one process; files start in the order of tests/conftest.py, longest first.
# Compiled Python is kept, whatever the environment says, for the processes that tests start.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/dev
	$(PYTEST)

test-all: .venv/dev
	$(PYTEST) -m "slow or not slow"

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Build the pages of docs/, including those generated from the code; open docs/_build/index.html.
docs: .venv/dev
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

# Build and check the files for the package index; CONTRIBUTING.md lists the steps of a release.
dist: .venv/dev
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/twine check --strict dist/*

# Remove the notebooks' outputs, as they are committed without them.
strip: .venv/dev
	$(BIN)/python -m scripts.strip_notebooks

# Remove them at every commit.
hooks:
	git config core.hooksPath .githooks

# The package. Byte-compiling everything would take longer than what Python compiles as it imports.
.venv/installed: pyproject.toml constraints.txt
	@echo "Making .venv: torch for the CPU, then the package; a minute or two the first time."
	$(PYTHON) -m venv .venv
	$(INSTALL) "$(TORCH)+cpu" 2>/dev/null \
	  || $(INSTALL) "$(TORCH)+cpu" --index-url $(CPU_INDEX) 2>/dev/null \
	  || $(INSTALL) "$(TORCH)"
	$(INSTALL) -c constraints.txt -e .
	@touch $@

# What tests, linters and documentation need besides.
.venv/dev: .venv/installed
	$(INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv build dist
