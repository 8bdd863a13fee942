# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the plans of random hosts, one JSON line each: the same seed gives the same hosts on every version.

A change that is to change no plan is compared with the version before it, both printed by this very file:

    git worktree add /tmp/before main
    tests/bench/plans.py --count 2000 > /tmp/after.jsonl
    tests/bench/plans.py --count 2000 --checkout /tmp/before > /tmp/before.jsonl
    cmp /tmp/before.jsonl /tmp/after.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import types
from pathlib import Path
from typing import Any

GIB, MIB = 1 << 30, 1 << 20
NUMBERS = {
    "architecture": "qwen3moe",
    "block_count": 48,
    "embedding_length": 2048,
    "feed_forward_length": 6144,
    "head_count": 32,
    "head_count_kv": 4,
    "key_length": 128,
    "value_length": 128,
    "context_length": 262144,
    "vocabulary_size": 151936,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
    "quantization": "Q4_K_M",
}
# From the oldest that is planned for to one that is not known yet; most hosts have the newest.
VERSIONS = (
    *("0.5.7", "0.10.0", "0.10.1", "0.11.0", "0.11.4", "0.11.8", "0.11.11", "0.12.0", "0.12.6", "0.12.10"),
    *("0.13.1", "0.15.5", "0.17.1", "0.20.0", "0.22.0", "0.24.0", "0.30.0", "0.30.5", "0.32.0", "0.33.0-rc2"),
    *("0.33.0", "0.33.0", "0.33.0", "0.33.0", "0.40.0", None),
)
SIZES_GIB = (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 80, 96)
ENVIRONMENT = {
    "OLLAMA_FLASH_ATTENTION": ("0", "1", "false"),
    "OLLAMA_GPU_OVERHEAD": (str(512 * MIB), str(3 * GIB)),
    "OLLAMA_KEEP_ALIVE": ("-1", "1h"),
    "OLLAMA_KV_CACHE_TYPE": ("q8_0", "q4_0"),
    "OLLAMA_SCHED_SPREAD": ("1", "0"),
    "LLAMA_ARG_FIT": ("off",),
    "LLAMA_ARG_FIT_TARGET": ("2048", "512,1536"),
    "OLLAMA_NUM_PARALLEL": ("1", "3", "8"),
    "OLLAMA_CONTEXT_LENGTH": ("8192", "40000"),
    "OLLAMA_MAX_LOADED_MODELS": ("1", "3"),
    "OLLAMA_IGPU_ENABLE": ("1",),
    "CUDA_VISIBLE_DEVICES": ("0",),
}
# Values of a policy, and how many of a hundred hosts have one.
POLICY: dict[str, tuple[int, tuple[Any, ...]]] = {
    "requests": (50, (1, 2, 3, 5, 8)),
    "headroom_bytes": (20, (512 * MIB, 2 * GIB)),
    "kv_cache_types": (40, (["f16", "q8_0"], ["f16", "q8_0", "q4_0"], ["q8_0"])),
    "spread": (30, ("always", "never")),
    "max_context_length": (30, (8192, 65536)),
    "min_context_length": (10, (8192,)),
    "on_misfit": (60, ("subset",)),
    "on_gpu_fault": (70, ("exclude",)),
    "num_parallel": (15, (1, 2, 8)),
    "max_loaded_models": (10, (1, 2, 5)),
    "context_length": (15, (4096, 16384, 131072)),
    "lower_context": (20, (True,)),
    "min_parallel": (5, (2,)),
}


def expose(checkout: Path) -> None:
    """Make a checkout importable as the collection, whatever its folder is called."""
    for name, paths in (
        ("ansible_collections", []),
        ("ansible_collections.gpufleet", []),
        ("ansible_collections.gpufleet.ollama", [str(checkout)]),
    ):
        package = types.ModuleType(name)
        package.__path__ = paths
        sys.modules[name] = package


