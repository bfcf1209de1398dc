# Two commands do everything on a fresh machine with Python 3.11 to 3.13 and make:
#   make demo   sets up, syncs a real public catalog and queries it
#   make test   sets up and passes the tests
.PHONY: help install demo test test-prefect lint bench lock clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

help:  ## Show this.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install: $(INSTALLED)  ## Make .venv from requirements.lock, every package checked by its hash.

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "ahi-catalog needs Python 3.11 to 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)  ## Sync a real public catalog from the embedded service, then query it; again: incrementally.
	@$(BIN)/ahi-catalog demo

test: $(INSTALLED)  ## Run all tests.
	$(BIN)/python -m pytest

test-prefect: $(INSTALLED)  ## Run the deployments on a real Prefect server and worker (minutes).
	$(BIN)/python -m pytest -m prefect

lint: $(INSTALLED)  ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## Run the benchmarks; ratios of one run can be compared, seconds of two runs cannot.
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock:  ## Resolve requirements.lock anew, with hashes and without index URLs.
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'
	.venv-lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --all-extras --python-version 3.11 pyproject.toml --output-file requirements.lock
	rm -r .venv-lock

clean:  ## Remove what the targets above made, the demo's catalog included.
	rm -rf .venv .venv-lock demo-catalog .mypy_cache .pytest_cache .ruff_cache .hypothesis
