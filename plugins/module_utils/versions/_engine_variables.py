# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables of the environment the engine reads besides Ollama's settings, and what each of them changes.

All that a build reads is listed in tests/data/engine_variables.json (tests/gates/engine_variables.py takes it from the
sources); a test asks that each name stands here or among those that change neither memory nor placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass


class EngineEffect(Enum):
    """What a plan makes of a variable: it counts with it, cannot, or need not."""

    COUNTED = "the plan counts with it"
    ESTIMATED = "the plan is an estimate"
    OVERRIDDEN = "it has no effect"
    NEVER_READ = "nothing reads it"


@dataclass(frozen=True)
class EngineVariable:
    """What a variable changes. `libraries`: those whose GPUs alone it concerns, none for all.

    `of_llama_server`: read from 0.30 on.
    """

    changes: str
    effect: EngineEffect = EngineEffect.ESTIMATED
    libraries: tuple[str, ...] = ()
    of_llama_server: bool = False


def _server(changes: str, effect: EngineEffect = EngineEffect.ESTIMATED) -> EngineVariable:
    return EngineVariable(changes, effect, of_llama_server=True)


def _backend(changes: str) -> EngineVariable:
    """Of the backend for CUDA, which is that for ROCm too."""
    return EngineVariable(changes, libraries=("CUDA", "ROCm"))


def _cuda(changes: str) -> EngineVariable:
    return EngineVariable(changes, libraries=("CUDA",))


def _rocm(changes: str) -> EngineVariable:
    return EngineVariable(changes, libraries=("ROCm",))


def _vulkan(changes: str) -> EngineVariable:
    return EngineVariable(changes, libraries=("Vulkan",))


_GIVEN = _server("what Ollama gives llama-server on its command line, which wins", EngineEffect.OVERRIDDEN)
_LAYERS = _server("how many layers lie on the GPU, so that the engine no longer fits them to what is free")
_SHARES = _server("on which GPUs the engine puts the model, so that it no longer fits it to what is free")
_EXPERTS = _server("which tensors lie in system memory")
_OTHER_MODEL = _server("which model the engine loads")
_PROJECTOR = _server("where the projector lies, or which one it is")
_IMAGES = _server("how large the projector's compute buffer is")
_DRAFT = _server("whether a draft of the model is run, and where its memory lies")
_HOST_MEMORY = _server("how much system memory the engine takes")
_LOADING = _server("whether the weights are copied into system memory")

