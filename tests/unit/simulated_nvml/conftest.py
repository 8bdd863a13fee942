# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machines that the tests of the GPU room have."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.tests.unit.plugins.conftest import machine, simulated_nvml

__all__ = ["machine", "simulated_nvml"]
