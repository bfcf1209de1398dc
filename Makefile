# Two commands do everything on a fresh machine with Python 3.11 to 3.13 and make:
#   make demo   sets up, syncs a real public catalog and queries it
#   make test   sets up and passes the tests
.PHONY: help install demo test test-faults test-contract test-prefect test-spark docs lint bench audit lock clean
.DEFAULT_GOAL := help

# Without bytecode every process that a test starts would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
# What is installed: what the demo needs, then all the rest.
DEMO := .venv/.demo
INSTALLED := .venv/.installed
# A lock file constrains itself (-c), for pip before 23.3 overlooks a pin where a package is asked for with an extra.
# Python compiles what is imported when it is; compiling all of it first would take a quarter of the time.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
LOCKED = $(INSTALL) --require-hashes -r $(1) -c $(1)
RESOLVE = .venv-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
  --python-version 3.11 --upgrade

help:  ## Show this.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install: $(INSTALLED)  ## Make .venv from requirements.lock, every package checked by its hash (two minutes, 1.3 GB).

$(DEMO): requirements-demo.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "ahi-catalog needs Python 3.11 to 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv for the demo: a minute or less, once"
	$(PYTHON) -m venv .venv
	$(call LOCKED,requirements-demo.lock)
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): $(DEMO) requirements.lock
	@echo "Setting up .venv for the tests: a minute or two, once"
	$(call LOCKED,requirements.lock)
	@touch $@

demo: $(DEMO)  ## Sync a real public catalog from the embedded service, then query it; again: incrementally (two minutes, the first of them to set up: 0.6 GB).
	@$(BIN)/ahi-catalog demo

test: $(INSTALLED)  ## Run all tests, the fault suite in its short form (seven minutes, and one or two to set up: 1.3 GB).
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

test-faults: $(INSTALLED)  ## Run the fault suite in full, with a table of what was injected (AHI_FAULTS_SEED=1: the first seed).
	AHI_FAULTS=full $(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/faults

test-spark: $(INSTALLED)  ## Prove the DDL on Spark (two minutes): installs pyspark (460 MB); skips where there is no Java 17.
	$(call LOCKED,requirements-spark.lock)
	$(BIN)/python -m pytest -m spark tests/spark

test-contract: $(INSTALLED)  ## Prove the data contract by datacontract-cli.
	$(PYTHON) -m venv .venv-contract
	.venv-contract/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-contract.lock
	PATH="$$PATH:$(CURDIR)/.venv-contract/bin" $(BIN)/python -m pytest -m contract tests/contract
	rm -r .venv-contract

test-prefect: $(INSTALLED)  ## Run what needs real Prefect servers and workers (five minutes).
	$(BIN)/python -m pytest -m prefect

lint: $(INSTALLED)  ## Check style, formatting and types (a minute).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## Make the pages that follow from the code.
	$(BIN)/python -c 'from ahi_catalog.schemas import dictionary; print(dictionary.render(), end="")' > docs/data-dictionary.md
	$(BIN)/python -m tests.support.settings_page

bench: $(INSTALLED)  ## Run the benchmarks; ratios of one run can be compared, seconds of two runs cannot.
	$(call LOCKED,requirements-bench.lock)
	$(BIN)/python -m benchmarks.emulator_pages
	$(BIN)/python -m benchmarks.run

audit: $(INSTALLED) .venv-audit/.installed  ## List known vulnerabilities, licences and an SBOM, into audit/.
	@.ci/audit $(BIN)/python

.venv-audit/.installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check \
	  'pip-audit>=2.10,<3' 'pip-licenses>=5.5,<6' 'cyclonedx-bom>=7.3,<8'
	@touch $@

# Each after the first is constrained by it, so that what several need is one version.
lock:  ## Resolve the lock files anew, with hashes and without index URLs.
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'
	$(RESOLVE) pyproject.toml --all-extras --group build --output-file requirements.lock
	$(RESOLVE) pyproject.toml --extra demo --group build --constraints requirements.lock --output-file requirements-demo.lock
	$(RESOLVE) pyproject.toml --extra aws --group build --constraints requirements.lock --output-file requirements-image.lock
	$(RESOLVE) --group bench --constraints requirements.lock --output-file requirements-bench.lock
	$(RESOLVE) --group spark --output-file requirements-spark.lock
	$(RESOLVE) --group contract --output-file requirements-contract.lock
	rm -r .venv-lock

clean:  ## Remove what the targets above made, the demo's catalog included.
	rm -rf .venv .venv-audit .venv-contract .venv-lock audit demo-catalog .mypy_cache .pytest_cache .ruff_cache .hypothesis