def random_gpus(dice: random.Random) -> dict[str, Any]:
    """GPU facts of a host: none to eight GPUs, alike or not, some in use, some faulty."""
    alike, size = dice.random() < 0.5, dice.choice(SIZES_GIB)
    vendor = dice.choice(["nvidia"] * 6 + ["amd"])
    capability = dice.choice(["8.6"] * 4 + ["8.9", "9.0", "12.0", "7.5", "6.1", "5.2", "7.2"])
    devices = []
    for _gpu in range(dice.choice([0, 1, 1, 1, 2, 2, 2, 3, 4, 8])):
        total = (size if alike else dice.choice(SIZES_GIB)) * GIB - dice.choice([0, 0, dice.randrange(900) * MIB])
        device: dict[str, Any] = {
            "memory_total_bytes": total,
            "memory_free_bytes": total - dice.choice([0, 0, 500 * MIB, dice.randrange(3000) * MIB]),
            "compute_capability": capability if vendor == "nvidia" else "",
            "vendor": vendor,
        }
        if vendor == "amd":
            device["gfx_target"] = dice.choice(["gfx1100", "gfx942", "gfx1151"])
            device["integrated"] = dice.random() < 0.2
        if dice.random() < 0.05:
            device["problems"] = ["an uncorrectable ECC error is pending"]
        devices.append(device)
    return {
        "system_memory_total_bytes": dice.choice([16, 32, 64, 128, 512]) * GIB,
        "devices": devices,
    }


def random_environment(dice: random.Random, chance: float) -> dict[str, str]:
    """Each of the variables with this chance."""
    return {name: dice.choice(values) for name, values in ENVIRONMENT.items() if dice.random() < chance}


def random_case(dice: random.Random, shapes: list[dict[str, Any]], most_models: int) -> dict[str, Any]:
    """A host, its models, what is wanted of them, and a policy."""
    counts = [count for count in (1, 1, 1, 2, 2, 3, 4, 6, 9, 14, 20) if count <= most_models]
    models = dice.sample(shapes, dice.choice(counts))
    if dice.random() < 0.05:
        models = [*models, {"name": "numbers:30b", "numbers": NUMBERS}]
    wanted = []
    for model in models[: dice.randint(1, len(models))] if dice.random() < 0.6 else []:
        wish = {"name": model["name"]}
        for key, chance, values in (
            ("context_length", 0.2, (4096, 8192, 32768)),
            ("requests", 0.2, (1, 2, 3, 4, 5, 6)),
            ("priority", 0.2, (0, 1, 2, 3)),
        ):
            if dice.random() < chance:
                wish[key] = dice.choice(values)
        wanted.append(wish)
    policy = {
        name: dice.choice(values) for name, (percent, values) in POLICY.items() if dice.randrange(100) < percent
    }
    policy["operator_environment"] = random_environment(dice, 0.06)
    if policy.get("min_context_length", 0) > policy.get("max_context_length", 1 << 30):
        del policy["min_context_length"]
    service = None
    if dice.random() < 0.5:
        service = {
            "running": random_environment(dice, 0.2),
            "managed": random_environment(dice, 0.15),
            "foreign": random_environment(dice, 0.06),
        }
    return {
        "gpu": random_gpus(dice),
        "models": models,
        "wanted": wanted,
        "policy": policy,
        "version": dice.choice(VERSIONS),
        "service": service,
        "loaded": {model["name"]: dice.choice([4096, 32768]) for model in models if dice.random() < 0.2},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-models", type=int, default=6)
    arguments = parser.parse_args()
    expose(arguments.checkout)
    from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
    from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import plan_of

    shapes = []
    for path in sorted((arguments.checkout / "tests" / "data" / "headers").glob("*.json")):
        header = json.loads(path.read_text())
        shape = shape_from_header(header, name=header["name"], digest=f"sha256-{path.stem}")
        shapes.append(shape.to_dict())
    dice = random.Random(arguments.seed)
    start = time.process_time()
    for number in range(arguments.count):
        case = random_case(dice, shapes, arguments.most_models)
        # Plain data, of which a version before takes what it knows.
        known = {"server": {}, "observed": [], "unplannable": {}, "measured": {}, "use_measured_memory": False}
        told = plan_of({**case, **known, "service": case["service"] or {}})
        line = {"case": number, "version": case["version"], **told}
        print(json.dumps(line, sort_keys=True))
    print(f"cpu_s={time.process_time() - start:.1f} plans={arguments.count}", file=sys.stderr)


if __name__ == "__main__":
    main()
