# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that decide where Ollama puts its models, read from an environment as Ollama reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._go_text import parse_uint
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import duration_ns
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import boolean, cleaned

# Source: ollama envconfig/config.go (v0.33.0-rc2).
DEFAULT_KEEP_ALIVE_SECONDS = 300.0
FOREVER_SECONDS = float("inf")
NANOSECONDS = 1_000_000_000

# Source: llama.cpp common/arg.cpp, is_falsey (b10488).
_FALSE_OF_LLAMA_CPP = frozenset(("off", "disabled", "0", "false"))


@dataclass(frozen=True)
class ServerSettings:
    """What a server's environment says of scheduling, after Ollama's own parsing.

    `max_loaded_models` and `context_length` of 0 mean that Ollama chooses. `flash_attention` is None where
    nothing is set. `fit_targets_bytes`: memory that the engine's fit leaves free, one value per device or one
    for all, empty where nothing is set. `fuses`: the engine's CUDA backend may run several operations as one;
    `grows_pools`: its pools may grow in place.
    """

    num_parallel: int = 1
    max_loaded_models: int = 0
    context_length: int = 0
    keep_alive_seconds: float = DEFAULT_KEEP_ALIVE_SECONDS
    kv_cache_type: str = "f16"
    flash_attention: bool | None = None
    spread: bool = False
    gpu_overhead_bytes: int = 0
    fit: bool = True
    fit_targets_bytes: tuple[int, ...] = ()
    fuses: bool = True
    grows_pools: bool = True


def settings_from_environment(environment: Mapping[str, str]) -> ServerSettings:
    """The settings as a server with this environment takes them; what does not parse has its default.

    Source: ollama envconfig/config.go (v0.33.0-rc2); llama.cpp common/arg.cpp (b10488) for LLAMA_ARG_*,
    ggml/src/ggml-cuda/ggml-cuda.cu for GGML_CUDA_*.
    """
    value = {name: cleaned(text) for name, text in environment.items()}
    return ServerSettings(
        num_parallel=_uint(value.get("OLLAMA_NUM_PARALLEL", "")) or 1,
        max_loaded_models=_uint(value.get("OLLAMA_MAX_LOADED_MODELS", "")),
        context_length=_uint(value.get("OLLAMA_CONTEXT_LENGTH", "")),
        keep_alive_seconds=keep_alive_seconds(value.get("OLLAMA_KEEP_ALIVE", "")),
        kv_cache_type=value.get("OLLAMA_KV_CACHE_TYPE", "").lower() or "f16",
        flash_attention=boolean(environment.get("OLLAMA_FLASH_ATTENTION")),
        spread=bool(boolean(environment.get("OLLAMA_SCHED_SPREAD"))),
        gpu_overhead_bytes=_uint(value.get("OLLAMA_GPU_OVERHEAD", "")),
        fit=value.get("LLAMA_ARG_FIT", "").lower() not in _FALSE_OF_LLAMA_CPP,
        fit_targets_bytes=_fit_targets(value.get("LLAMA_ARG_FIT_TARGET", "")),
        fuses=not _whole_number(environment.get("GGML_CUDA_DISABLE_FUSION", "")),
        grows_pools="GGML_CUDA_NO_VMM" not in environment,
    )


def keep_alive_seconds(text: str) -> float:
    """How long a model stays loaded: Go durations or seconds, negative is forever, rubbish the default."""
    nanoseconds = duration_ns(cleaned(text))
    if nanoseconds is None:
        return DEFAULT_KEEP_ALIVE_SECONDS
    return FOREVER_SECONDS if nanoseconds < 0 else nanoseconds / NANOSECONDS


def _uint(text: str) -> int:
    return parse_uint(text) or 0


def _whole_number(text: str) -> int:
    """The number at the begin of a text, as C's atoi reads it."""
    match = re.match(r"\s*[+-]?\d{1,18}", text)
    return int(match.group()) if match else 0


def _fit_targets(text: str) -> tuple[int, ...]:
    numbers = [parse_uint(part.strip()) for part in re.split("[,/]", text)]
    return tuple(number * MIB for number in numbers if number is not None) if None not in numbers else ()
