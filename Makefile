# SPDX-License-Identifier: GPL-3.0-or-later
# Every task of the project, by name: `make help`.

SHELL := /bin/bash
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.build/collections
LINK := .build/collections/ansible_collections/gpufleet/ollama
PACKAGE := ansible_collections.gpufleet.ollama
PURE_ROOMS := plugins/module_utils

.DEFAULT_GOAL := help
.PHONY: help venv lock link check test test-all sanity lint types licences unit many-inputs fuzz changelog-lint docs-lint variables docs artifact requirements \
	systemd-tests fault-tests page-tests engine-tests engine-newest engine-truth versions pictures fleet-bench bench mutants clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

venv: .venv/installed ## The pinned tools in .venv

.venv/installed: requirements/dev.txt
	@echo "==> Installing the pinned tools into .venv (only here, nothing outside this folder)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed for the tools (managed hosts need 3.9)" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed: install the package python3-venv and repeat"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/dev.txt
	@touch $@

lock: ## Renew requirements/dev.txt from dev.in (needs uv)
	uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/dev.in --output-file requirements/dev.txt

link: $(LINK)

$(LINK):
	@mkdir -p $(@D) && ln -sfn ../../../.. $@

include tests/hosts/hosts.mk

# Of these each has one process that works, so that two cores carry two at a time; what follows uses both by itself.
GATES_OF_ONE_CORE := sanity lint types docs-lint engine-tests artifact licences changelog-lint

test: venv link ## Everything that must pass before a change lands (at most 25 minutes on two cores)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(GATES_OF_ONE_CORE)
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory molecule
	@$(MAKE) --no-print-directory systemd-tests

test-all: test many-inputs molecule-all fault-tests page-tests engine-newest versions docs bench fleet-bench ## Also what takes longer: every fault, more distributions, benchmarks

check: venv link ## While you work: lint, types and the unit tests of what you changed, within a minute
	@$(BIN)/python tests/gates/check.py

sanity: venv ## ansible-test sanity, all tests, no ignores
	$(BIN)/python tests/gates/sanity.py

lint: venv link ## ansible-lint (production profile), yamllint, ruff, the examples of the pages
	$(BIN)/ruff check .
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline --profile production --strict
	$(BIN)/python tests/gates/examples.py
	$(BIN)/python tests/gates/mutants.py --check

types: venv link ## mypy, strict, on plugins/
	MYPYPATH=.build/collections $(BIN)/mypy --package $(PACKAGE).plugins

licences: venv ## Every file names its licence (REUSE)
	$(BIN)/reuse lint --quiet || $(BIN)/reuse lint

unit: venv link ## Unit and property tests; coverage of the shared code at least 95 %
	$(BIN)/pytest -q -n 2 --cov=$(PURE_ROOMS) --cov-report=term:skip-covered --cov-fail-under=95 tests/unit
	$(BIN)/pytest -q -n 2 --hypothesis-profile=fuzz tests/fuzz

many-inputs: venv link ## Ten times as many inputs for every parser as in `make unit`
	$(BIN)/pytest -q -n 2 --hypothesis-profile=thorough tests/fuzz

# Not in test-all, because it finds something else at every run.
fuzz: venv link .build/atheris/installed ## Fuzz the parsers, guided by coverage, SECONDS=60 each (TARGETS="gguf host" for some)
	@PYTHONPATH=.build/atheris $(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),60) $(TARGETS)

.build/atheris/installed: requirements/fuzz.txt
	@echo "==> Installing atheris into .build/atheris (only there)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --upgrade \
		--target $(@D) --requirement $< || { echo "atheris has wheels for Linux on x86-64 with Python 3.11 to 3.13 only"; exit 1; }
	@touch $@

changelog-lint: venv ## Changelog fragments
	$(BIN)/antsibull-changelog lint

docs-lint: venv link ## Documentation of modules, roles and the pages under docs/
	PATH=$(BIN):$$PATH $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .

variables: venv ## The page of all variables, from the argument specs
	$(BIN)/python tests/gates/variables.py

docs: venv link ## The documentation site, in docs/_build/html
	$(BIN)/python tests/gates/docs.py

artifact: requirements ## Build the collection, install the artifact elsewhere, check its playbooks' syntax
	$(BIN)/python tests/gates/artifact.py

requirements: venv ## What the community package and Automation Hub ask of a collection: met, or the reason
	$(BIN)/python tests/gates/requirements.py

# Two at a time, because each test waits for a host of its own most of the time.
systemd-tests: venv link ## On hosts with real systemd: the faults that matter most, and every quoted value
	@$(HOSTS) pytest tests/systemd -q -n 2 --dist worksteal -m essential

fault-tests: venv link ## On hosts with real systemd: every other fault, two runs at once, a whole site
	@$(HOSTS) pytest tests/systemd -q -n 2 --dist worksteal -m "not essential"

engine-tests: venv link ## llama.cpp's own CUDA backend on a simulated machine, and 300 rows of it against the rules (npm)
	$(BIN)/pytest -q -rs tests/engine
	$(BIN)/python tests/engine/truth.py --newest-known --sample

engine-newest: venv link ## All rows of the newest engine build that the memory rules claim
	$(BIN)/python tests/engine/truth.py --newest-known

engine-truth: venv link ## The memory rules against an engine build (ENGINE=3.22.1 or all; default: the newest on npm)
	$(BIN)/python tests/engine/truth.py --engine "$(ENGINE)"

page-tests: venv link .build/axe/installed ## The fleet's page in headless Chromium, its metrics in Prometheus, and drift on real hosts
	$(BIN)/pytest -q tests/report

.build/axe/installed: requirements/axe.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target $(@D) --requirement $<
	@touch $@

versions: venv ## The installed artifact with ansible-core 2.18 to 2.21, on Debian 11, 12 and 13
	$(BIN)/python tests/gates/ansible_versions.py

pictures: venv link ## The pictures of the README, from a run of the demo (needs chromium)
	$(BIN)/python tests/report/today_planned.py
	$(BIN)/python tests/report/pictures.py

fleet-bench: venv link ## The table of runs over 50 hosts with systemd and 1,000 stand-ins (HOSTS=number for another)
	$(BIN)/python tests/bench/fleet.py --check --hosts $(or $(HOSTS),1000)

bench: venv link ## The tables: accuracy, scheduler, older versions, planner, GGUF reader, GPU facts
	$(BIN)/python tests/bench/accuracy.py --multi-gpu tests/data/engine_memory_multi_gpu.csv
	$(BIN)/python tests/bench/scheduler.py
	$(BIN)/python tests/bench/reported.py
	$(BIN)/python tests/bench/planner.py
	$(BIN)/python tests/bench/placement.py
	$(BIN)/python tests/bench/gguf.py
	$(BIN)/python tests/bench/gpu_facts.py

mutants: venv ## Do the tests notice a changed rule? 400 mutants, under 2 hours (SEED=, COUNT=, JOBS=, ONLY=part of a path)
	$(BIN)/python tests/gates/mutants.py --seed $(or $(SEED),1) --count $(or $(COUNT),400) --jobs $(or $(JOBS),2) --only "$(ONLY)"

clean: ## Remove what these targets made (not the cached host images: hosts-clean)
	rm -rf .build .venv docs/_build gpufleet-report
