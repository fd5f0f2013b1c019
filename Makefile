# Each habit is one target; `make help` lists them. Everything installs into .venv and .tools, nothing anywhere else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .tools
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/uv/bin/uv)
GHZ_VERSION := v0.120.0
GRPCURL_VERSION := v1.9.3
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/$(TOOLS)/bin:$(PATH)

# vLLM's CPU build and Triton's server are for x86-64 Linux alone, and each has requirements that the mesh's own cannot
# share an environment with.
ENGINE_PLATFORM := Linux x86_64
VLLM := .venv-vllm
TRITON := .venv-triton
JUDGES := .venv-judges
# As on the oldest Linux that each is built for.
LOCK_VLLM := --python-version 3.11 --python-platform x86_64-manylinux_2_28
LOCK_TRITON := --python-version 3.11 --python-platform x86_64-manylinux_2_35
# Whether this machine's C library is at least of that version.
glibc_is = getconf GNU_LIBC_VERSION 2>/dev/null | \
  awk -v least=$(1) '{split($$2, has, "."); split(least, wants, "."); ok = has[1] == wants[1] && has[2] + 0 >= wants[2] + 0} END {exit !ok}'

.PHONY: help demo up test unit check gen tools engines judges bench bench-peers study chaos lock breaking format clean

help: ## List what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  \033[36mmake %-9s\033[0m %s\n", $$1, $$2}'

demo: $(VENV)/run.stamp ## Start the whole mesh, ingest this project's docs and ask them a question
	weft demo $(ARGS)

up: $(VENV)/run.stamp ## Start the whole mesh in the foreground
	weft up $(ARGS)

test: $(VENV)/dev.stamp tools engines check ## Check everything and run every test
	pytest $(ARGS)

unit: $(VENV)/dev.stamp ## Run the tests that start no mesh
	pytest -m "not e2e and not chaos" $(ARGS)

check: $(VENV)/dev.stamp ## Lint, types, import rules, protos, and that gen/ is up to date
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo
	buf lint
	buf format --diff --exit-code --path proto/weft
	$(MAKE) --no-print-directory breaking
	python -m tests.check_gen

breaking: $(VENV)/dev.stamp ## Compare the protos with the last commit on main
	@if git rev-parse -q --verify main:proto/weft >/dev/null 2>&1; then \
	  buf breaking --against '.git#branch=main'; \
	else echo "buf breaking: no protos on a branch named main to compare with"; fi

gen: $(VENV)/dev.stamp ## Regenerate gen/ from proto/
	python -m tests.check_gen --write

format: $(VENV)/dev.stamp ## Format Python and protos
	ruff format .
	ruff check --fix .
	buf format -w --path proto/weft

bench: $(VENV)/dev.stamp ## Measure this machine's mesh: TTFT, CPU per token, memory (ARGS passes options on)
	python -m loadtest.bench $(ARGS)

study: $(VENV)/dev.stamp ## Compare the placing policies on real traces, in simulated time (writes docs/policies.*)
	python -m loadtest.policy_study $(ARGS)

chaos: $(VENV)/dev.stamp ## Kill, stop and cut real processes under load, and show what it costs clients
	python -m loadtest.chaos $(ARGS)

lock: ## Compile the pinned requirements anew
	$(UV) pip compile -q --upgrade --generate-hashes --no-header --universal --python-version 3.11 --group dev pyproject.toml -o requirements/dev.txt
	$(UV) pip compile -q --generate-hashes --no-header --universal --python-version 3.11 -c requirements/dev.txt pyproject.toml -o requirements/run.txt
	$(UV) pip compile -q --upgrade --generate-hashes --no-header $(LOCK_VLLM) --override requirements/vllm.overrides pyproject.toml requirements/vllm.in -o requirements/vllm.txt
	$(UV) pip compile -q --upgrade --generate-hashes --no-header $(LOCK_TRITON) requirements/triton.in -o requirements/triton.txt
	$(UV) pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 requirements/judges.in -o requirements/judges.txt

tools: $(TOOLS)/tools.stamp ## Build ghz and grpcurl (needs Go; without it the tests that use them say so)

ifeq ($(shell uname -sm),$(ENGINE_PLATFORM))
engines: $(VLLM)/engine.stamp $(TRITON)/engine.stamp ## Build the environments of the engines that have their own (6 GB; tests use them)
else
engines:
	@echo "vLLM's CPU build and Triton's server exist for $(ENGINE_PLATFORM) only, and this is $$(uname -sm): their tests will be skipped"
endif

judges: $(JUDGES)/judges.stamp ## Build the environment of the load-testing tools that others wrote (python -m loadtest.judges)

bench-peers: $(VENV)/dev.stamp ## The same load through other routers, side by side (they come from the harness's own setup)
	python -m loadtest.bench --peers $(ARGS)

clean: ## Remove environments, tools, caches and the demo's data
	rm -rf $(VENV) $(VLLM) $(TRITON) $(JUDGES) $(TOOLS) .weft .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(TOOLS)/uv/bin/uv:
	$(PYTHON) -m venv $(TOOLS)/uv
	$(TOOLS)/uv/bin/pip install -q uv

# The demo needs no more than the runtime; the tests add to the same environment.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(UV)
	@test -f $(VENV)/dev.stamp || { \
	  test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV); \
	  $(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/run.txt; }
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV)
	$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@ $(VENV)/run.stamp

$(VLLM)/engine.stamp: requirements/vllm.txt pyproject.toml | $(UV)
	@if $(call glibc_is,2.28); then \
	  test -x $(VLLM)/bin/python || $(UV) venv -q --python $(PYTHON) $(VLLM); \
	  $(UV) pip sync -q --python $(VLLM)/bin/python --require-hashes requirements/vllm.txt; \
	  $(UV) pip install -q --python $(VLLM)/bin/python --no-deps -e .; \
	  touch $@; \
	else echo "vLLM's CPU build needs glibc 2.28 or later: its tests will be skipped"; fi

$(JUDGES)/judges.stamp: requirements/judges.txt | $(UV)
	@test -x $(JUDGES)/bin/python || $(UV) venv -q --python $(PYTHON) $(JUDGES)
	$(UV) pip sync -q --python $(JUDGES)/bin/python --require-hashes requirements/judges.txt
	@touch $@

$(TRITON)/engine.stamp: requirements/triton.txt | $(UV)
	@if $(call glibc_is,2.35); then \
	  test -x $(TRITON)/bin/python || $(UV) venv -q --python $(PYTHON) $(TRITON); \
	  $(UV) pip sync -q --python $(TRITON)/bin/python --require-hashes requirements/triton.txt; \
	  touch $@; \
	else echo "Triton's server needs glibc 2.35 or later: its tests will be skipped"; fi

$(TOOLS)/tools.stamp: Makefile
	@mkdir -p $(TOOLS)/bin
	@if command -v go >/dev/null; then \
	  GOBIN=$(CURDIR)/$(TOOLS)/bin go install github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION); \
	  GOBIN=$(CURDIR)/$(TOOLS)/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION); \
	  touch $@; \
	else echo "Go is not installed: the tests that use ghz and grpcurl will be skipped (https://go.dev/dl)"; fi
