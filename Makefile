# Two commands do everything on a fresh machine with Python 3.11 to 3.13 and make:
#   make demo   sets up, syncs a real public catalog and queries it
#   make test   sets up and passes the tests
.PHONY: help install demo test test-faults test-prefect test-spark docs lint bench audit lock clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# A lock file constrains itself (-c), for pip before 23.3 overlooks a pin where a package is asked for with an extra.

help:  ## Show this.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install: $(INSTALLED)  ## Make .venv from requirements.lock, every package checked by its hash.

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "ahi-catalog needs Python 3.11 to 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv: a minute or two, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)  ## Sync a real public catalog from the embedded service, then query it; again: incrementally.
	@$(BIN)/ahi-catalog demo

test: $(INSTALLED)  ## Run all tests, the fault suite in its short form.
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-faults: $(INSTALLED)  ## Run the fault suite in full, with a table of what was injected (AHI_FAULTS_SEED=1: the first seed).
	AHI_FAULTS=full $(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/faults

test-spark: $(INSTALLED)  ## Prove the DDL on Spark: installs pyspark (460 MB); skips where there is no Java 17.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-spark.lock -c requirements-spark.lock
	$(BIN)/python -m pytest -m spark tests/spark

test-prefect: $(INSTALLED)  ## Run the deployments on a real Prefect server and worker (minutes).
	$(BIN)/python -m pytest -m prefect

lint: $(INSTALLED)  ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## Make the pages that follow from the code.
	$(BIN)/python -c 'from ahi_catalog.schemas import dictionary; print(dictionary.render(), end="")' > docs/data-dictionary.md

bench: $(INSTALLED)  ## Run the benchmarks; ratios of one run can be compared, seconds of two runs cannot.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock -c requirements-bench.lock
	$(BIN)/python -m benchmarks.emulator_pages
	$(BIN)/python -m benchmarks.run

audit: $(INSTALLED) .venv-audit/.installed  ## List known vulnerabilities, licences and an SBOM, into audit/.
	@.ci/audit $(BIN)/python

.venv-audit/.installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check \
	  'pip-audit>=2.10,<3' 'pip-licenses>=5.5,<6' 'cyclonedx-bom>=7.3,<8'
	@touch $@

lock:  ## Resolve requirements.lock anew, with hashes and without index URLs.
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'
	.venv-lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --all-extras --python-version 3.11 pyproject.toml --output-file requirements.lock
	.venv-lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --group spark --output-file requirements-spark.lock
	# Constrained by the first, so that what both need is one version.
	.venv-lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --group bench --constraints requirements.lock --output-file requirements-bench.lock
	rm -r .venv-lock

clean:  ## Remove what the targets above made, the demo's catalog included.
	rm -rf .venv .venv-audit .venv-lock audit demo-catalog .mypy_cache .pytest_cache .ruff_cache .hypothesis
