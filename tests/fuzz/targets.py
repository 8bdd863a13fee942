# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All targets, by name."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.tests.fuzz import control_node, gpu, ollama, systemd

TARGETS = {
    target.name: target for target in (*ollama.TARGETS, *systemd.TARGETS, *gpu.TARGETS, *control_node.TARGETS)
}
