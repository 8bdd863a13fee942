# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is needed to foretell a load again that was not as foretold: the model's shape, the settings, what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import SeenLoad, key_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel

# A shape takes some 6 KB.
MOST_LOADS = 4
LAUNCH = ("version", "engine_build", "context_length", "parallel", "batch", "kv_cache_type", "flash_attention")


def evidence_of(rows: Iterable[SeenLoad], models: Sequence[SchedulerModel]) -> tuple[Mapping[str, Any], ...]:
    """Of the loads that were not as foretold, the largest difference first; it holds no secret and no name of a host."""
    loads: dict[tuple[Any, ...], list[SeenLoad]] = {}
    for row in rows:
        loads.setdefault(key_of(row.blob, row), []).append(row)
    beyond = [load for load in loads.values() if any(row.is_beyond for row in load)]
    beyond.sort(key=lambda load: -max(abs(row.difference_bytes) for row in load))
    shapes = {model.name: model.shape for model in models}
    found = []
    for load in beyond[:MOST_LOADS]:
        shape = shapes.get(load[0].model)
        if shape is not None:
            seen: dict[int, dict[str, int]] = {}
            for row in load:
                seen.setdefault(row.gpu, {})[row.kind] = row.seen_bytes
            launch = {name: getattr(load[0], name) for name in LAUNCH}
            found.append({"shape": shape.to_dict(), "launch": launch, "seen": [seen[gpu] for gpu in sorted(seen)]})
    return tuple(found)
