# Every target makes the environment that it needs and installs only what it needs into it.
# A set is installed anew when pyproject.toml is newer than its stamp.

PYTHON ?= python3
# Some peers that are measured need this one; without it they are left out.
NEWER  ?= python3.12
VENV   ?= .venv
# More words for pytest, the benchmarks or the demo: make test ARGS="-k retry -x"
ARGS   ?=

# The gate: the branches of these files are run by the tests, the tests of these rooms included. All of
# them is the aim; a few are still without a test.
GATED        := src/qanat/_core/*,src/qanat/_engine/*,tests/_core/*,tests/_engine/*
GATE_PERCENT := 99

BIN       := $(VENV)/bin
BENCH_BIN := .venv-bench/bin
PIP       := -m pip --disable-pip-version-check --quiet install

# What each set of targets installs.
DEMO_EXTRAS  := cli
TEST_EXTRAS  := cli,redis,system,trio,uvloop,test
LINT_EXTRAS  := cli,redis,system,trio,uvloop,test,lint
DOCS_EXTRAS  := docs
BENCH_EXTRAS := redis,trio,uvloop,bench

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-long test-crash check style types mypy pyright layers dependencies changelog docs \
  bench plots format clean

help: ## show this list
	@echo "make TARGET [PYTHON=python3.13] [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(VENV)/.stamp-demo ## see qanat at work
	@$(BIN)/qanat demo $(ARGS)

# Those that start processes have a file of theirs to themselves; those of faults want the machine, too.
test: $(VENV)/.stamp-test ## run the tests, with the coverage gate
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 -m "not real and not long" $(ARGS)
	$(BIN)/coverage run -m pytest -n 2 -m "real and not long" tests/_engine $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "real and not long" --ignore=tests/_engine --ignore=tests/crash $(ARGS)
	$(BIN)/python -m pytest -m "real and not long" tests/crash $(ARGS)
	$(BIN)/coverage report --include="$(GATED)" --fail-under=$(GATE_PERCENT)

test-long: $(VENV)/.stamp-test ## run the tests with many more generated cases, but for those of test-crash
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=long --timeout=600 -m "not real" $(ARGS)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m real --ignore=tests/crash $(ARGS)

# They kill, stop and starve what they have started, and want the machine for themselves.
test-crash: $(VENV)/.stamp-test ## run the tests of faults and kills, the long ones too
	$(BIN)/python -m pytest tests/crash $(ARGS)

check: style types layers dependencies changelog docs ## run every check that is not a test

style: $(VENV)/.stamp-lint ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: mypy pyright ## check types

mypy: $(VENV)/.stamp-lint
	$(BIN)/mypy

# --verifytypes finds the package through the first python on the path.
pyright: export PATH := $(abspath $(BIN)):$(PATH)
pyright: $(VENV)/.stamp-lint
	pyright
	pyright --verifytypes qanat --ignoreexternal

# Its cache keeps what a file imported before a module of that name was there.
layers: $(VENV)/.stamp-lint ## check that rooms import only what they may
	$(BIN)/lint-imports --no-logo --no-cache

dependencies: $(VENV)/.stamp-lint ## check that what is imported is declared, and the reverse
	$(BIN)/deptry .

changelog: $(VENV)/.stamp-lint ## check the changelog's fragments and show what they make
	$(BIN)/towncrier build --draft --version unreleased

docs: $(VENV)/.stamp-docs ## build the documentation into site/
	$(BIN)/zensical build --clean --strict

plots: $(VENV)/.stamp-test ## draw the pictures of the documentation by the simulator
	$(BIN)/python -m benchmarks.plots
	$(BIN)/python -m benchmarks.picture

bench: .venv-bench/.stamp-bench .venv-bench/newer/.stamp-bench ## measure, beside the peers; BENCH=quick for a look
	$(BENCH_BIN)/python -m benchmarks.run $(ARGS)

format: $(VENV)/.stamp-lint ## format the code and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove everything that was made, the environments included
	rm -rf $(VENV) .venv-bench site dist .cache .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ---

define NEW_ENVIRONMENT
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "qanat needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Name a newer one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(@D)
	@touch $@
endef

$(VENV)/.stamp-venv .venv-bench/.stamp-venv:
	$(NEW_ENVIRONMENT)

$(VENV)/.stamp-demo: pyproject.toml $(VENV)/.stamp-venv
	$(BIN)/python $(PIP) --editable ".[$(DEMO_EXTRAS)]"
	@touch $@

$(VENV)/.stamp-test: pyproject.toml $(VENV)/.stamp-venv
	$(BIN)/python $(PIP) --editable ".[$(TEST_EXTRAS)]"
	@touch $@

$(VENV)/.stamp-lint: pyproject.toml $(VENV)/.stamp-venv
	$(BIN)/python $(PIP) --editable ".[$(LINT_EXTRAS)]"
	@touch $@

$(VENV)/.stamp-docs: pyproject.toml $(VENV)/.stamp-venv
	$(BIN)/python $(PIP) --editable ".[$(DOCS_EXTRAS)]"
	@touch $@

.venv-bench/.stamp-bench: pyproject.toml .venv-bench/.stamp-venv
	$(BENCH_BIN)/python $(PIP) --editable ".[$(BENCH_EXTRAS)]"
	@touch $@

# Stamped only where that Python is there, so a later one is noticed.
.venv-bench/newer/.stamp-bench: pyproject.toml .venv-bench/.stamp-bench
	@if $(BENCH_BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then \
	  :; \
	elif $(NEWER) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	  $(NEWER) -m venv $(@D) && \
	  $(@D)/bin/python $(PIP) --editable ".[$(BENCH_EXTRAS)]" && \
	  touch $@; \
	else \
	  echo "without $(NEWER), the peers that need Python 3.12 are not measured" >&2; \
	fi
