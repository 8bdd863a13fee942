# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What loads allocated, as the server logged it, beside what the memory rules foretell for the same loads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB, gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    FLASH_ATTENTION,
    KV_CACHE_TYPES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import EXACT, GpuMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import Engine, EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    COMPUTE,
    KV_CACHE,
    WEIGHTS,
    LoggedLoad,
    ServerLog,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import B10488
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import Era, VersionRules

# The engine logs hundredths of a MiB, once for each buffer that it allocates; what it allocates is rounded up to pages.
EXACT_WITHIN_BYTES = MIB // 4
# Where only an upper bound is known, less is no surprise, and more is one.
KINDS = (WEIGHTS, KV_CACHE, COMPUTE)
MOST_COMPARED = 64
# Less than any layer of a model that has too little room.
_PARTLY_BYTES = 16 * MIB
# What lies wholly on one GPU lies there whatever else is free.
_ANY_ROOM_BYTES = 1 << 50


@dataclass(frozen=True)
class SeenLoad:
    """What one kind of buffer of one load took of one GPU, foretold and seen. Sizes in bytes, context in tokens per slot.

    gpu: its position among those that the runner saw. is_beyond: the difference is larger than the basis allows.
    is_absurd: it is more than the GPU has, so that nothing is made of it.
    """

    model: str
    blob: str
    kind: str
    gpu: int
    context_length: int
    parallel: int
    batch: int
    kv_cache_type: str
    flash_attention: str
    version: str
    engine_build: int | None
    basis: str
    predicted_bytes: int
    seen_bytes: int
    when: str
    is_beyond: bool
    is_absurd: bool

    @property
    def difference_bytes(self) -> int:
        """By how much more was seen than foretold; negative where it was less."""
        return self.seen_bytes - self.predicted_bytes

    @property
    def message(self) -> str:
        """The difference, in a clause."""
        words = {WEIGHTS: "weights", KV_CACHE: "KV cache", COMPUTE: "compute buffer"}[self.kind]
        settings = f"{self.parallel} x {self.context_length}, batch {self.batch}"
        if self.is_absurd:
            return (
                f"{self.model} ({settings}) is said to have taken {gib_or_mib(self.seen_bytes)} of GPU {self.gpu} for its "
                f"{words}, which is more than the GPU has: look for who writes into the service's journal"
            )
        more = "more" if self.difference_bytes > 0 else "less"
        return (
            f"{self.model} ({settings}) took {gib_or_mib(abs(self.difference_bytes))} {more} of GPU {self.gpu} for its {words} "
            f"than foretold ({self.basis}): {_mib(self.seen_bytes)}, not {_mib(self.predicted_bytes)}, at {self.when}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "difference_bytes": self.difference_bytes}


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.2f} MiB"


