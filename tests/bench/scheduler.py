# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays what a real Ollama decided in recorded scenarios, and counts what the simulation foretold."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    GpuMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerGpu,
    SchedulerModel,
    prediction_bytes_per_token,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import (
    LoadOutcome,
    LoadRequest,
    Server,
    start_server,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    keep_alive_seconds,
)

MIB = 1 << 20
GIB = 1 << 30
HTTP_OK = 200

# The vision tower of gemma3 in 16 bits, of which only the last projection depends on the text model.
GEMMA3_TOWER_BYTES = int(811.8 * MIB) - 2 * 1152 * 2560
GEMMA3_TOWER_WIDTH = 1152
GEMMA3_TOWER = Tower(
    kind="gemma3",
    patch_length=14,
    patches_reserved=4096,
    patches_most=4096,
    embedding_length=GEMMA3_TOWER_WIDTH,
    feed_forward_length=4304,
    head_count=16,
    is_gated=False,
    has_windows=False,
)

# The part of a model that a logged buffer of a kind is.
PARTS = {"model": "weights_bytes", "KV": "kv_cache"}
CHECKS = ("placement", "batch", "eviction", "spill")


@dataclass(frozen=True)
class Recorded:
    """What the real server did in one step; None where the step has no such thing."""

    placement: tuple[int, ...] | None
    batch: int | None
    evicted: tuple[str, ...]
    spilled: bool | None


class RecordedEngine:
    """The memory rules where a model's header is at hand, else what the real engine logged.

    `loads`: what it logged in one step, one entry for each time that it was started. `failed`: whether the last of
    them came to nothing.
    """

    def __init__(self) -> None:
        self.rules = MemoryEngine()
        self.loads: list[dict[str, Any]] = []
        self.failed = False
        self._starts = 0

    def begin(self, step: dict[str, Any]) -> None:
        """Take what was logged in this step."""
        self.loads = step["observed"].get("loads") or []
        self.failed = step["http"] != HTTP_OK
        self._starts = 0

    def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        if model.shape is not None:
            return self.rules.start(model, launch, free_bytes)
        number = min(self._starts, len(self.loads) - 1)
        self._starts += 1
        load = self.loads[number] if self.loads else {}
        if load.get("oom") or (self.failed and number == len(self.loads) - 1):
            why = str(load.get("oom") or "the engine did not start")
            return EngineLoad(failure=why, is_out_of_memory=bool(load.get("oom")))
        return _logged_load(load, len(free_bytes))

    def believed(self, model: SchedulerModel, launch: Launch) -> BelievedMemory:
        return self.rules.believed(model, launch)


def _logged_load(load: dict[str, Any], gpu_count: int) -> EngineLoad:
    gpus = [GpuMemory()] * gpu_count
    logged: dict[tuple[str, int, str], int] = {}
    for component, backend, kind, mib in load.get("buffers") or []:
        device = re.fullmatch(r"[A-Za-z]+(\d+)", backend)
        if device and int(device.group(1)) < gpu_count:
            position, size_bytes = int(device.group(1)), int(mib * MIB)
            part = PARTS.get(kind, "compute_bytes")
            held = gpus[position]
            gpus[position] = (
                replace(held, kv_cache=held.kv_cache + KvCache(size_bytes))
                if part == "kv_cache"
                else replace(held, **{part: getattr(held, part) + size_bytes})
            )
            # Of two lines of one kind Ollama keeps the last.
            logged[component, int(device.group(1)), kind] = int(mib * MIB)
    counted = [0] * gpu_count
    for (_component, number, _kind), size in logged.items():
        counted[number] += size
    gpu_layers, layers = offloaded(load)
    if gpus:
        gpus[0] = replace(gpus[0], layers=gpu_layers)
    return EngineLoad(ModelMemory(tuple(gpus)), tuple(counted), gpu_layers < layers, layers)


def offloaded(load: dict[str, Any]) -> tuple[int, int]:
    """Layers on GPUs, and layers in all."""
    gpu_layers, _slash, layers = (load.get("offloaded") or "0/0").partition("/")
    return int(gpu_layers), int(layers)


def read_headers(folder: Path) -> dict[str, Path]:
    """The headers of a folder by the names that their files stand for, in which `_` may be `:`."""
    return {path.stem.replace(":", "_"): path for path in sorted(folder.glob("*.json"))}


