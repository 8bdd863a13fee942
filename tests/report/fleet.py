# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of any size as an inventory, with the facts that the roles would have set on each host.

``python3 tests/report/fleet.py 500 FILE`` writes one to look at; ``render.py`` makes its page.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    Limit,
    Parts,
    Plan,
    PlannedGpu,
    PlannedModel,
)

GIB = 1 << 30
MIB = 1 << 20
MARGIN_BYTES = 1024 * MIB
CUDA_CONTEXT_BYTES = 600 * MIB
# name, GPUs, GiB each
MACHINES = (
    ("NVIDIA GeForce RTX 3060", 1, 12),
    ("NVIDIA GeForce RTX 3090", 2, 24),
    ("NVIDIA RTX 6000 Ada Generation", 1, 48),
    ("NVIDIA L40S", 4, 45),
    ("NVIDIA H100 80GB HBM3", 1, 80),
    ("NVIDIA A100-SXM4-80GB", 8, 80),
    ("CPU", 0, 0),
)
# name, GiB of weights, KiB of KV cache per token, MiB of compute buffers
MODELS = (
    ("llama3.1:8b", 4.3, 128, 224),
    ("qwen3:8b", 4.6, 144, 304),
    ("gemma3:4b", 2.4, 50, 530),
    ("phi4:14b", 8.1, 200, 400),
)
DRIFTS: tuple[tuple[tuple[str, str | None, str], ...], ...] = (
    (("file", "1", "3"), ("unit", "1", "3"), ("process", "1", "3"), ("server", "1", "3")),
    (("process", "1", "3"), ("server", "1", "3")),
    (("file", "5", "3"),),
    (("file", None, "3"), ("unit", None, "3"), ("process", None, "3")),
)


def fleet(size: int, seed: int = 1) -> dict[str, dict[str, Any]]:
    """Host name to facts; about one host in ten is not as planned."""
    chance = random.Random(seed)
    return {f"gpu{number:04d}.example.org": _facts(chance) for number in range(size)}


def inventory(facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"ollama": {"hosts": facts}}


def _facts(chance: random.Random) -> dict[str, Any]:
    fate = chance.random()
    if fate < 0.02:
        return {"ollama_report_unreachable": "Failed to connect to the host via ssh: Connection timed out"}
    if fate < 0.04:
        reason = "model 'llama4:70b' is wanted but not installed; pull it, or describe it"
        return {"ollama_report_failure": reason}
    plan = _plan(chance)
    differences = []
    if fate < 0.1:
        for layer, found, wanted in chance.choice(DRIFTS):
            message = f"{layer} has OLLAMA_NUM_PARALLEL={found}, wanted {wanted}"
            differences.append(
                {
                    "layer": layer,
                    "variable": "OLLAMA_NUM_PARALLEL",
                    "found": found,
                    "wanted": wanted,
                    "message": message,
                }
            )
    verified = {
        "in_sync": not differences,
        "differences": differences,
        "conflicts": [],
        "problems": [],
        "overrides": [],
    }
    return {"ollama_plan": plan.to_dict(), "ollama_verify_result": verified}


def _plan(chance: random.Random) -> Plan:
    card, count, gib = chance.choice(MACHINES)
    total = gib * GIB
    others = [chance.choice((0, 0, 300 * MIB, 4 * GIB)) for _gpu in range(count)]
    free = [total - size for size in others]
    parallel, context = chance.choice((1, 2, 3, 4, 8)), chance.choice((4096, 8192, 32768))
    models = []
    held: list[list[GpuShare]] = [[] for _gpu in range(count)]
    for name, weights_gib, kv_kib, compute_mib in MODELS[: chance.randint(1, 3)]:
        if not count:
            models.append(PlannedModel(name, True, context, 1, 512, basis="exact"))
            continue
        device = max(range(count), key=lambda index: free[index])
        share = GpuShare(
            index=device,
            uuid=f"GPU-{device}",
            layers=33,
            weights_bytes=int(weights_gib * GIB),
            kv_cache_bytes=kv_kib * 1024 * context * parallel,
            compute_bytes=compute_mib * MIB,
            projector_bytes=0,
            projector_compute_bytes=0,
            cuda_context_bytes=CUDA_CONTEXT_BYTES,
        )
        if share.total_bytes + MARGIN_BYTES > free[device]:
            continue
        free[device] -= share.total_bytes
        held[device].append(share)
        models.append(PlannedModel(name, True, context, parallel, 1024, basis="exact", gpus=(share,)))
    gpus = tuple(
        PlannedGpu(
            index=index,
            uuid=f"GPU-{index}",
            name=card,
            total_bytes=total,
            others_bytes=others[index],
            planned_bytes=total - others[index] - free[index],
            free_bytes=free[index],
            engine_margin_bytes=MARGIN_BYTES,
            headroom_bytes=0,
            **{part.name: sum(getattr(share, part.name) for share in held[index]) for part in fields(Parts)},
        )
        for index in range(count)
    )
    environment = {
        "OLLAMA_CONTEXT_LENGTH": str(context),
        "OLLAMA_MAX_LOADED_MODELS": str(max(len(models), 1)),
        "OLLAMA_NUM_PARALLEL": str(parallel),
    }
    more = f"OLLAMA_NUM_PARALLEL {parallel + 1} would take 1.3 GiB more on GPU 0 and leave less than the engine's margin"
    return Plan(
        environment=environment,
        safe=chance.random() > 0.03,
        basis="exact",
        placement="gpu" if count else "cpu",
        version="0.33.0",
        rules="llama.cpp b10488 (Ollama 0.33.0)",
        num_parallel=parallel,
        max_loaded_models=max(len(models), 1),
        context_length=context,
        kv_cache_type="f16",
        spread=False,
        load_order=tuple(model.name for model in models),
        order_matters=False,
        models=tuple(models),
        gpus=gpus,
        limits=(
            Limit("parallel", parallel + 1, False, int(1.3 * GIB), more),
            Limit(
                "context",
                context * 2,
                True,
                GIB,
                f"{context * 2} tokens would fit, nobody asked for them",
            ),
        ),
        reasons=(
            f"{parallel} requests at once are asked for, and {parallel} slots of {context} tokens fit",
            "all models stay loaded together",
        ),
        warnings=() if chance.random() > 0.2 else ("GPU 0 drives a display: its free memory varies",),
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(inventory(fleet(int(sys.argv[1])))))
