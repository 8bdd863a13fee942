# SPDX-License-Identifier: GPL-3.0-or-later
# Test hosts that boot real systemd, and what runs on them. Included by the Makefile.

HOSTS := $(BIN)/python tests/hosts/hosts.py
# What `make test` runs, and what `make test-all` runs; SCENARIO=name runs one.
SCENARIOS := default
ALL_SCENARIOS := $(sort $(notdir $(patsubst %/molecule.yml,%,$(wildcard molecule/*/molecule.yml))))
.PHONY: demo molecule molecule-all hosts-image hosts-down hosts-clean

demo: venv link ## See it work: three simulated GPU hosts, from facts to a verified service (KEEP=1 leaves them up)
	@$(BIN)/python tests/hosts/demo.py $(if $(KEEP),--keep)

molecule: venv link ## Molecule scenarios on real systemd hosts (SCENARIO=name for another)
	@$(foreach scenario,$(or $(SCENARIO),$(SCENARIOS)),$(HOSTS) molecule $(scenario) &&) true

molecule-all: venv link ## All Molecule scenarios
	@$(foreach scenario,$(ALL_SCENARIOS),$(HOSTS) molecule $(scenario) &&) true

hosts-image: venv ## Make and cache the images of the test hosts
	@$(HOSTS) image

hosts-down: venv ## Remove every test host that is up
	@$(HOSTS) down --all

hosts-clean: venv ## Remove every test host and the cached images
	@$(HOSTS) clean
