# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the module `ollama_plan`, for its documentation and for the action that computes."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import KEEP_FREE_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import PARALLEL_MAX
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    DEFAULT_REQUESTS,
    KV_CACHE_TYPES,
    LEAST_CONTEXT_LENGTH,
    ON_GPU_FAULT,
    ON_MISFIT,
    SPREAD,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS

# Where the options are those of the role.
CHECKS = {"role_variables": {"type": "bool", "default": False}}

# The parts of a host that `ollama_host_info` reads.
PARTS = ("service", "gpu", "models", "measured", "server")

# What is read on the host before it is planned for; the names of the first are options of `ollama_host_info`.
READING = {
    "gather": {"type": "list", "elements": "str", "choices": list(PARTS), "default": []},
    **SERVICE_ARGUMENTS,
    "dropin_name": {"type": "str", "default": "zz-gpufleet.conf"},
    "return_host": {"type": "bool", "default": False},
    "as_json": {"type": "bool", "default": False},
    "only_inputs": {"type": "bool", "default": False},
    "pull": {"type": "bool", "default": False},
    "pull_models": {"type": "list", "elements": "raw", "default": []},
    "pull_keep_free_bytes": {"type": "int", "default": KEEP_FREE_BYTES},
}

# What is asked of the plan beside itself: whether the host is as planned, and what keeps the plan from being applied.
APPLYING = {
    "compare": {"type": "bool", "default": False},
    "apply": {"type": "bool", "default": False},
    "start_stopped": {"type": "bool", "default": False},
    "refusals": {"type": "list", "elements": "str", "default": []},
}

# What is planned with: the host, its models, the service as it is.
INPUTS = {
    "gpu": {"type": "dict", "default": {}},
    "models": {"type": "raw", "default": []},
    "unplannable": {"type": "list", "elements": "dict", "default": []},
    "wanted": {"type": "list", "elements": "raw", "default": []},
    "version": {"type": "str"},
    "loaded": {"type": "list", "elements": "dict", "default": []},
    "service": {"type": "dict", "default": {}},
    "measured": {"type": "dict", "default": {}},
    "server": {"type": "dict", "default": {}},
}

# How it is planned; the names are the fields of `Policy`.
POLICY = {
    "requests": {"type": "int", "default": DEFAULT_REQUESTS},
    "min_parallel": {"type": "int", "default": 1},
    "max_parallel": {"type": "int", "default": PARALLEL_MAX},
    "min_context_length": {"type": "int", "default": LEAST_CONTEXT_LENGTH},
    "max_context_length": {"type": "int"},
    "headroom_bytes": {"type": "int", "default": 0},
    "kv_cache_types": {
        "type": "list",
        "elements": "str",
        "choices": list(KV_CACHE_TYPES),
        "default": ["f16"],
    },
    "lower_context": {"type": "bool", "default": False},
    "spread": {"type": "str", "choices": list(SPREAD), "default": "auto"},
    "on_misfit": {"type": "str", "choices": list(ON_MISFIT), "default": "fail"},
    "on_gpu_fault": {"type": "str", "choices": list(ON_GPU_FAULT), "default": "fail"},
    "num_parallel": {"type": "int"},
    "max_loaded_models": {"type": "int"},
    "context_length": {"type": "int"},
    "use_measured_memory": {"type": "bool", "default": False},
    "operator_environment": {"type": "dict", "default": {}},
}

ARGUMENT_SPEC = {**CHECKS, **READING, **APPLYING, **INPUTS, **POLICY}
