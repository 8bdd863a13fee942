# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that carries the documentation and does no work."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.modules import ollama_plan


def test_the_module_says_that_its_action_is_missing(run_module):
    result = run_module(ollama_plan, gpu={"devices": []}, models=[])
    assert result["failed"] is True
    assert "is computed on the control node" in result["msg"]