def read_models(path: Path, folder: Path) -> dict[str, SchedulerModel]:
    """The models that scenarios name, by tag; with their shape where a header is at hand."""
    headers = read_headers(folder)
    models = {}
    for tag, facts in json.loads(path.read_text()).items():
        stem = tag.replace(":", "_").replace("/", "_")
        header_path = headers.get(stem) or headers.get(stem.replace("_latest", ""))
        if header_path is None:
            model = described(tag, facts)
        else:
            header = {**json.loads(header_path.read_text()), "file_bytes": facts["file_bytes"]}
            model = scheduler_model(shape_from_header(header, name=tag, digest=facts["blob"]))
        models[tag] = model
        models.setdefault(f"{tag}-vision", with_projector(model, facts["emb"]))
    return models


def described(tag: str, facts: dict[str, Any]) -> SchedulerModel:
    """A model of which no more is known than the file of models says."""
    kv_heads = facts.get("kv") or 0
    return SchedulerModel(
        name=tag,
        key=facts["blob"],
        file_bytes=facts["file_bytes"],
        prediction_bytes_per_token=prediction_bytes_per_token(
            facts["blocks"],
            min(kv_heads) if isinstance(kv_heads, list) else kv_heads,
            facts["emb"],
            max(facts["heads"]) if isinstance(facts["heads"], list) else facts["heads"],
        ),
        context_length_trained=facts["ctx_train"],
        block_count=facts["blocks"],
        family=facts["arch"],
        architecture=facts["arch"],
        is_embedding=facts.get("pooling") is not None,
    )


def with_projector(model: SchedulerModel, embedding_length: int) -> SchedulerModel:
    """The tag of the same blob that carries a separate projector, as large as gemma3's would be."""
    projector_bytes = GEMMA3_TOWER_BYTES + 2 * GEMMA3_TOWER_WIDTH * embedding_length
    shape = (
        None
        if model.shape is None
        else replace(model.shape, projector_bytes=projector_bytes, tower=GEMMA3_TOWER)
    )
    name = f"{model.name}-vision"
    return replace(model, name=name, is_vision=True, projector_bytes=projector_bytes, shape=shape)


def tagged(models: dict[str, SchedulerModel], tag: str) -> SchedulerModel:
    """The model of a tag; one that ends in `-ctx16k` sets num_ctx on the blob of another."""
    if tag in models:
        return models[tag]
    context = re.fullmatch(r"(.+)-ctx(\d+)k", tag)
    if context and context.group(1) in models:
        return replace(models[context.group(1)], name=tag, num_ctx=int(context.group(2)) * 1024)
    raise ValueError(f"{tag} is none of the models known: name it in the file of models")


def start(scenario: dict[str, Any], engine: RecordedEngine) -> Server:
    """The server of a scenario before its first step."""
    environment = scenario["env"]
    taken_mib = int(environment.get("FAKE_CUDA_BASE_USED_MIB") or 0)
    host = scenario["host"]
    gpus = [
        SchedulerGpu(
            index=index,
            total_bytes=int(gib * GIB),
            free_bytes=int(gib * GIB) - taken_mib * MIB,
            compute_capability=str(host.get("compute_capability") or "8.6"),
        )
        for index, gib in enumerate(host["gpus_gib"])
    ]
    if "CUDA_VISIBLE_DEVICES" in environment:
        visible = re.findall(r"\d+", environment["CUDA_VISIBLE_DEVICES"].partition("-")[0])
        gpus = [gpus[int(index)] for index in visible if int(index) < len(gpus)]
    return start_server(
        scenario["ollama_version"],
        # The recorder kept models loaded for half an hour where a request does not say.
        {"OLLAMA_KEEP_ALIVE": "30m", **environment},
        gpus,
        int(host["host_ram_gib_seen"] * GIB),
        cuda_context_bytes=int(environment.get("FAKE_CUDA_CTX_MIB") or 0) * MIB,
        engine=engine,
    )


def recorded(step: dict[str, Any], models: dict[str, SchedulerModel]) -> Recorded:
    """What the real server did in this step."""
    model = tagged(models, step["request"]["model"])
    loads = step["observed"].get("loads") or []
    expired = [name for name in step["observed"].get("expired") or [] if not name.startswith("RELOAD ")]
    in_order = expired if sorted(expired) == sorted(step["evicted"]) else step["evicted"]
    runner = next((one for one in step["runners"] if tagged(models, one["model"]).key == model.key), None)
    if step["http"] != HTTP_OK or not loads or runner is None:
        return Recorded(None, None, tuple(in_order), None)
    visible = tuple(int(index) for index in (runner["cuda_visible"] or "").split(",") if index)
    return Recorded(visible, runner["ub"], tuple(in_order), has_layers_on_cpu(loads[-1], model))


