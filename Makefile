# The one door: everything is a thin line over `python -m builder`. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Any Python from 3.10 on that can make a virtual environment; the user's own first.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python -m builder

SELECT ?=
GROUP ?=
JOBS ?=
ISOLATION ?=
BUDGET ?=
LOCK ?=
ARGS ?=
SELECTED = $(if $(SELECT),--select '$(SELECT)') $(if $(GROUP),--group $(GROUP))
FLAGS = $(SELECTED) $(if $(ISOLATION),--isolation $(ISOLATION))

.PHONY: help setup setup-dev plan matrix nightly images report lock test test-fast test-docker lint bench golden gc clean requirements

help: ## list what there is
	@echo "EngineMatrix. Two commands: 'make matrix' builds and proves every combination, 'make test' tests this program."
	@echo "Variables: SELECT='model=resnet50', GROUP=quick, ISOLATION=docker, JOBS=2, ARGS='--failed'"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

$(VENV)/.run: requirements/run.txt pyproject.toml
	@test -n '$(PYTHON)' || { echo "EngineMatrix needs Python 3.10 or newer with venv and pip (on Debian and Ubuntu: apt-get install python3 python3-venv); or name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Setting up $(VENV) (hash-locked, nothing global)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/run.txt
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@$(VENV)/bin/uv pip install --quiet --no-config --python $(VENV)/bin/python --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.run ## make .venv with what running needs

setup-dev: $(VENV)/.dev ## and what testing needs

plan: setup ## what would run, and why (starts nothing)
	@$(RUN) plan $(FLAGS) $(ARGS)

matrix: setup ## build and prove every combination; report in artifacts/report/
	@$(RUN) run $(FLAGS) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

nightly: setup ## what is new since last night: refresh the lock (LOCK=frozen: not), run the group (BUDGET=90m), tell
	@$(RUN) nightly $(if $(GROUP),--group $(GROUP)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(LOCK),--lock $(LOCK)) \
	$(if $(ISOLATION),--isolation $(ISOLATION)) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

report: setup ## write the report again from stored results
	@$(RUN) report $(FLAGS) $(ARGS)

images: setup ## render the Dockerfile of every stack into artifacts/images/, and build what is missing
	@$(RUN) images build $(SELECTED) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

lock: setup ## pin every stack of the matrix in matrix.lock
	@$(RUN) lock $(if $(ISOLATION),--isolation $(ISOLATION)) $(ARGS)

test: setup-dev ## all tests (real engines included), in two processes or JOBS
	@$(VENV)/bin/python -m pytest -n $(or $(JOBS),2) --no-loadscope-reorder $(ARGS)

test-fast: setup-dev ## the tests that make no environment, open no browser and need no Docker
	@$(VENV)/bin/python -m pytest -n $(or $(JOBS),2) -m 'not real and not browser and not docker' $(ARGS)

test-docker: setup-dev ## the tests that need a Docker engine (root, debootstrap and docker-registry too)
	@$(VENV)/bin/python -m pytest -m docker $(ARGS)

lint: setup-dev ## ruff, mypy --strict, vermin, codespell
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy \
	&& $(VENV)/bin/vermin -q --no-tips -t=3.6- --violations builder/worker builder/repro_judge.py recipes images && $(VENV)/bin/codespell

bench: setup-dev ## planning, no-op and per-cell overhead, each with its bar
	@for file in benchmarks/bench_*.py; do $(VENV)/bin/python $$file || exit 1; done

golden: setup-dev ## rewrite tests/golden/ (review the diff as code)
	@$(VENV)/bin/python -m pytest -m 'not real and not browser and not docker' --update-golden

requirements: setup-dev ## pin this program's own packages anew
	@$(VENV)/bin/uv pip compile -q pyproject.toml --extra build --universal --python-version 3.10 --generate-hashes --no-header --no-annotate -o requirements/run.txt
	@$(VENV)/bin/uv pip compile -q pyproject.toml --extra build --extra dev --universal --python-version 3.10 --generate-hashes --no-header --no-annotate -o requirements/dev.txt

gc: setup ## free what neither the matrix nor the last runs need
	@$(RUN) gc $(ARGS)

clean: ## remove artifacts/ and .venv
	@if [ -f artifacts/CACHEDIR.TAG ] && grep -q EngineMatrix artifacts/CACHEDIR.TAG; then find artifacts -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +; fi
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