@dataclass(frozen=True)
class Observed:
    """How much more than foretold a load took of the GPUs that it saw, by position. Sizes in bytes.

    It counts for the same file, the same version and build of the engine, and the same settings, and for nothing else.
    """

    blob: str
    version: str
    engine_build: int | None
    context_length: int
    parallel: int
    batch: int
    kv_cache_type: str
    flash_attention: str
    more_bytes: tuple[tuple[int, ...], ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from others."""
        return key_of(self.blob, self)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "more_bytes": [list(one) for one in self.more_bytes]}


@dataclass(frozen=True)
class History:
    """What became of a model since the server's start; where lines are missing every number is the least that it can be."""

    model: str
    loads: int
    evicted: int
    spilled: int
    failed: int
    error: str
    at_least: bool


def key_of(blob: str, launch: Any) -> tuple[Any, ...]:
    """What of a launch, or of what was observed, the memory depends on."""
    names = ("version", "context_length", "parallel", "batch", "kv_cache_type", "flash_attention")
    return (blob, *(getattr(launch, name) for name in names))


def compared(
    log: ServerLog,
    models: Sequence[SchedulerModel],
    engine: Engine,
    rules: VersionRules,
    most_bytes: Sequence[int],
) -> tuple[SeenLoad, ...]:
    """Each load that the log tells of and whose model is known, beside what the rules foretell for it.

    most_bytes: memory of the host's GPUs. Only what lies on GPUs of a version that starts llama-server, and was not split
    otherwise than the engine's own rules split it, is compared.
    """
    if log.version != str(rules.version) or rules.era is not Era.LLAMA_SERVER:
        return ()
    by_file = {(model.key, bool(model.projector_bytes)): model for model in models if model.shape}
    rows: list[SeenLoad] = []
    for load in log.loads:
        told = load.launched
        model = by_file.get((told.blob, told.has_projector)) or by_file.get(
            (told.blob, not told.has_projector)
        )
        launch = _launch(load, rules) if model else None
        if model and launch and len(rows) < MOST_COMPARED * len(KINDS):
            rows += _rows(log, load, model, launch, engine, max(most_bytes, default=0))
    return tuple(rows)


def _launch(load: LoggedLoad, rules: VersionRules) -> Launch | None:
    """The load as the memory rules take it; None where its settings are none that they know."""
    told = load.launched
    kv_cache_type = told.kv_cache_type or "f16"
    known = kv_cache_type in KV_CACHE_TYPES and told.flash_attention in FLASH_ATTENTION
    if (
        not known
        or told.parallel < 1
        or told.context_total < told.parallel
        or told.batch < 1
        or told.has_adapter
    ):
        return None
    gpus = _gpu_names(load)
    return Launch(
        context_length=told.context_total // told.parallel,
        parallel=told.parallel,
        batch=told.batch,
        kv_cache_type=kv_cache_type,
        flash_attention=told.flash_attention,
        num_gpu=told.num_gpu,
        fit=True,
        fit_targets_bytes=(rules.placement.fit_target_bytes,) * len(gpus),
        projector_on_gpu=told.is_projector_on_gpu,
        version=str(rules.version),
        build=rules.engine_build or B10488,
    )


def _gpu_names(load: LoggedLoad) -> list[str]:
    """The engine's names of the GPUs on which the load lies, in its order."""
    return sorted({one.device for one in load.buffers if one.is_on_gpu})


def _rows(
    log: ServerLog, load: LoggedLoad, model: SchedulerModel, launch: Launch, engine: Engine, most_bytes: int
) -> list[SeenLoad]:
    names = _gpu_names(load)
    seen = {(one.device, one.kind): one.size_bytes for one in load.buffers if one.kind in KINDS}
    # A load of which lines are missing tells nothing, nor one of which the rules do not know how much lies where.
    if (
        not names
        or load.is_spilled
        or load.launched.num_gpu >= 0
        or not all((names[0], kind) in seen for kind in KINDS[::2])
    ):
        return []
    free = {device.name: device.free_bytes for device in load.devices}
    if len(names) > 1 and not all(name in free for name in names):
        return []
    room = tuple(free[name] for name in names) if len(names) > 1 else (_ANY_ROOM_BYTES,)
    started = engine.start(model, launch, room)
    if started.failure or started.spilled or started.refitted or _is_partly_on_cpu(load, started):
        return []
    rows = []
    for position, (name, memory) in enumerate(zip(names, started.memory.gpus)):
        for kind in KINDS:
            size, predicted = seen.get((name, kind), 0), _of_kind(memory, kind)
            is_exact = started.memory.basis == EXACT
            is_less = predicted - size > EXACT_WITHIN_BYTES and is_exact
            is_more = size - predicted > EXACT_WITHIN_BYTES
            rows.append(
                SeenLoad(
                    model=model.name,
                    blob=load.launched.blob,
                    kind=kind,
                    gpu=position,
                    context_length=launch.context_length,
                    parallel=launch.parallel,
                    batch=launch.batch,
                    kv_cache_type=launch.kv_cache_type,
                    flash_attention=launch.flash_attention,
                    version=launch.version,
                    engine_build=log.engine_build,
                    basis=started.memory.basis,
                    predicted_bytes=predicted,
                    seen_bytes=size,
                    when=load.when,
                    is_beyond=is_less or is_more,
                    is_absurd=size > most_bytes,
                )
            )
    return rows


def _is_partly_on_cpu(load: LoggedLoad, started: EngineLoad) -> bool:
    """Whether weights lie on the CPU that belong on GPUs, as experts do whose layers the engine counts as offloaded."""
    seen = sum(one.size_bytes for one in load.buffers if one.kind == WEIGHTS and not one.is_on_gpu)
    return seen > started.memory.host.embeddings_bytes + started.memory.host.weights_bytes + _PARTLY_BYTES


def _of_kind(memory: GpuMemory, kind: str) -> int:
    return {
        WEIGHTS: memory.weights_bytes,
        KV_CACHE: memory.kv_cache.total_bytes,
        COMPUTE: memory.compute_bytes,
    }[kind]


# What is kept of loads that took more than foretold; the newest stay.
MOST_OBSERVED = 32


def observed_from_list(items: Any) -> tuple[Observed, ...]:
    """What was remembered on a host of loads that took more than foretold.

    Raises: ValueError where it is of another form.
    """
    found = []
    try:
        for item in items:
            more = tuple(tuple(int(size) for size in one) for one in item["more_bytes"])
            if any(len(one) != len(KINDS) or min(one) < 0 for one in more):
                raise ValueError("sizes that are none")
            texts: dict[str, Any] = {
                name: str(item[name]) for name in ("blob", "version", "kv_cache_type", "flash_attention")
            }
            numbers: dict[str, Any] = {name: int(item[name]) for name in ("context_length", "parallel", "batch")}
            build = item.get("engine_build")
            found.append(
                Observed(
                    engine_build=None if build is None else int(build), more_bytes=more, **texts, **numbers
                )
            )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"what was observed of loads is not in the form that was written: {error}"
        ) from error
    return tuple(found)


