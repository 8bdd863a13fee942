# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of reported hosts share with those of the rooms."""

from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.gpu.conftest import sysfs

__all__ = ["sysfs"]
