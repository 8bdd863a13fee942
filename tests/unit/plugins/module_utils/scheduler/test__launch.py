# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama tells the engine when it starts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import Backend
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._launch import (
    backend_of,
    can_flash,
    fit_targets_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerGpu,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

MIB = 1 << 20


@pytest.mark.parametrize(
    ("environment", "projector_bytes", "targets_mib"),
    [
        ({}, 0, (1024, 1024)),
        ({}, 812 * MIB - 1, (1836, 1836)),
        ({"LLAMA_ARG_FIT_TARGET": "512"}, 0, (512, 512)),
        ({"LLAMA_ARG_FIT_TARGET": "512"}, 812 * MIB, (512, 512)),
        ({"LLAMA_ARG_FIT_TARGET": "512,2048"}, 0, (512, 2048)),
    ],
)
def test_how_much_fit_leaves_free(
    environment: dict[str, str], projector_bytes: int, targets_mib: tuple[int, ...]
) -> None:
    vision = replace(scheduler_model(shape("gemma3:4b")), projector_bytes=projector_bytes)
    targets = fit_targets_bytes(
        settings_from_environment(environment),
        PlacementRules(),
        2,
        vision,
        projector_on_gpu=projector_bytes > 0,
    )
    assert targets == tuple(one * MIB for one in targets_mib)


def test_another_version_may_leave_other_sizes_free() -> None:
    rules = replace(PlacementRules(), fit_target_bytes=700 * MIB, projector_headroom_bytes=100 * MIB)
    plain, vision = scheduler_model(shape("llama3.1:8b")), scheduler_model(shape("gemma3:4b"))
    settings = settings_from_environment({})
    assert fit_targets_bytes(settings, rules, 1, plain, projector_on_gpu=False) == (700 * MIB,)
    vision = replace(vision, projector_bytes=812 * MIB)
    assert fit_targets_bytes(settings, rules, 1, vision, projector_on_gpu=True) == (912 * MIB,)
    unpadded = replace(rules, projector_pads_fit=False)
    assert fit_targets_bytes(settings, unpadded, 1, vision, projector_on_gpu=True) == (700 * MIB,)


@pytest.mark.parametrize(
    ("library", "compute_capability", "can"),
    [
        ("CUDA", "8.6", True),
        ("CUDA", "6.1", True),
        ("CUDA", "6.0", True),
        ("CUDA", "5.2", False),
        ("CUDA", "7.0", True),
        ("CUDA", "7.2", False),
        ("CUDA", "12.0", True),
        ("CUDA", None, True),
        ("ROCm", None, True),
        ("Vulkan", "5.2", True),
    ],
)
def test_which_gpus_get_flash_attention(library: str, compute_capability: str | None, can: bool) -> None:
    assert can_flash(SchedulerGpu(0, 1, 1, library, compute_capability=compute_capability)) is can


@pytest.mark.parametrize(
    ("environment", "gpus", "backend"),
    [
        ({}, [("CUDA", "8.6")], Backend(workspace_bytes=4 * MIB)),
        ({}, [("CUDA", "5.2")], Backend(workspace_bytes=4 * MIB, dequantised_bytes=4)),
        ({}, [("CUDA", "6.0")], Backend(workspace_bytes=4 * MIB, dequantised_bytes=2)),
        ({}, [("CUDA", "6.1")], Backend(workspace_bytes=4 * MIB)),
        ({}, [("CUDA", "7.0")], Backend(workspace_bytes=4 * MIB, dequantised_bytes=2)),
        ({}, [("CUDA", "7.2")], Backend(workspace_bytes=4 * MIB, dequantised_bytes=2)),
        ({}, [("CUDA", "7.5")], Backend(workspace_bytes=4 * MIB)),
        ({}, [("CUDA", "7.5"), ("CUDA", "7.0")], Backend(workspace_bytes=4 * MIB, dequantised_bytes=2)),
        ({}, [("CUDA", "9.0")], Backend(workspace_bytes=32 * MIB)),
        ({}, [("CUDA", "12.0")], Backend(workspace_bytes=32 * MIB)),
        ({}, [("CUDA", None)], Backend(workspace_bytes=32 * MIB)),
        ({}, [], Backend(workspace_bytes=32 * MIB)),
        ({}, [("CUDA", "8.6"), ("CUDA", "9.0")], Backend(workspace_bytes=32 * MIB)),
        ({}, [("ROCm", None)], Backend(keeps_size_classes=True)),
        ({"GGML_CUDA_NO_VMM": "1"}, [("CUDA", "9.0")], Backend(keeps_size_classes=True)),
        ({"GGML_CUDA_DISABLE_FUSION": "1"}, [("CUDA", "9.0")], Backend(fuses=False)),
    ],
)
def test_how_the_backend_runs_follows_from_the_gpus_and_the_environment(environment, gpus, backend) -> None:
    devices = [
        SchedulerGpu(number, 1, 1, library=library, compute_capability=capability)
        for number, (library, capability) in enumerate(gpus)
    ]
    assert backend_of(settings_from_environment(environment), devices) == backend
