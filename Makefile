# `make` alone prints the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help sim venv check format test cluster-test kind demo run bench docs clean

help: ## Print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

CODECS := $(wildcard proxy/forebay_core/*/compiled.pyx proxy/forebay_core/*/types.py)

$(READY): pyproject.toml $(CODECS)
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

cluster-test: $(READY) ## The tests on the cluster of KUBECONFIG (tests/cluster/conftest.py)
	$(BIN)/python -m pytest -q -m cluster

kind: ## A kind cluster with Forebay, a sample pool and Prometheus in it (needs docker, kind, kubectl, helm)
	kind get clusters | grep -qx forebay || kind create cluster --config kind-config.yaml
	for part in proxy operator; do \
	  docker build --tag forebay-$$part:dev --file $$part/Dockerfile . && \
	  kind load docker-image --name forebay forebay-$$part:dev || exit 1; \
	done
	helm upgrade --install forebay charts/forebay --kube-context kind-forebay --namespace forebay-system \
	  --create-namespace --set image.operator.tag=dev,image.proxy.tag=dev --wait
	kubectl --context kind-forebay apply -f manifests/kind/prometheus.yaml
	cat manifests/kind/prometheus.yml docs/how-to/prometheus.yaml | \
	  kubectl create configmap prometheus --namespace monitoring --from-file=prometheus.yml=/dev/stdin \
	  --from-file=charts/forebay/files/alerts.yaml --dry-run=client -o yaml | kubectl --context kind-forebay apply -f -
	kubectl --context kind-forebay apply -k tests/cluster/backend
	kubectl --context kind-forebay apply -f manifests/examples/http.yaml
	kubectl --context kind-forebay wait --for=condition=Ready proxypool/orders --timeout=60s
	kubectl --context kind-forebay get proxypools

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY) ## A small backend, a pool in front of it and load, watched live for a minute
	$(BIN)/forebay demo

run: $(READY) ## Run a pool: make run FILE=pool.yaml
	$(BIN)/forebay run -f $(FILE)

bench: $(READY) ## Side by side with peers: make bench SCENARIO="http-1k http-tls"; none: all
	$(BIN)/pip install --quiet --group bench
	test -e $(VENV)/peers || $(PYTHON) -m venv $(VENV)/peers
	$(BIN)/pip --python $(VENV)/peers install --quiet --group peers
	$(BIN)/python -m bench $(SCENARIO)

sim: $(READY) ## The autoscaler's scoreboard, in simulation (minutes)
	$(BIN)/python -m tests.simulation

docs: $(READY) ## Write the generated files anew
	$(BIN)/python -m forebay_core.spec.crd > manifests/crd/proxypools.forebay.dev.yaml
	$(BIN)/python -m forebay_core.spec.reference > docs/reference/proxypool.md
	$(BIN)/python -m forebay_proxy.metrics > docs/reference/metrics.md
	$(BIN)/python -m forebay_operator.metrics > docs/reference/operator-metrics.md
	$(BIN)/python -m bench.page
	cp manifests/crd/proxypools.forebay.dev.yaml charts/forebay/files/
	$(BIN)/python -m tests.chart.dashboard > charts/forebay/files/dashboard.json
	$(BIN)/python -m tests.chart.readme > charts/forebay/README.md
	$(BIN)/python -m tests.chart.rendered > manifests/install.yaml.new && mv manifests/install.yaml.new manifests/install.yaml

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
