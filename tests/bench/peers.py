# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other planners say of the same models and GPUs, beside the engine's own allocations.

python tests/bench/peers.py

Fetches llm-checker (npm) and llmfit (PyPI), in the versions below, into .build/peers and runs them there. Needs node. llmfit
warns where glibc is older than 2.39 (Debian 13 has it), and ran on Debian 12 all the same. gguf-parser is in neither, nor in
Debian: it is a Go module with binaries on GitHub, and PyPI's gguf-parser is another program, which reads headers only.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _collection
from accuracy import percentile
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import cards_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._known_models import models_named

LLM_CHECKER, LLMFIT = "3.8.1", "1.1.17"
HOME = _collection.REPOSITORY / ".build" / "peers"
TABLE = _collection.DATA / "engine_memory.csv"
GIB = 1 << 30
# Below what was allocated by more than this a plan spills: the engine's margin is 1024 MiB, and there are several models.
UNDER_MIB = 256
MOST_SLOTS = 64
# Its planner's own functions, for one loaded model: what the model takes, and a KV cache for each request.
ESTIMATE = """
const Planner = require("llm-checker/src/ollama/capacity-planner.js");
const planner = new Planner();
const rows = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(rows.map(({name, gib, context, parallel}) => {
  const model = {name, size: (name.match(/\\d+(\\.\\d+)?b/) || [""])[0], fileSizeGB: gib};
  const cache = planner.estimateKVCacheGB(planner.estimateParamsB(model), context);
  return planner.estimateBaseMemoryGB(model) + parallel * cache;
})));
"""
# GPUs, our model, theirs, tokens for each session.
SESSIONS = (
    ("2x RTX 3090", "qwen2.5:14b", "Qwen/Qwen2.5-14B-Instruct", 16384),
    ("RTX 3090", "qwen2.5:14b", "Qwen/Qwen2.5-14B-Instruct", 8192),
    ("RTX 3060", "llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct", 8192),
    ("L40S", "qwen2.5:32b", "Qwen/Qwen2.5-32B-Instruct", 8192),
    ("RTX 3060", "gemma3:4b", "google/gemma-3-4b-it", 8192),
    ("RTX 4090", "gpt-oss:20b", "openai/gpt-oss-20b", 32768),
)


def main() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    memory_of_llm_checker()
    sessions_of_llmfit()


def memory_of_llm_checker() -> None:
    """Prints how far its planner is from the engine's allocations on one GPU with an f16 cache."""
    if not (HOME / "node_modules" / "llm-checker").is_dir():
        run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"llm-checker@{LLM_CHECKER}")
    with TABLE.open(encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["backend"] != "cpu" and row["status"] == "ok" and row["kv_type"] == "f16"
        ]
    asked = [
        {
            "name": row["model"],
            "gib": int(row["file_bytes"]) / GIB,
            "context": int(row["ctx"]),
            "parallel": int(row["parallel"]),
        }
        for row in rows
    ]
    told = json.loads(run("node", "-e", ESTIMATE, given=json.dumps(asked)))
    measured = [float(row["total_gpu_mib"]) for row in rows]
    off = [100 * (gib * 1024 - mib) / mib for gib, mib in zip(told, measured)]
    under = sum(gib * 1024 < mib - UNDER_MIB for gib, mib in zip(told, measured))
    distances = [abs(one) for one in off]
    print(
        f"llm-checker {LLM_CHECKER}, GPU memory of one model, {len(rows)} runs with an f16 cache (tests/data/engine_memory.csv):"
    )
    print(
        f"  median {percentile(distances, 0.5):.0f} % off, p99 {percentile(distances, 0.99):.0f} %, from {min(off):.0f} % to "
        f"{max(off):+.0f} %; {100 * under / len(rows):.0f} % of the runs under by more than {UNDER_MIB} MiB"
    )


def sessions_of_llmfit() -> None:
    """Prints how many sessions it counts, and how many slots of one model are safe by our plan."""
    program = HOME / f"llmfit-{LLMFIT}.data" / "scripts" / "llmfit"
    if not program.is_file():
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"llmfit=={LLMFIT}")
        (wheel,) = HOME.glob(f"llmfit-{LLMFIT}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(HOME)
        program.chmod(0o755)
    print(f"llmfit {LLMFIT}, sessions of one model at once, beside the most slots that are safe by our plan:")
    for gpu, ours, theirs, context in SESSIONS:
        cards = cards_of(gpu)
        pool = f"{sum(card.total_mib for card in cards)}M"
        told = json.loads(
            run(
                program,
                "--json",
                "--memory",
                pool,
                "--ram",
                "128G",
                "concurrency",
                theirs,
                "--quant",
                "Q4_K_M",
                "--context",
                str(context),
            )
        )
        (step,) = told["estimate"]["ladder"]
        slots = most_slots(cards, ours, context)
        print(f"  {gpu:12} {ours:12} {context:6} tokens: llmfit {step['max_sessions']:3}, ours {slots:3}")


def most_slots(cards: Sequence[Any], name: str, context: int) -> int:
    """The largest parallel value that our plan finds safe for one model."""
    policy = Policy(requests=MOST_SLOTS, max_parallel=MOST_SLOTS, context_length=context)
    devices = [card.as_device() for card in cards]
    plan = plan_host(
        gpu={"system_memory_total_bytes": 128 * GIB, "devices": devices},
        models=models_named(name).descriptions,
        wanted=[WantedModel(name)],
        policy=policy,
        version="0.33.0",
    )
    return plan.num_parallel


def run(*command: str | Path, given: str | None = None) -> str:
    """What a program prints, run in the folder of the peers. Exits where it fails."""
    done = subprocess.run(command, cwd=HOME, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]} failed: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