# Source: llama.cpp b10488 to b11434 common/arg.cpp (set_env; the LLAMA_ARG_NO_ form of what can be negated), getenv in
# ggml/src, src, common and tools; ollama v0.33.0-rc2 llm/llama_server.go for what stands on the command line.
ENGINE_VARIABLES: Mapping[str, EngineVariable] = {
    "LLAMA_ARG_CTX_SIZE": _GIVEN,
    "LLAMA_ARG_N_PARALLEL": _GIVEN,
    "LLAMA_ARG_BATCH": _GIVEN,
    "LLAMA_ARG_UBATCH": _GIVEN,
    "LLAMA_ARG_FLASH_ATTN": _GIVEN,
    "LLAMA_ARG_MODEL": _GIVEN,
    "LLAMA_ARG_HOST": _GIVEN,
    "LLAMA_ARG_PORT": _GIVEN,
    "LLAMA_ARG_N_GPU_LAYERS": _LAYERS,
    "LLAMA_ARG_FIT_CTX": _server("to what context the engine may shrink"),
    "LLAMA_ARG_FIT_ESTIMATE": _server("whether the engine only estimates"),
    "LLAMA_ARG_DEVICE": _SHARES,
    "LLAMA_ARG_SPLIT_MODE": _SHARES,
    "LLAMA_ARG_MAIN_GPU": _SHARES,
    "LLAMA_ARG_TENSOR_SPLIT": _SHARES,
    "LLAMA_ARG_RPC": _SHARES,
    "LLAMA_ARG_CPU_MOE": _EXPERTS,
    "LLAMA_ARG_N_CPU_MOE": _EXPERTS,
    "LLAMA_ARG_N_CPU_FFN": _EXPERTS,
    "LLAMA_ARG_OVERRIDE_TENSOR": _EXPERTS,
    "LLAMA_ARG_KV_OFFLOAD": _server("whether the KV cache lies on the GPU"),
    "LLAMA_ARG_KV_UNIFIED": _server("whether the slots share one KV cache"),
    "LLAMA_ARG_KV_UNIFIED_PER_SLOT": _server("whether the slots share one KV cache"),
    "LLAMA_ARG_SWA_FULL": _server("how large the cache of sliding-window layers is"),
    "LLAMA_ARG_CACHE_TYPE_K": _server("the type of the KV cache where OLLAMA_KV_CACHE_TYPE is not set"),
    "LLAMA_ARG_CACHE_TYPE_V": _server("the type of the KV cache where OLLAMA_KV_CACHE_TYPE is not set"),
    "LLAMA_ARG_BACKEND_SAMPLING": _server("the compute buffer"),
    "LLAMA_ARG_EMBEDDINGS": _server("what the model is run for"),
    "LLAMA_ARG_RERANKING": _server("what the model is run for"),
    "LLAMA_ARG_POOLING": _server("the compute buffer"),
    "LLAMA_ARG_CACHE_RAM": _server("how many past prompts are kept in system memory", EngineEffect.COUNTED),
    "LLAMA_ARG_CACHE_IDLE_SLOTS": _HOST_MEMORY,
    "LLAMA_ARG_CTX_CHECKPOINTS": _HOST_MEMORY,
    "LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT": _HOST_MEMORY,
    "LLAMA_ARG_NO_HOST": _HOST_MEMORY,
    "LLAMA_ARG_REPACK": _HOST_MEMORY,
    "LLAMA_ARG_MMAP": _LOADING,
    "LLAMA_ARG_MLOCK": _LOADING,
    "LLAMA_ARG_DIO": _LOADING,
    "LLAMA_ARG_LOAD_MODE": _LOADING,
    "LLAMA_ARG_LAZY_MODE": _LOADING,
    "LLAMA_ARG_MMPROJ": _PROJECTOR,
    "LLAMA_ARG_MMPROJ_URL": _PROJECTOR,
    "LLAMA_ARG_MMPROJ_AUTO": _PROJECTOR,
    "LLAMA_ARG_MMPROJ_OFFLOAD": _PROJECTOR,
    "LLAMA_ARG_IMAGE_MAX_TOKENS": _IMAGES,
    "LLAMA_ARG_IMAGE_MIN_TOKENS": _IMAGES,
    "LLAMA_ARG_MTMD_BATCH_MAX_TOKENS": _IMAGES,
    "MTMD_BACKEND_DEVICE": _PROJECTOR,
    "LLAMA_ARG_SPEC_TYPE": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_MODEL": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_CPU_MOE": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_N_CPU_MOE": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_BACKEND_SAMPLING": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_N_MAX": _DRAFT,
    "LLAMA_ARG_SPEC_DRAFT_SAMPLING": _DRAFT,
    "LLAMA_ARG_DRAFT_MAX": _DRAFT,
    "LLAMA_ARG_N_GPU_LAYERS_DRAFT": _DRAFT,
    "LLAMA_ARG_MODEL_URL": _OTHER_MODEL,
    "LLAMA_ARG_HF_REPO": _OTHER_MODEL,
    "LLAMA_ARG_HF_FILE": _OTHER_MODEL,
    "LLAMA_ARG_DOCKER_REPO": _OTHER_MODEL,
    "LLAMA_ATTN_ROT_DISABLE": _server("the graph, and with it the compute buffer"),
    "GGML_BACKEND_PATH": EngineVariable("which backend the engine loads"),
    "GGML_OP_OFFLOAD_MIN_BATCH": EngineVariable("what the GPU computes of layers in system memory"),
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": _backend(
        "where GPU memory lies: the engine takes the system's available memory for what a GPU has free, and moves what does "
        "not fit into system memory without a word"
    ),
    "GGML_CUDA_DISABLE_FUSION": _backend("the graph, and with it the compute buffer"),
    "GGML_CUDA_DISABLE_GRAPHS": _backend("what the backend keeps on a GPU beside its buffers"),
    "GGML_CUDA_GRAPH_OPT": _backend("the graph, and with it the compute buffer"),
    "GGML_CUDA_DEVICES": _backend("how many devices the engine makes of a GPU"),
    "GGML_CUDA_P2P": _backend("what the backend keeps on a GPU beside its buffers"),
    "GGML_CUDA_ALLREDUCE": _backend("what the backend keeps on a GPU beside its buffers"),
    "GGML_CUDA_NO_PINNED": _backend("whether the host's buffers are pinned"),
    "GGML_CUDA_REGISTER_HOST": _backend("whether the host's buffers are pinned"),
    "GGML_CUDA_CUBLAS_COMPUTE_TYPE": _backend("what the backend keeps on a GPU beside its buffers"),
    "GGML_CUDA_MMQ_PREC": _backend("what the backend keeps on a GPU beside its buffers"),
    "GGML_CPU_TILED_MM": EngineVariable("how much system memory the engine takes"),
    "GGML_CPU_TILED_MM_FORCE": EngineVariable("how much system memory the engine takes"),
    "GGML_CUDA_NO_VMM": EngineVariable(
        "how an engine is built; the environment is not asked", EngineEffect.NEVER_READ
    ),
    "GGML_CUDA_FORCE_MMQ": EngineVariable(
        "how an engine is built; the environment is not asked", EngineEffect.NEVER_READ
    ),
    "GGML_CUDA_FORCE_CUBLAS": EngineVariable(
        "how an engine is built; the environment is not asked", EngineEffect.NEVER_READ
    ),
    "CUDA_MODULE_LOADING": _cuda("how much of a GPU the CUDA context takes"),
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": _cuda("how much of a GPU a process may take"),
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": _cuda("how much of a GPU the CUDA context takes"),
    "HSA_OVERRIDE_GFX_VERSION": _rocm("which code the GPU runs"),
    "HSA_XNACK": _rocm("where GPU memory lies"),
    "GPU_MAX_HEAP_SIZE": _rocm("how much of a GPU a process may take"),
    "GPU_MAX_ALLOC_PERCENT": _rocm("how much of a GPU a process may take"),
    "GPU_SINGLE_ALLOC_PERCENT": _rocm("how much of a GPU a process may take"),
    "GGML_DISABLE_VULKAN": _vulkan("whether a GPU is used"),
    "GGML_VK_ALLOW_SYSMEM_FALLBACK": _vulkan("where GPU memory lies"),
    "GGML_VK_PREFER_HOST_MEMORY": _vulkan("where GPU memory lies"),
    "GGML_VK_DISABLE_HOST_VISIBLE_VIDMEM": _vulkan("where GPU memory lies"),
    "GGML_VK_FORCE_MAX_ALLOCATION_SIZE": _vulkan("how GPU memory is divided"),
    "GGML_VK_FORCE_MAX_BUFFER_SIZE": _vulkan("how GPU memory is divided"),
    "GGML_VK_SUBALLOCATION_BLOCK_SIZE": _vulkan("how GPU memory is divided"),
    "GGML_VK_DISABLE_FUSION": _vulkan("the graph, and with it the compute buffer"),
    "GGML_VK_DISABLE_GRAPH_OPTIMIZE": _vulkan("the graph, and with it the compute buffer"),
    "OLLAMA_NEW_ENGINE": EngineVariable("which engine runs a model"),
}
_PREFIX, _NEGATED = "LLAMA_ARG_", "LLAMA_ARG_NO_"


def engine_variable(name: str) -> EngineVariable | None:
    """What is known of a variable; one of a GPU (HSA_OVERRIDE_GFX_VERSION_0) and a negated one are like the plain one."""
    known = ENGINE_VARIABLES.get(name)
    if known is None and name.startswith(_NEGATED):
        known = ENGINE_VARIABLES.get(_PREFIX + name[len(_NEGATED) :])
    if known is None and name.startswith("HSA_OVERRIDE_GFX_VERSION_"):
        known = ENGINE_VARIABLES["HSA_OVERRIDE_GFX_VERSION"]
    return known