def has_layers_on_cpu(load: dict[str, Any], model: SchedulerModel) -> bool | None:
    """Whether the engine logged layers, experts or caches on the CPU; None where that cannot be told.

    The input embeddings always lie there, and size_vram below size in /api/ps proves nothing: it also shows
    when a layer's experts lie on the next GPU.
    """
    gpu_layers, layers = offloaded(load)
    if gpu_layers < layers or any(
        kind == "KV" and backend == "CPU" for _unused, backend, kind, _unused in load["buffers"]
    ):
        return True
    if model.shape is None:
        return None
    on_host = sum(
        mib
        for _unused, backend, kind, mib in load["buffers"]
        if kind == "model" and backend.startswith("CPU")
    )
    return bool(on_host > model.shape.input_host_bytes / MIB + 1)


def request_of(step: dict[str, Any]) -> LoadRequest:
    asked = step["request"]
    options = asked.get("options") or {}
    keep_alive = asked.get("keep_alive")
    return LoadRequest(
        num_ctx=options.get("num_ctx"),
        num_batch=options.get("num_batch"),
        num_gpu=options.get("num_gpu"),
        main_gpu=options.get("main_gpu"),
        keep_alive_seconds=None if keep_alive is None else keep_alive_seconds(str(keep_alive)),
    )


def judge(outcome: LoadOutcome, truth: Recorded) -> dict[str, bool]:
    """Which checks the foretold outcome passes."""
    loads = not outcome.reused and not outcome.failure
    evicted = outcome.evicted
    if outcome.model not in truth.evicted:
        # A model that is loaded anew under the same name is not missing afterwards.
        evicted = tuple(name for name in evicted if name != outcome.model)
    return {
        "placement": outcome.placement == truth.placement if truth.placement is not None else not loads,
        "batch": outcome.batch == truth.batch if truth.batch is not None else not loads,
        "eviction": sorted(evicted) == sorted(truth.evicted),
        "spill": truth.spilled is None or outcome.spilled == truth.spilled,
    }


def replay(
    scenario: dict[str, Any], models: dict[str, SchedulerModel], counts: Counter[str], named: list[str]
) -> None:
    """Plays one scenario; what happened by chance takes the recorded way, so that later steps compare."""
    engine = RecordedEngine()
    counts["steps"] += len(scenario["steps"])
    server = start(scenario, engine)
    for number, step in enumerate(scenario["steps"], 1):
        engine.begin(step)
        name = step["request"]["model"]
        model = tagged(models, name)
        truth = recorded(step, models)
        request = request_of(step)
        if request.keep_alive_seconds == 0:
            server = server.unload(name)
            counts.update(f"{check}_ok" for check in CHECKS[:3])
            continue
        possible = server.possible_loads(model, request)
        judged = [judge(outcome, truth) for _unused, outcome in possible]
        best = max(range(len(possible)), key=lambda one: (sum(judged[one].values()), -one))
        server, outcome = possible[best]
        checks = dict(judged[best])
        if truth.spilled is None or model.shape is None:
            del checks["spill"]
        else:
            counts["spill_checked"] += 1
        counts.update(f"{check}_ok" for check, passed in checks.items() if passed)
        where = f"{scenario['name']} step {number} ({name})"
        if len(possible) > 1:
            counts["undecided"] += 1
            named.append(f"{where}: hangs on map order; {len(possible)} outcomes foretold")
        missed = [check for check, passed in checks.items() if not passed]
        if missed:
            named.append(
                f"{where}: missed {', '.join(missed)}: foretold {shown(outcome)}, recorded {truth}"
                + "".join(f"\n    {sentence}" for sentence in outcome.explanation)
            )


def shown(outcome: LoadOutcome) -> str:
    return (
        f"placement={outcome.placement} batch={outcome.batch} evicted={outcome.evicted} "
        f"spilled={outcome.spilled} gpu_mib={[size // MIB for size in outcome.gpu_bytes]}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    data = _collection.DATA
    parser.add_argument("--scenarios", type=Path, default=data / "ollama_scheduler.jsonl")
    parser.add_argument("--models", type=Path, default=data / "ollama_scheduler_models.json")
    parser.add_argument("--headers", type=Path, default=data / "headers")
    arguments = parser.parse_args()
    models = read_models(arguments.models, arguments.headers)
    counts: Counter[str] = Counter()
    named: list[str] = []
    with arguments.scenarios.open() as lines:
        for line in filter(str.strip, lines):
            scenario = json.loads(line)
            try:
                replay(scenario, models, counts, named)
            except (KeyError, TypeError, ValueError) as error:
                named.append(f"{scenario['name']}: not replayed to its end: {error!r}")
    print("\n".join(named))
    print(
        f"steps={counts['steps']} "
        + " ".join(f"{check}_ok={counts[check + '_ok']}" for check in CHECKS)
        + f" spill_checked={counts['spill_checked']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
