# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts and models to plan with: published models by their headers, hosts by the size of their GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def installed():
    """`installed('gemma3:4b', field=value, ...)` is a published model, with some fields changed."""

    def model(published, /, **changes):
        return replace(shape(published), **changes)

    return model


@pytest.fixture
def described():
    """`described(24, 12, others_mib=500)` are the GPU facts of a host with GPUs of so many GiB.

    `others_mib`: what other processes hold of each GPU.
    """

    def describe(*sizes_gib, others_mib=0, system_gib=64):
        return {
            "system_memory_total_bytes": system_gib * GIB,
            "devices": [
                {
                    "memory_total_bytes": size * GIB,
                    "memory_free_bytes": size * GIB - others_mib * MIB,
                    "compute_capability": "8.6",
                }
                for size in sizes_gib
            ],
        }

    return describe


@pytest.fixture
def plan(installed, described):
    """`plan([24], ['gemma3:4b'], wanted=[...], option=value)` is the plan of such a host.

    Models are names of published models, or shapes.
    """

    def make(gpu, models, wanted=(), version="0.33.0", service=None, loaded=None, **options):
        shapes = [installed(model) if isinstance(model, str) else model for model in models]
        return plan_host(
            gpu=described(*gpu) if isinstance(gpu, (list, tuple)) else gpu,
            models=[shape.to_dict() for shape in shapes],
            wanted=wanted_from_list(list(wanted)),
            policy=policy_from_dict(options),
            version=version,
            service=service,
            experience=Experience(loaded=loaded or {}),
        )

    return make
