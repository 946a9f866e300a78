# `make` alone lists the targets. Each one makes .venv first if it is missing or older than pyproject.toml.

# The first of these that is Python 3.11 or newer and can make virtual environments. Or say which: make PYTHON=/path/to/python3
PYTHON ?= $(shell for python in python3.15 python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$python"; break; }; done)
NO_PYTHON = Python 3.11 or newer with its venv module is needed (on Debian and Ubuntu: apt install python3-venv). \
	Install it, or say where it is: make PYTHON=/path/to/python3

BIN := .venv/bin
READY := .venv/.ready
SITE_READY := .venv/.site-ready
SPREAD := --numprocesses 4 --dist worksteal
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check fix soak oracles live docs docs-serve bench pykka-suite clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## see it work: streaming, tools, a crash, a kill and a resume, without any key
	@$(BIN)/python -m examples.demo

test: check  ## everything that must hold: `make check`, then the tests
	@$(BIN)/python -m pytest $(SPREAD)

check: $(READY)  ## the gate without the tests: format, lint, types, who imports whom
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: $(READY)  ## format, and repair what the linter can repair
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

soak: $(READY)  ## the tests that run for minutes, and 10,000 seeds of each scenario that is simulated
	@SEEDS=10000 $(BIN)/python -m pytest $(SPREAD) -m "soak or simulation"
	@EVERY_BYTE=1 $(BIN)/python -m pytest $(SPREAD) tests/conformance --timeout 3600

oracles: $(READY)  ## the official SDKs read the recorded answers beside us; installs them, so it needs the network
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group oracles
	@$(BIN)/python -m pytest tests/conformance/test_*_sdk.py

live: $(READY)  ## ask every real provider whose key is in the environment, or in .env: costs a little money
	@$(BIN)/python -m pytest -m live

docs: $(SITE_READY)  ## the documentation as a site, in build/docs; whatever is wrong with a page is an error
	@$(MKDOCS) build --config-file docs/site/mkdocs.yml

docs-serve: $(SITE_READY)  ## the same on http://127.0.0.1:8000, built again at each change
	@$(MKDOCS) serve --config-file docs/site/mkdocs.yml --watch examples --watch allm_actors --watch supervisors

bench: $(READY)  ## measure, on this machine
	@$(BIN)/python -m benchmarks

pykka-suite: $(READY)  ## the tests of Pykka itself over our dispatchers; fetches them, so it needs the network
	@$(BIN)/python tests/conformance/pykka_suite.py

clean:  ## remove .venv and everything else that was built here
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `pip install --group` is pip 25.1; a stock Python 3.11 brings pip 23, so the first step is a newer pip.
$(READY): pyproject.toml
	$(if $(PYTHON),,$(error $(NO_PYTHON)))
	@echo "making .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

$(SITE_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@
