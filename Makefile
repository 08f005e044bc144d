# `make serve` runs the node, `make test` runs all tests. The only requirement is Python >= 3.11.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest

# Many containers set PYTHONDONTWRITEBYTECODE: each of the suite's hundreds of node starts would compile all code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test long soak check fmt bench tools engine pythons clean

serve: $(VENV)/.runtime
	@exec $(BIN)/pareta-agent serve $(ARGS)

# The whole suite: lint, types, layers, unit, integration, faults, and real vLLM on CPU.
test: $(VENV)/.dev tools engine lint
	@$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not long and not gpu" $(ARGS)

# Tests that take minutes each: real engines killed, stopped and frozen at many moments, compiled mode, every kernel.
long: $(VENV)/.dev tools engine
	@$(PYTEST) -m long $(ARGS)

# Half an hour of mixed load with a fault every five seconds; watches memory and descriptors.
soak: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python -m moneylab.soak $(ARGS)

# The fast tier, for each commit. A third process uses the cores while the others wait.
check: $(VENV)/.dev lint
	@$(PYTEST) -n 3 -m "not slow and not engine and not gpu and not long" $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: make fmt"; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }

fmt: $(VENV)/.dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

bench: $(VENV)/.dev engine
	@$(BIN)/python benchmarks/overhead.py $(ARGS)

# Installs programs that some tests run (promtool, Node, an OCI registry). Without root these tests are skipped.
tools:
	@sh tests/tools.sh

# The unit tests under each other installed Python, one process each.
pythons: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python tests/pythons.py

engine: $(VENV)/.dev
	@$(BIN)/pareta-agent engine install --cpu

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is required, this is " + sys.version.split()[0] + "; set it: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	@echo "installing pareta-agent into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing pareta-agent and its test tools into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
