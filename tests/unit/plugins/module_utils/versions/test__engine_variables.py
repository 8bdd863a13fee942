# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable that a build of the engine or a release of Ollama reads is known for what it changes."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import KNOWN, READ_BESIDES
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_variables import (
    ENGINE_VARIABLES,
    EngineEffect,
    engine_variable,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA

READ: dict[str, list[str]] = json.loads((DATA / "engine_variables.json").read_text())

# What other backends than those of Ollama for Linux read, and what only logs, traces, times or talks.
OTHER_BACKENDS = re.compile(
    r"(GGML_(CANN|ET|HEXAGON|KLEIDIAI|METAL|OPENCL|REMOTING|SYCL|ZENDNN|RDMA|RPC)|SPACEMIT|ONEAPI)_|"
    r"(APPDATA|LOCALAPPDATA|TEMP|TERM|NO_COLOR|HOME|PATH|TMP|TMPDIR|USERPROFILE|XDG_CACHE_HOME|XDG_CONFIG_HOME)$"
)
DIAGNOSTICS = re.compile(
    r".*_(DEBUG|TRACE|LOG|LOGGER|BACKTRACE|STATS|MARKERS?|CHECKS|PROFILE|VERBOSE|N_DIFF|TENSOR|LLDB|REALLOC)$|"
    r"GGML_VK_PERF_LOGGER.*|MTMD_(DEBUG|TEST)_.*|LLGUIDANCE.*|LLAMA_(BATCH|KV_CACHE|GRAPH_\w+|DSV4_COMPRESS)_DEBUG|LLAMACPP_TEST_\w+"
)
# What the server answers, says or listens to, and how it samples and speaks, which takes no other memory.
OF_THE_SERVER = re.compile(
    r"AIP_\w+|"
    r"LLAMA_ARG_(FREQUENCY_PENALTY|MIN_P|PRESENCE_PENALTY|REPEAT_PENALTY|TEMPERATURE|TOP_P|AGENT|ALIAS|"
    r"API_\w+|CACHE_PROMPT|CACHE_REUSE|CHAT_\w+|CONTEXT_SHIFT|CONT_BATCHING|CORS_\w+|DEFRAG_THOLD|"
    r"DRAFT_MIN|ENDPOINT_\w+|GRP_ATTN_\w|JINJA|LOG_\w+|MCP_\w+|MODELS_\w+|NUMA|N_PREDICT|OFFLINE|PERF|PREFILL_\w+|REASONING\w*|"
    r"REUSE_PORT|ROPE_\w+|SHOW_TIMINGS|SKIP_\w+|SPEC_DRAFT_(N_MIN|P_MIN|P_SPLIT)|SPEC_SYNTH_\w+|SSE_\w+|SSL_\w+|STATIC_PATH|"
    r"TAGS|THINK\w*|THREADS\w*|TIMEOUT|TOOLS\w*|TOP_K|UI\w*|VIDEO_\w+|YARN_\w+)|"
    r"LLAMA_(API_KEY|APP_CMD|SERVER_\w+|MEDIA_MARKER|GRAPH_REUSE_DISABLE|CACHE\w*|OFFLINE)|HF_\w+|MODEL_ENDPOINT|HUGGING\w+"
)
# How fast a backend computes, which takes no other memory.
OF_SPEED = re.compile(
    r"GGML_(CPU_DISABLE_FUSION|CUDA_PDL|TOTAL_THREADS|NO_IQ_PANEL)|KMP_BLOCKTIME|OMP_\w+|"
    r"GGML_VK_(ALLOW_GRAPHICS_QUEUE|DISABLE_DESCRIPTOR_REUSE|FA_SPARSE_DISABLE)|"
    r"GGML_VK_(ASYNC_\w+|DISABLE_(ASYNC|BFLOAT16|COOPMAT\w*|DOT2|F16|INTEGER_\w+|MMVQ|MULTI_ADD|OCP_FP4)|"
    r"ENABLE_MEMORY_PRIORITY|FORCE_MMVQ|MAX_NODES_PER_SUBMIT|SERIALIZE_SUBMISSIONS)"
)
# What Ollama reads besides its settings.
OF_OLLAMA = {"JETSON_JETPACK", *READ_BESIDES}
HARMLESS = (OTHER_BACKENDS, DIAGNOSTICS, OF_THE_SERVER, OF_SPEED)


@pytest.mark.parametrize("source", sorted(READ))
def test_every_variable_that_is_read_is_known_for_what_it_changes(source: str) -> None:
    unknown = [
        name
        for name in READ[source]
        if engine_variable(name) is None
        and name not in KNOWN
        and name not in OF_OLLAMA
        and not any(kind.match(name) for kind in HARMLESS)
    ]
    assert unknown == []


def test_what_is_known_for_a_change_is_read_by_a_build_or_by_the_driver() -> None:
    of_drivers = re.compile(r"CUDA_|HSA_|GPU_")
    read = {name for names in READ.values() for name in names}
    unread = {
        name
        for name, known in ENGINE_VARIABLES.items()
        if name not in read and not of_drivers.match(name) and known.effect is not EngineEffect.NEVER_READ
    }
    assert unread == set()
    assert not {name for name, known in ENGINE_VARIABLES.items() if known.effect is EngineEffect.NEVER_READ} & read


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", EngineEffect.ESTIMATED),
        ("GGML_CUDA_DISABLE_FUSION", EngineEffect.ESTIMATED),
        ("GGML_CUDA_NO_VMM", EngineEffect.NEVER_READ),
        ("LLAMA_ARG_N_GPU_LAYERS", EngineEffect.ESTIMATED),
        ("LLAMA_ARG_CTX_SIZE", EngineEffect.OVERRIDDEN),
        ("LLAMA_ARG_KV_OFFLOAD", EngineEffect.ESTIMATED),
        ("LLAMA_ARG_NO_KV_OFFLOAD", EngineEffect.ESTIMATED),
        ("LLAMA_ARG_NO_HOST", EngineEffect.ESTIMATED),
        ("LLAMA_ARG_CACHE_RAM", EngineEffect.COUNTED),
        ("HSA_OVERRIDE_GFX_VERSION", EngineEffect.ESTIMATED),
        ("HSA_OVERRIDE_GFX_VERSION_1", EngineEffect.ESTIMATED),
        ("LLAMA_ARG_FIT", None),
        ("OLLAMA_NUM_PARALLEL", None),
        ("PATH", None),
    ],
)
def test_what_a_variable_does_to_a_plan(name: str, effect: EngineEffect | None) -> None:
    known = engine_variable(name)
    assert (known.effect if known else None) is effect
