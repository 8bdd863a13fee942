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


def test_loads_as_foretold_are_no_evidence() -> None:
    model = scheduler_model(shape("llama3.1:8b"))
    assert evidence_of(rows_of(one(0)), [model]) == ()
    assert evidence_of(rows_of(one(582)), []) == ()


def test_of_many_loads_the_four_are_kept_that_differ_most() -> None:
    model = scheduler_model(shape("llama3.1:8b"))
    # By so many MiB loads differed that are told apart by their slots.
    differences = {1: 10, 2: 50, 3: -60, 4: 20, 5: 40, 6: 30}
    rows = [replace(row, parallel=slots) for slots, more in differences.items() for row in rows_of(one(more))]
    assert [load["launch"]["parallel"] for load in evidence_of(rows, [model])] == [3, 2, 5, 6]
