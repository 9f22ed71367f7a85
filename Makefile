# Cirra's front door for developers and operators. `make` lists the targets; every target sets up what it needs.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The system's Python: the one that Debian's python3-dev and python3-venv belong to.
PYTHON ?= /usr/bin/python3
PYTEST_ARGS ?=
HOSTS ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
BUILD := .build
UV := $(BUILD)/uv/bin/uv
BUF := tools/buf/node_modules/@bufbuild/buf-linux-$(if $(filter aarch64,$(shell uname -m)),aarch64,x64)/bin/buf
RELEASED := proto/released.binpb
TESTS := $(wildcard tests/unit tests/contract tests/integration tests/chaos tests/e2e)
MEMBERS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml libs/*/pyproject.toml) sdk/pyproject.toml deploy/pyproject.toml))

# Without NAME, `make e2e` and `make bench` say what there is to name.
require_name = $(if $(NAME),,$(error name one of: $(sort $(1))))

export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export UV_COMPILE_BYTECODE := 1
# A process that compiles all that it imports takes a second and a half longer to start.
unexport PYTHONDONTWRITEBYTECODE

##@ Run
.PHONY: demo
demo: setup ## Boot a Debian guest on this machine, end to end through the public API
	@$(BIN)/cirra-deploy demo $(ARGS)

.PHONY: up down status rebuild env
up: setup ## Start Cirra on this machine: Postgres, NATS, all services, this host's agents; HOSTS=3: three hosts
	@$(BIN)/cirra-deploy up $(if $(HOSTS),--hosts $(HOSTS)) $(ARGS)
down: setup ## Stop it, and remove its guests, networks and processes
	@$(BIN)/cirra-deploy down $(ARGS)
status: setup ## Show what runs, and how far each projection is behind the log
	@$(BIN)/cirra-deploy status $(ARGS)
rebuild: setup ## Rebuild the read models from the event log
	@$(BIN)/cirra-deploy rebuild $(ARGS)
env: setup ## Print variables that let cirra and virsh find it: eval "$$(make -s env)"
	@$(BIN)/cirra-deploy env $(ARGS)

##@ Check
.PHONY: test
test: setup ## Unit, contract and integration tests, and the demo as a smoke test
	@$(BIN)/pytest $(TESTS) -m "not slow" --numprocesses logical --maxprocesses 4 --dist loadscope $(PYTEST_ARGS)

.PHONY: e2e
e2e: setup ## End-to-end tests of one area: make e2e NAME=smoke
	$(call require_name,$(notdir $(patsubst %/,%,$(wildcard tests/e2e/*/))))
	@$(BIN)/pytest tests/e2e/$(NAME) $(PYTEST_ARGS)

.PHONY: chaos
chaos: setup ## Every way to die at every moment, with a table of what came of it; half an hour
	@$(BIN)/pytest tests/chaos $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## One benchmark: make bench NAME=eventlog ARGS=...
	$(call require_name,$(basename $(notdir $(wildcard bench/[a-z]*.py))))
	@$(BIN)/python -m bench.$(subst -,_,$(NAME)) $(ARGS)

.PHONY: lint lint-python lint-types lint-imports lint-proto lint-docs
lint: lint-python lint-types lint-imports lint-proto lint-docs ## Style, types, import rules, the contract's style and compatibility
lint-python: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
lint-types: setup
	@$(BIN)/mypy
lint-imports: setup
	@$(BIN)/lint-imports
lint-proto: setup $(BUF) $(BUILD)/googleapis.stamp
	@$(BUF) lint proto
	@$(BUF) breaking proto --against $(RELEASED) --exclude-imports

lint-docs: setup
	@$(BIN)/python tools/generate_reference.py --check

##@ Develop
.PHONY: setup
setup: $(BUILD)/apt.stamp proto $(VENV)/.members.stamp ## Install Debian packages, the Python environment and the stubs (quick when nothing changed)

.PHONY: proto
proto: $(VENV)/.lock.stamp ## Generate the Python stubs of the contract: proto/ to libs/proto/src
	@$(BIN)/python tools/generate_stubs.py

.PHONY: format
format: setup ## Format the code and sort its imports
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

# A released contract is a promise to every stored event and every client: to move the baseline is to break or to extend
# that promise, so it is done by hand, alone in a commit, and an incompatible move needs an ADR.
.PHONY: docs
docs: setup ## Write docs/reference from the comments of proto/
	@$(BIN)/python tools/generate_reference.py

.PHONY: proto-release
proto-release: setup $(BUF) $(BUILD)/googleapis.stamp ## Make today's contract the baseline of the compatibility check
	@$(BUF) build proto --exclude-source-info -o $(RELEASED)

# `make lock` keeps what fits; `make lock ARGS=--upgrade` takes the newest. The index's address stays out of the file,
# and so do the workspace's own members (docs/adr/0002-tooling.md).
.PHONY: lock
lock: $(UV) ## Lock the dependencies that the pyproject files declare: requirements.lock
	@env -u PIP_FIND_LINKS $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links \
	    $(foreach name,$(shell sed -n 's/^name = "\(.*\)"/\1/p' $(MEMBERS:=/pyproject.toml)),--no-emit-package $(name)) \
	    --all-extras $(MEMBERS:=/pyproject.toml) --group pyproject.toml:dev --output-file requirements.lock $(ARGS)

.PHONY: clean
clean: ## Remove the environment, generated code and caches
	@rm -rf $(VENV) $(BUILD) libs/proto/src/cirra tools/buf/node_modules
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z0-9-]+:.*## / { split($$1, target, ":"); printf "  make %-14s %s\n", target[1], $$2 }' $(firstword $(MAKEFILE_LIST))

# Files that record what setup has done.

$(BUILD)/apt.stamp: tools/apt-packages.txt tools/apt-install
	@tools/apt-install @tools/apt-packages.txt
	@mkdir -p $(@D) && touch $@

$(UV): tools/uv-requirements.lock | $(BUILD)/apt.stamp
	@echo "setup: installing uv"
	@$(PYTHON) -m venv --clear $(BUILD)/uv
	@$(BUILD)/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(VENV)/.lock.stamp: requirements.lock $(UV)
	@echo "setup: installing the Python environment"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	@touch $@

# Editable: a change of a member's code needs no new setup, a change of its pyproject.toml does.
$(VENV)/.members.stamp: $(VENV)/.lock.stamp $(MEMBERS:=/pyproject.toml) | proto
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(foreach member,$(MEMBERS),--editable ./$(member))
	@touch $@

# buf comes from npm and serves `make lint` alone, so only lint asks for Node.js.
$(BUF): tools/buf/package-lock.json
	@command -v npm >/dev/null || tools/apt-install nodejs npm
	@npm ci --prefix tools/buf --ignore-scripts --no-audit --no-fund --loglevel error </dev/null
	@touch $@

# google/rpc and its like, where buf finds them (buf.yaml).
$(BUILD)/googleapis.stamp: $(VENV)/.lock.stamp
	@rm -rf $(BUILD)/googleapis && mkdir -p $(BUILD)/googleapis
	@cd $(VENV)/lib/python3.*/site-packages && find google/api google/rpc google/type google/longrunning -name '*.proto' \
	    -exec cp --parents --target-directory $(CURDIR)/$(BUILD)/googleapis {} +
	@touch $@