def together(remembered: Iterable[Observed], now: Iterable[Observed], version: str) -> tuple[Observed, ...]:
    """What holds of both for this version: of one load the larger sizes, at most so many loads, those of now last."""
    by_key: dict[tuple[Any, ...], Observed] = {}
    for one in (*remembered, *now):
        if one.version != version:
            continue
        former = by_key.pop(one.key, None)
        by_key[one.key] = _larger(former, one) if former else one
    return tuple(by_key.values())[-MOST_OBSERVED:]


def _larger(first: Observed, second: Observed) -> Observed:
    fewer, more = sorted((first.more_bytes, second.more_bytes), key=len)
    larger = (tuple(map(max, one, other)) for one, other in zip(fewer, more))
    return replace(second, more_bytes=(*larger, *more[len(fewer) :]))


def observed_of(rows: Iterable[SeenLoad]) -> tuple[Observed, ...]:
    """Of the loads that took more than foretold how much, so that the next plan counts with it."""
    more: dict[tuple[Any, ...], dict[tuple[int, str], int]] = {}
    first: dict[tuple[Any, ...], SeenLoad] = {}
    absurd = set()
    for row in rows:
        key = key_of(row.blob, row)
        if row.is_absurd:
            absurd.add(key)
        if row.is_beyond and row.difference_bytes > 0:
            first.setdefault(key, row)
            more.setdefault(key, {})[row.gpu, row.kind] = row.difference_bytes
    found = []
    for key, sizes in more.items():
        if key in absurd:
            continue
        row, count = first[key], max(gpu for gpu, _kind in sizes) + 1
        each = tuple(tuple(sizes.get((gpu, kind), 0) for kind in KINDS) for gpu in range(count))
        found.append(
            Observed(
                row.blob,
                row.version,
                row.engine_build,
                row.context_length,
                row.parallel,
                row.batch,
                row.kv_cache_type,
                row.flash_attention,
                each,
            )
        )
    return tuple(found)
