# SPDX-License-Identifier: GPL-3.0-or-later
# Test hosts that boot real systemd, and what runs on them. Included by the Makefile.

HOSTS := $(BIN)/python tests/hosts/hosts.py
SCENARIO ?= default
.PHONY: demo molecule molecule-all hosts-image hosts-clean

hosts-image: venv ## Make and cache the images of the test hosts
	$(HOSTS) image

hosts-clean: venv ## Remove every test host and the cached images
	$(HOSTS) clean
