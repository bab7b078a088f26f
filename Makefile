# Two commands matter: `make demo` and `make test`. Everything they need, they install.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := .[cost,nats,prometheus,redis,testing,openai,openai-agents]
# Debian's packages, each with a program of the same name, that the tests drive.
PROGRAMS := redis-server nats-server chromium
STAMP := $(VENV)/.installed
RIVALS := $(VENV)/rivals
PROGRAMS_STAMP := $(VENV)/.programs
LEGACY := .venv-openai2
LEGACY_STAMP := $(LEGACY)/.installed
# The tests of deploy/ drive a real collector, Jaeger and Prometheus, built by Go.
GO_MINOR := $(shell go env GOVERSION 2>/dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p')
DEPLOY_TESTS := $(if $(shell [ "$(GO_MINOR)" -ge 25 ] 2>/dev/null && echo yes),test-deploy,test-deploy-missing)

BENCHMARKS := instructions operations hooks hooks_instructions events timeline telemetry builtin detection exporters export_losses
LINTS := lint-pyright lint-mypy lint-ruff lint-imports lint-spelling
# Each file's tests stay together, in order: they may share what they start.
BESIDE := -p no:randomly -n 2 --dist loadfile

.PHONY: help demo binaries dashboards test test-core test-legacy test-deploy test-deploy-missing lint $(LINTS) fmt benchmark soak clean

help: ## Show what can be made.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("%s is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.11" % (sys.executable, *sys.version_info[:2]))'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || .ci/install-debian python3-venv
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(STAMP): pyproject.toml .ci/constraints.txt | $(BIN)/uv
	@echo "installing llmspell-otel and its tools into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints .ci/constraints.txt --group dev --group deploy -e '$(EXTRAS)'
	@touch $@

$(PROGRAMS_STAMP): | $(STAMP)
	@missing=$$(for each in $(PROGRAMS); do command -v $$each >/dev/null || echo $$each; done); \
		[ -z "$$missing" ] || .ci/install-debian $$missing
	@touch $@

# OpenAI's SDK lives in two major versions; the adapter is tested on both.
$(LEGACY_STAMP): pyproject.toml .ci/constraints-openai2.txt | $(BIN)/uv
	@echo "installing the OpenAI 2.x environment into $(LEGACY)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LEGACY)
	@$(BIN)/uv pip install --quiet --python $(LEGACY)/bin/python --constraints .ci/constraints-openai2.txt \
		-e '.[cost,prometheus,testing,openai]' 'pytest>=9' pytest-timeout pytest-rerunfailures pytest-xdist hypothesis
	@touch $@

demo: $(STAMP) ## Run the support desk: an unmodified agent, seen and steered.
	@$(BIN)/python -m docs.examples.support_desk.demo

binaries: $(STAMP) ## Build the real collector, Jaeger and Prometheus, once (Go >= 1.25).
	@$(BIN)/python -m deploy.build

dashboards: $(STAMP) ## Write Grafana's dashboards anew from deploy/grafana/dashboards.
	@$(BIN)/python -m deploy.grafana

test: test-core test-legacy $(DEPLOY_TESTS) ## Run every test.

test-core: $(STAMP) $(PROGRAMS_STAMP)
	@$(BIN)/python -m pytest $(BESIDE) --ignore=tests/deploy

test-deploy: binaries $(PROGRAMS_STAMP) ## Run the tests that need those servers.
	@$(BIN)/python -m pytest tests/deploy

test-deploy-missing: test-core test-legacy
	@echo "NOT RUN: tests/deploy, which drive a real collector, Jaeger and Prometheus. With Go 1.25 or newer: make test-deploy"

test-legacy: $(LEGACY_STAMP)
	@$(LEGACY)/bin/python -m pytest $(BESIDE) tests/instrumentation/openai tests/testing \
		--ignore=tests/testing/test_script.py # looks at no SDK

lint: $(STAMP) ## Lint, format check, types, layers.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync $(LINTS)

# The longest first, so that the others run beside it.
lint-pyright: $(STAMP)
	@$(BIN)/pyright

lint-mypy: $(STAMP)
	@$(BIN)/mypy

lint-ruff: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lint-imports: $(STAMP)
	@$(BIN)/lint-imports

lint-spelling: $(STAMP)
	@$(BIN)/codespell

fmt: $(STAMP) ## Format and fix.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(RIVALS): $(STAMP)
	@rm -rf $@
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target $@ eventkit==1.0.3
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target $@ --no-deps pymitter==1.1.3
	@rm -rf $@/tests # hides ours

benchmark: $(STAMP) $(RIVALS) $(PROGRAMS_STAMP) ## Measure, and print the tables.
	@for each in $(BENCHMARKS); do echo "## $$each"; PYTHONPATH=$(RIVALS) $(BIN)/python -m tests.benchmarks.$$each; done

soak: $(STAMP) ## Run the long runs of events: ten minutes and more.
	@$(BIN)/python -m tests.benchmarks.soak

clean: ## Remove what was built.
	@rm -rf $(VENV) $(LEGACY) .cache dist build
