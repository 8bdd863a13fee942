# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ollama reads the settings that decide where models go."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    FOREVER_SECONDS,
    ServerSettings,
    keep_alive_seconds,
    settings_from_environment,
)
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


def test_an_empty_environment_gives_the_defaults() -> None:
    assert settings_from_environment({}) == ServerSettings()


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("OLLAMA_NUM_PARALLEL", "4", "num_parallel", 4),
        ("OLLAMA_NUM_PARALLEL", ' "4" ', "num_parallel", 4),
        ("OLLAMA_NUM_PARALLEL", "0", "num_parallel", 1),
        ("OLLAMA_NUM_PARALLEL", "-2", "num_parallel", 1),
        ("OLLAMA_NUM_PARALLEL", "four", "num_parallel", 1),
        ("OLLAMA_NUM_PARALLEL", "", "num_parallel", 1),
        ("OLLAMA_MAX_LOADED_MODELS", "2", "max_loaded_models", 2),
        ("OLLAMA_MAX_LOADED_MODELS", "two", "max_loaded_models", 0),
        ("OLLAMA_CONTEXT_LENGTH", "8192", "context_length", 8192),
        ("OLLAMA_CONTEXT_LENGTH", "8k", "context_length", 0),
        ("OLLAMA_GPU_OVERHEAD", "1073741824", "gpu_overhead_bytes", 1024 * MIB),
        ("OLLAMA_GPU_OVERHEAD", "8G", "gpu_overhead_bytes", 0),
        ("OLLAMA_KV_CACHE_TYPE", "Q8_0", "kv_cache_type", "q8_0"),
        ("OLLAMA_FLASH_ATTENTION", "1", "flash_attention", True),
        ("OLLAMA_FLASH_ATTENTION", "false", "flash_attention", False),
        ("OLLAMA_FLASH_ATTENTION", "yes", "flash_attention", True),
        ("OLLAMA_FLASH_ATTENTION", "", "flash_attention", None),
        ("OLLAMA_SCHED_SPREAD", "true", "spread", True),
        ("OLLAMA_SCHED_SPREAD", "on", "spread", True),
        ("OLLAMA_SCHED_SPREAD", "0", "spread", False),
        ("LLAMA_ARG_FIT", "off", "fit", False),
        ("LLAMA_ARG_FIT", "on", "fit", True),
        ("LLAMA_ARG_FIT_TARGET", "512", "fit_targets_bytes", (512 * MIB,)),
        ("LLAMA_ARG_FIT_TARGET", "512, 2048", "fit_targets_bytes", (512 * MIB, 2048 * MIB)),
        ("LLAMA_ARG_FIT_TARGET", "much", "fit_targets_bytes", ()),
        ("GGML_CUDA_DISABLE_FUSION", "1", "fuses", False),
        ("GGML_CUDA_DISABLE_FUSION", " -2x", "fuses", False),
        ("GGML_CUDA_DISABLE_FUSION", "0", "fuses", True),
        ("GGML_CUDA_DISABLE_FUSION", "yes", "fuses", True),
        ("GGML_CUDA_NO_VMM", "", "grows_pools", False),
        ("OLLAMA_DEBUG", "1", "grows_pools", True),
    ],
)
def test_a_setting_is_read_as_ollama_reads_it(name: str, text: str, field: str, value: object) -> None:
    settings = settings_from_environment({name: text, "OLLAMA_USE_GPU": "1"})
    assert getattr(settings, field) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("90", 90),
        ("0", 0),
        ("0s", 0),
        ("-1", FOREVER_SECONDS),
        ("-5m", FOREVER_SECONDS),
        ("-1ns", FOREVER_SECONDS),
        ("1ns", 1e-9),
        ("500ms", 0.5),
        ("soon", 300),
        ("5 m", 300),
        ("5m later", 300),
    ],
)
def test_keep_alive_is_a_go_duration_or_seconds(text: str, seconds: float) -> None:
    assert keep_alive_seconds(text) == seconds


@given(st.dictionaries(st.sampled_from(sorted(ServerSettings.__dataclass_fields__)), st.text()))
def test_no_environment_stops_the_server(texts: dict[str, str]) -> None:
    names = {f"OLLAMA_{name.upper()}": text for name, text in texts.items()}
    names["LLAMA_ARG_FIT_TARGET"] = texts.get("fit_targets_bytes", "")
    settings = settings_from_environment(names)
    assert settings.num_parallel >= 1
    assert settings.keep_alive_seconds >= 0
    assert all(target >= 0 for target in settings.fit_targets_bytes)
