# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, header
from published import published

GIB = 1 << 30
MIB = 1 << 20
SETTINGS = LoadSettings(4096, 1)
# SigLIP, as gemma3 has it; the others by their published numbers.
GEMMA3 = Tower("gemma3", 14, 4096, 4096, 1152, 4304, 16, is_gated=False, has_windows=False)
QWEN25VL = Tower("qwen2.5vl_merger", 14, 8464, 16384, 1280, 3420, 16, is_gated=True, has_windows=True)
LLAMA4 = Tower("llama4", 14, 576, 576, 1408, 5632, 16, is_gated=False, has_windows=False)


def own(name: str) -> ModelShape:
    """The model in the form that Ollama publishes."""
    return shape_from_header(published(header(name)), name=name)


def seeing(tower: Tower | None) -> ModelShape:
    return replace(own("llama3.2_1b"), projector_bytes=600 * MIB, tower=tower)


def recorded_mib() -> set[float]:
    """What the real engine logged for the projectors of gemma3 models, on the GPU."""
    found = set()
    for line in (DATA / "ollama_scheduler.jsonl").read_text().splitlines():
        for step in json.loads(line)["steps"]:
            for load in step["observed"]["loads"]:
                for origin, device, kind, mib in load["buffers"]:
                    if (origin, device, kind) == ("reserve_compute_meta", "CUDA0", "compute"):
                        found.add(mib)
    return found


@pytest.mark.parametrize("name", ["gemma3_4b", "gemma3_27b"])
def test_of_gemma3_it_is_what_the_engine_logged(name: str) -> None:
    compute = projector_compute(own(name))
    assert {round(compute.reserved_bytes / MIB, 2)} == recorded_mib()
    assert compute.most_bytes == compute.reserved_bytes
    assert compute.note == ""


def test_it_is_part_of_what_a_model_takes_and_no_part_of_the_text_models_buffers() -> None:
    shape = own("gemma3_4b")
    found, plain = estimate(shape, SETTINGS), estimate(replace(shape, inline_projector_bytes=0), SETTINGS)
    compute = projector_compute(shape).most_bytes
    assert found.gpus[0].buffers_bytes == plain.gpus[0].buffers_bytes
    assert found.gpu_bytes - plain.gpu_bytes == shape.inline_projector_bytes + compute
    assert (found.basis, found.note) == ("exact", "")


def test_over_several_gpus_it_lies_on_the_first() -> None:
    first, second = split(own("gemma3_4b"), SETTINGS, [8 * GIB, 8 * GIB])
    assert first.projector_compute_bytes == int(121.25 * MIB)
    assert second.projector_compute_bytes == 0


def test_a_text_model_has_none() -> None:
    compute = projector_compute(own("llama3.2_1b"))
    assert (compute.reserved_bytes, compute.most_bytes, compute.note) == (0, 0, "")


def test_a_tower_that_is_only_like_a_known_one_gets_half_as_much_again() -> None:
    exact, bound = (projector_compute(seeing(replace(GEMMA3, kind=kind))) for kind in ("gemma3", "other"))
    assert bound.reserved_bytes == exact.reserved_bytes + exact.reserved_bytes // 2
    assert bound.most_bytes == exact.most_bytes + exact.most_bytes // 2


def test_the_mask_of_windows_is_as_large_as_it_is() -> None:
    windowed, plain = (
        projector_compute(seeing(replace(QWEN25VL, has_windows=has_windows))) for has_windows in (True, False)
    )
    exact = projector_compute(seeing(replace(QWEN25VL, kind="gemma3")))
    # Half as much again of what it would be without.
    assert windowed.most_bytes - exact.most_bytes == plain.most_bytes // 3
    assert windowed.reserved_bytes - exact.reserved_bytes == plain.reserved_bytes // 3
    assert plain.most_bytes % 3 == plain.reserved_bytes % 3 == 0


@pytest.mark.parametrize("sizes", [{"projector_bytes": 1}, {"inline_projector_bytes": 1}])
def test_a_projector_may_lie_in_a_file_of_its_own_or_in_the_models(sizes: dict[str, int]) -> None:
    plain = replace(own("llama3.2_1b"), tower=GEMMA3)
    assert projector_compute(plain).most_bytes == 0
    assert projector_compute(replace(plain, **sizes)).most_bytes == projector_compute(seeing(GEMMA3)).most_bytes > 0


def test_of_another_tower_it_is_a_bound_that_says_so() -> None:
    found = estimate(seeing(LLAMA4), SETTINGS)
    # Scores of 88 elements a head, for which there is no kernel, are kept for all pairs of patches.
    assert found.gpus[0].projector_compute_bytes > 4 * 576 * 576 * 16
    assert found.basis == "estimate"
    assert "the projector of llama3.2_1b (llama4) is counted for the largest image" in found.note


def test_larger_images_take_more_than_is_reserved_at_the_start() -> None:
    compute = projector_compute(seeing(QWEN25VL))
    # The mask of the windows alone, in both precisions.
    assert compute.most_bytes > 6 * QWEN25VL.patches_most**2
    assert 6 * QWEN25VL.patches_reserved**2 < compute.reserved_bytes < compute.most_bytes / 2


def test_of_an_unknown_tower_it_is_what_ollama_leaves_for_it() -> None:
    found = estimate(seeing(None), SETTINGS)
    assert found.gpus[0].projector_compute_bytes == GIB
    assert found.basis == "estimate"
    assert "the projector of llama3.2_1b is not known" in found.note


def test_on_the_cpu_no_gpu_memory_is_counted() -> None:
    found = host_estimate(seeing(None), SETTINGS)
    assert (found.gpu_bytes, found.basis) == (0, "exact")
