# run · test · check · bench. Each sets up what it needs from nothing but Python ≥ 3.11, and says what it does.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*)
EDITABLE := -e . $(addprefix -e ./,$(PLUGINS))
MANIFESTS := pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS))

# Suites in which each worker has an instance of its own, and which wait more than they compute.
INSTANCES := tests/e2e/web tests/e2e/gcs tests/media
# Suites that start whole instances, kill them, and measure how they share a machine: one test at a time.
ALONE := tests/e2e tests/faults tests/scale

# npm finds the Node.js of the virtual environment where the system has none that is new enough (scripts/node).
NPM := PATH="$(abspath $(BIN)):$$PATH" npm
WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) $(wildcard web/*.html web/*.ts web/*.json*)

.PHONY: help run install dev web screenshots system-packages test soak check check-python check-web bench evaluate format openapi constraints clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s $$'\t'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Echo needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@echo "==> creating the virtual environment $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(MANIFESTS)
	@echo "==> installing Echo and its bundled plugins into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(EDITABLE)
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "==> installing what tests and checks need into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(EDITABLE) --group dev
	@touch $@

install: $(VENV)/.installed ## Echo in .venv
dev: $(VENV)/.dev ## Echo and the development tools in .venv

web: web/dist/index.html ## the web app, built into web/dist

web/node_modules/.build: web/package-lock.json $(VENV)/.installed
	@scripts/node $(BIN)
	@echo "==> installing what builds the web app"
	cd web && $(NPM) ci --omit=dev --no-audit --no-fund --loglevel=error
	@touch $@

web/node_modules/.dev: web/package-lock.json $(VENV)/.installed
	@scripts/node $(BIN)
	@echo "==> installing what builds and checks the web app"
	cd web && $(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@ web/node_modules/.build

web/dist/index.html: $(WEB_SOURCES) | web/node_modules/.build
	@echo "==> building the web app"
	cd web && $(NPM) run --silent build -- --logLevel warn
	@touch $@

run: install web ## Echo with its own PostgreSQL and Valkey, at http://127.0.0.1:8000
	@exec $(BIN)/echoctl up

system-packages: ## what tests need from the system: ffmpeg, Chromium, Node.js, libfaketime
	@scripts/system-packages

check: check-python check-web ## format, lint, types, import contracts, unit and contract tests

check-web: web/node_modules/.dev
	cd web && $(NPM) run --silent check

check-python: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit tests/contract

test: system-packages dev web/node_modules/.dev web tests/e2e/node_modules ## every test, with real PostgreSQL, Valkey, ffmpeg and Chromium
	$(BIN)/pytest -q --durations=10 -n 2 --dist loadfile $(addprefix --ignore=,$(INSTANCES) $(ALONE))
	$(BIN)/pytest -q --durations=10 -n 2 --dist loadfile $(INSTANCES)
	$(BIN)/pytest -q --durations=20 $(ALONE) $(addprefix --ignore=,$(INSTANCES))

soak: system-packages dev ## break a running Echo 1,000 times from seeds; SOAK="--faults 25 --seed 17" replays a schedule
	$(BIN)/python -m tests.faults.soak $(SOAK)

tests/e2e/node_modules: tests/e2e/package-lock.json
	@echo "==> installing hls.js, upchunk and supabase-js for the browser and client tests"
	cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

bench: dev bench/peers/node_modules bench/peers/film.mp4 ## measure beside peers; BENCH=--quick is coarser; one table, JSON in bench/results/
	@scripts/system-packages bench
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	@$(BIN)/python bench/run.py $(BENCH)

evaluate: dev ## how good an AI provider is: word error rate, chapters, titles, cost; EVALUATE="--provider gemini"
	@scripts/system-packages
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	@$(BIN)/python bench/evaluate_ai.py $(EVALUATE)

bench/peers/node_modules: bench/peers/package-lock.json
	@scripts/system-packages bench
	@echo "==> installing @tus/server and ws, the peers of the benchmarks"
	cd bench/peers && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

bench/peers/film.mp4: dev
	@$(BIN)/python bench/film.py

screenshots: dev ## pictures of a running Echo for the README; ALL=DIR takes every page in every look
	@scripts/system-packages
	$(BIN)/python scripts/screenshots.py $(if $(ALL),--all $(ALL)) $(if $(URL),--url $(URL))

format: dev web/node_modules/.dev ## format and mend what can be mended
	cd web && $(NPM) run --silent format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: install ## write openapi.json anew, and the types that the web app has from it
	$(BIN)/echoctl openapi --out openapi.json
	@$(MAKE) --no-print-directory web/node_modules/.dev
	cd web && $(NPM) run --silent types

constraints: dev ## pin all dependencies anew, at their current versions
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links \
		--no-emit-package echo-core --no-emit-package echo-ai-gemini --no-emit-package echo-ai-local --no-emit-package echo-identity-local \
		--no-emit-package echo-storage-gcs --no-emit-package echo-storage-local \
		--no-emit-package echo-transcode-ffmpeg \
		--group dev --group bench --group web --output-file constraints.txt pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))

clean: ## remove .venv and everything generated; data/ stays
	rm -rf $(VENV) web/node_modules web/dist tests/e2e/node_modules bench/peers/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
