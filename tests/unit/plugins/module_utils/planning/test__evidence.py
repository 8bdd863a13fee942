# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of a load becomes a row that the rules are held against; the rows that hosts have sent so far."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._evidence import evidence_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import EXACT_WITHIN_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, bench, shape

from .test__seen import one, rows_of

ROWS = [json.loads(line) for line in (DATA / "observed_loads.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["shape"]["name"])
def test_what_hosts_have_seen_is_foretold(row: dict[str, Any]) -> None:
    launch = {name: row["launch"][name] for name in ("context_length", "parallel", "batch", "kv_cache_type", "flash_attention")}
    (foretold,) = estimate(ModelShape.from_dict(row["shape"]), LoadSettings(**launch)).gpus
    (seen,) = row["seen"]
    for kind, size in (
        ("weights", foretold.weights_bytes),
        ("kv_cache", foretold.kv_cache.total_bytes),
        ("compute", foretold.compute_bytes),
    ):
        assert abs(seen[kind] - size) <= EXACT_WITHIN_BYTES, kind


def test_a_load_that_was_not_as_foretold_becomes_a_row() -> None:
    model = scheduler_model(shape("llama3.1:8b"))
    (load,) = evidence_of(rows_of(one(582)), [model])
    (row,) = bench("evidence").rows(json.dumps({"loads": [load]}))
    again = json.loads(row)
    assert ModelShape.from_dict(again["shape"]).digest == model.key
    assert again["launch"]["engine_build"] is None
    before = evidence_of(rows_of(one(0.3)), [model])[0]["seen"][0]["compute"]
    assert again["seen"][0]["compute"] - before == pytest.approx((582 - 0.3) * MIB, abs=2)


def test_loads_as_foretold_are_no_evidence_and_of_many_some_are_kept() -> None:
    model = scheduler_model(shape("llama3.1:8b"))
    assert evidence_of(rows_of(one(0)), [model]) == ()
    many = [row for more in range(1, 9) for row in _as_other_settings(more)]
    assert len(evidence_of(many, [model])) == 4
    assert evidence_of(rows_of(one(582)), []) == ()


def _as_other_settings(parallel: int) -> list[Any]:
    return [replace(row, parallel=parallel) for row in rows_of(one(582))]
