# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory against what each build of the engine allocated, on one GPU and on several: every second run, for speed."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import estimate, split
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    Backend,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    EngineBuild,
    parse_build,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, bench, shape

NEWER = DATA / "newer"
BUILDS = sorted(path.stem.partition("-")[2] for path in NEWER.glob("engine_memory-*.csv"))
MIB = 1 << 20
# Of several GPUs the tables give sizes of cached types with two decimals only.
MOST_KV_PCT = 0.03
MOST_P99_PCT = 0.5
MOST_DEVICE_PCT = 0.01
MOST_UNDER_MIB, MOST_UNDER_PCT = 16, 1


@lru_cache(maxsize=None)
def shapes():
    read = bench("accuracy").read_shapes
    return {**read(HEADERS), **read(NEWER / "headers")}


@lru_cache(maxsize=None)
def recorded(table):
    rows = defaultdict(list)
    for row in bench("accuracy").read_rows(NEWER / table):
        rows[row["model"]].append(row)
    return rows


# As tests/engine/truth.py has it: what differs by less does not differ.
SAME_MIB = 0.01
# The engine's own states of other slots are read in pieces that were not taken apart: of two runs 6 MiB are too much.
ABOVE = {("granite4:tiny-h", "b11434")}


def is_the_engines(ours_bytes: int, row: dict[str, str], build: str) -> bool:
    over = ours_bytes / MIB - float(row["compute_mib"])
    return -SAME_MIB <= over <= (6 if (row["model"], build) in ABOVE else SAME_MIB)


def test_every_claimed_build_that_differs_has_a_table():
    assert BUILDS == ["b10488", "b10760", "b10970", "b11434", "v0.5.0"]


@pytest.mark.parametrize("build", BUILDS)
def test_one_gpu_holds_what_the_build_allocates(build):
    program = bench("accuracy")
    measured = [row for rows in recorded(f"engine_memory-{build}.csv").values() for row in rows[::2]]
    by_model, _everything, refusals = program.compare_rows(measured, shapes(), parse_build(build))
    for row in measured:
        if row["status"] == "ok":
            shape = shapes()[program.key(row["model"])]
            found = estimate(shape, program.settings_of(row, parse_build(build))).gpus[0].compute_bytes
            assert is_the_engines(found, row, build), row
    assert (refusals.wrong, refusals.missed) == ([], [])
    assert len(by_model) >= 34
    for name, errors in by_model.items():
        found = errors.summary()
        assert found["kv_max_error_pct"] <= MOST_KV_PCT, name
        assert found["weights_max_error_pct"] == 0, name
        if errors.basis == "exact":
            assert found["total_max_error_pct"] <= MOST_P99_PCT, name
        assert found["total_worst_under_mib"] <= MOST_UNDER_MIB, name


@pytest.mark.parametrize("build", BUILDS)
def test_each_of_several_gpus_holds_what_the_build_allocates(build):
    by_model, everything = bench("accuracy").compare_devices(
        [
            row
            for rows in recorded(f"engine_memory_multi_gpu-{build}.csv").values()
            for row in rows
            if int(row["run_id"]) % 2 == 0
        ],
        shapes(),
        parse_build(build),
    )
    assert everything.refused == []
    for name, errors in by_model.items():
        found = errors.summary()
        assert found["layers_wrong"] == 0, name
        assert found["weights_max_error_pct"] == 0, name
        assert found["kv_max_error_pct"] <= MOST_KV_PCT, name
        if estimate(shapes()[bench("accuracy").key(name)], LoadSettings(4096, 1)).basis == "exact":
            assert found["device_total_max_error_pct"] <= MOST_DEVICE_PCT, name
        assert found["device_total_worst_under_pct"] <= MOST_UNDER_PCT, name


@pytest.mark.parametrize(("older", "newer"), [("b10488", "b10760"), ("b10760", "b11434"), ("b11434", "b11434")])
def test_a_build_that_nobody_has_read_is_bounded_by_what_has_changed_so_far(older, newer):
    unread = EngineBuild(parse_build(older).number, is_read=False)
    program = bench("accuracy")
    for rows in recorded(f"engine_memory-{newer}.csv").values():
        for row in rows[::7]:
            if row["status"] == "ok" and row["backend"] == "cuda":
                found = estimate(shapes()[program.key(row["model"])], program.settings_of(row, unread))
                assert found.basis == "estimate"
                assert "was not measured" in found.note
                assert found.gpus[0].compute_bytes / MIB >= float(row["compute_mib"]), row
    for rows in recorded(f"engine_memory_multi_gpu-{newer}.csv").values():
        for row in rows[::7]:
            if row["status"] == "ok" and row["mode"] in program.MULTI_GPU_MODES:
                devices = split(
                    shapes()[program.key(row["model"])],
                    program.settings_of(row, unread),
                    program.free_bytes(row),
                    is_pipelined=row["pipeline_retry"] != "1",
                )
                assert devices[int(row["device"])].compute_bytes / MIB >= float(row["compute_mib"]), row


def test_the_room_for_changes_is_no_more_than_a_few_rows_of_the_residual_stream():
    settings = LoadSettings(32768, 1, 2048)
    exact = estimate(shape("llama3.1:8b"), settings).gpus[0]
    unread = LoadSettings(32768, 1, 2048, build=EngineBuild(10488, is_read=False))
    more = estimate(shape("llama3.1:8b"), unread).gpus[0].compute_bytes - exact.compute_bytes
    assert more == 1.5 * 3 * 4 * 2048 * 4096


@pytest.mark.parametrize(("name", "used", "embedding"), [("gemma4:26b", 8, 2816), ("mixtral:8x7b", 2, 4096)])
def test_without_fusion_a_mixture_of_experts_takes_what_it_did_before(name, used, embedding):
    def compute_bytes(build, *, fuses):
        settings = LoadSettings(2048, 1, 512, build=parse_build(build), backend=Backend(fuses=fuses))
        return estimate(shape(name), settings).gpus[0].compute_bytes

    before = compute_bytes("b10488", fuses=True)
    assert compute_bytes("b10760", fuses=False) == before
    assert before <= compute_bytes("b10760", fuses=True) <= before + 4 * used * 512 * embedding + MIB
