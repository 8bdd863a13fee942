# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama tells the engine when it starts it: the memory to leave free, whether flash attention may be used."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    HOPPER,
    OLD_WORKSPACE_BYTES,
    WORKSPACE_BYTES,
    Backend,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerGpu,
    SchedulerModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    ServerSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._capability import capability_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules

SINGLE_BYTES, HALF_BYTES = 4, 2
TURING = (7, 5)


def fit_targets_bytes(
    settings: ServerSettings,
    rules: PlacementRules,
    gpu_count: int,
    model: SchedulerModel,
    *,
    projector_on_gpu: bool,
) -> tuple[int, ...]:
    """Memory that the engine's fit leaves free on each GPU: by default 1 GiB, more beside a projector.

    Source: ollama llm/llama_server.go, mmprojFitTargetMiB() (v0.33.0-rc2); llama.cpp common/arg.cpp (b10488).
    """
    if settings.fit_targets_bytes:
        given = settings.fit_targets_bytes
        return tuple(given[min(position, len(given) - 1)] for position in range(gpu_count))
    target = rules.fit_target_bytes
    if projector_on_gpu and rules.projector_pads_fit:
        target = -(-(model.projector_bytes + rules.projector_headroom_bytes) // MIB) * MIB
    return (target,) * gpu_count


def backend_of(settings: ServerSettings, gpus: Sequence[SchedulerGpu]) -> Backend:
    """How the engine's backend runs on these GPUs; of several the one that takes most."""
    return Backend(
        fuses=settings.fuses,
        keeps_size_classes=not settings.grows_pools or any(gpu.library == "ROCm" for gpu in gpus),
        workspace_bytes=max((_workspace_bytes(gpu) for gpu in gpus), default=WORKSPACE_BYTES),
        dequantised_bytes=max((_dequantised_bytes(gpu.compute_capability) for gpu in gpus), default=0),
    )


def _dequantised_bytes(compute_capability: str | None) -> int:
    """Of an element of quantised weights that GPUs without integer products, or with tensor cores for halves alone, make.

    Source: llama.cpp ggml/src/ggml-cuda/mmq.cu, ggml_cuda_should_use_mmq, and ggml-cuda.cu, ggml_cuda_op_mul_mat_cublas: in
    single precision before 6.0, in half precision on 6.0 and on Volta (b10068 to b11218).
    """
    capability = capability_of(compute_capability)
    if capability is None:
        return 0
    if capability < (6, 0):
        return SINGLE_BYTES
    return HALF_BYTES if capability == (6, 0) or (7, 0) <= capability < TURING else 0


def _workspace_bytes(gpu: SchedulerGpu) -> int:
    capability = capability_of(gpu.compute_capability)
    return OLD_WORKSPACE_BYTES if capability and capability < HOPPER else WORKSPACE_BYTES


def can_flash(gpu: SchedulerGpu) -> bool:
    """Whether Ollama lets the engine use flash attention on this GPU.

    Source: ollama ml/device.go, FlashAttentionSupported() (v0.33.0-rc2).
    """
    capability = capability_of(gpu.compute_capability)
    return gpu.library != "CUDA" or capability is None or (capability >= (6, 0) and capability != (7, 2))
