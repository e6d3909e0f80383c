# make demo: see what learned delays are worth.  make test: the whole test suite.
PYTHON ?= python3
BIN = .venv/bin
# The CPU build of torch; a plain `pip install torch` may fetch gigabytes of CUDA.
TORCH = torch==2.13.0
CPU_INDEX = https://download.pytorch.org/whl/cpu

.PHONY: demo test test-slow lint docs strip hooks clean

demo: .venv/installed
	$(BIN)/snn-delays demo

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow -s

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pages of docs/, with what is generated of the code; open docs/_build/index.html.
docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

# Notebooks without outputs, as they are committed.
strip: .venv/installed
	$(BIN)/python -m scripts.strip_notebooks

# Do so at every commit.
hooks:
	git config core.hooksPath .githooks

.venv/installed: pyproject.toml constraints.txt
	@echo "Making .venv: torch for the CPU, then the package; a few minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check "$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/pip install -q "$(TORCH)+cpu" --index-url $(CPU_INDEX) 2>/dev/null \
	  || $(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv build dist
