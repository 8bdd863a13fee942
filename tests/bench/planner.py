# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times the planner on hosts of many sizes, up to 8 GPUs and 20 models, and prints what it planned; then on large ones.

The last line is for programs: processor time in ms, the peak of memory in MiB. Another checkout is timed by its own copy.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import table
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)

GIB = 1 << 30
AIM_MS = 50
HOSTS = {
    "12": [12],
    "24": [24],
    "80": [80],
    "2x24": [24] * 2,
    "24+12": [24, 12],
    "4x48": [48] * 4,
    "8x80": [80] * 8,
}
MODEL_COUNTS = (1, 3, 10, 20)
# Hosts that are larger or stranger: sizes of their GPUs, models, whether they are wanted, a policy, and the aim in ms.
LARGE: dict[str, tuple[list[int], int, bool, dict[str, Any], int]] = {
    "8 unequal GPUs": ([80, 80, 48, 48, 24, 24, 16, 12], 40, False, {}, 200),
    "8 unequal GPUs, wanted": ([80, 80, 48, 48, 24, 24, 16, 12], 40, True, {"on_misfit": "subset"}, 200),
    "7 MIG instances": ([40, 20, 20, 10, 10, 10, 10], 20, False, {}, 200),
    "subset of wanted": ([24, 12], 20, True, {"on_misfit": "subset"}, 200),
    "64 GPUs": ([24] * 64, 256, False, {}, 5000),
}
POLICIES: dict[str, dict[str, Any]] = {"": {}, "q8_0 too": {"kv_cache_types": ["f16", "q8_0"]}}


def installed(folder: Path) -> list[dict[str, Any]]:
    """The models of a folder of headers in the form in which facts bring them, the smallest first."""
    shapes = []
    for path in sorted(folder.glob("*.json")):
        header = json.loads(path.read_text())
        shapes.append(shape_from_header(header, name=header["name"], digest=f"sha256-{path.stem}"))
    return [shape.to_dict() for shape in sorted(shapes, key=lambda shape: shape.file_bytes)]


def described(gpus_gib: list[int]) -> dict[str, Any]:
    """GPU facts of a host with GPUs of these sizes, all memory free."""
    return {
        "system_memory_total_bytes": 256 * GIB,
        "devices": [{"memory_total_bytes": size * GIB, "compute_capability": "8.6"} for size in gpus_gib],
    }


def as_instances(facts: dict[str, Any]) -> dict[str, Any]:
    """The same GPUs as MIG instances of one card."""
    devices = [
        {**device, "mig_parent_uuid": "GPU-0", "mig_profile": "a part", "uuid": f"MIG-{number}"}
        for number, device in enumerate(facts["devices"])
    ]
    return {**facts, "devices": devices}


def multiplied(models: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many models: those given, again and again under other names."""
    copies = [
        {**models[number % len(models)], "name": f"copy{number}:latest", "digest": f"sha256-copy{number}"}
        for number in range(len(models), count)
    ]
    return [*models, *copies][:count]


def forget() -> None:
    """Empty every cache of the collection."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ansible_collections.gpufleet.ollama."):
            for function in vars(module).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()


def timed(rounds: int, **inputs: Any) -> tuple[float, Plan | str]:
    """The shortest processor time in ms that planning takes, and the plan or the refusal."""
    best, planned = float("inf"), ""
    for _round in range(rounds):
        # Ansible plans each host in a process of its own, which remembers nothing.
        forget()
        start = time.process_time()
        try:
            planned = plan_host(**inputs)
        except ValueError as refusal:
            planned = str(refusal)
        best = min(best, (time.process_time() - start) * 1000)
    return best, planned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", type=Path, default=_collection.DATA / "headers")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    models = installed(arguments.headers)
    rows = [("HOST GiB", "MODELS", "WANTED", "POLICY", "ms", "PARALLEL", "LOADED", "CONTEXT", "KV", "")]
    times = []
    for (label, sizes), count, wanted, (policy_label, policy) in (
        (host, count, wanted, policy)
        for host in HOSTS.items()
        for count in MODEL_COUNTS
        for wanted in (False, True)
        for policy in POLICIES.items()
    ):
        # Every size of model is among them, whatever their number.
        chosen = models[:: max(len(models) // count, 1)][:count]
        names = [model["name"] for model in chosen] if wanted else []
        elapsed, plan = timed(
            arguments.rounds,
            gpu=described(sizes),
            models=chosen,
            wanted=wanted_from_list(names),
            policy=policy_from_dict(policy),
            version="0.33.0",
        )
        times.append(elapsed)
        head = (label, str(count), "all" if wanted else "-", policy_label, f"{elapsed:.0f}")
        if isinstance(plan, str):
            rows.append((*head, "", "", "", "", "refused"))
            continue
        note = "" if plan.safe else "not safe"
        rows.append(
            (
                *head,
                str(plan.num_parallel),
                str(plan.max_loaded_models),
                str(plan.context_length),
                plan.kv_cache_type,
                note or ("in order" if plan.order_matters else ""),
            )
        )
    print("\n".join(table(rows, "lrllrrrrll")))
    large_times = print_large(models)
    ascending = sorted(times)
    figures = {
        "median_ms": ascending[len(times) // 2],
        "p95_ms": ascending[len(times) * 95 // 100],
        "worst_ms": ascending[-1],
    }
    within = sum(elapsed <= AIM_MS for elapsed in times)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        " ".join(f"planner_{name}={figure:.1f}" for name, figure in figures.items())
        + f" planner_within_{AIM_MS}_ms={within} planner_cases={len(times)}"
        + f" planner_large_worst_ms={max(large_times):.1f} planner_peak_mib={peak_mib}"
    )


def print_large(models: list[dict[str, Any]]) -> list[float]:
    """The hosts that are larger or stranger; each once, for that takes long enough."""
    rows = [("HOST", "MODELS", "WANTED", "ms", "AIM", "")]
    times = []
    for label, (sizes, count, wanted, policy, aim_ms) in LARGE.items():
        chosen = multiplied(models, count)
        facts = described(sizes)
        elapsed, plan = timed(
            1,
            gpu=as_instances(facts) if "MIG" in label else facts,
            models=chosen,
            wanted=wanted_from_list([model["name"] for model in chosen] if wanted else []),
            policy=policy_from_dict(policy),
            version="0.33.0",
        )
        times.append(elapsed)
        told = f"refused: {plan}"[:80] if isinstance(plan, str) else ""
        rows.append((label, str(count), "all" if wanted else "-", f"{elapsed:.0f}", str(aim_ms), told))
    print("\n" + "\n".join(table(rows, "lrlrrl")))
    return times


if __name__ == "__main__":
    main()
