# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which runs are measured: those of the tables where they know a model, a small design where they do not."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Program = Callable[[str], ModuleType]


def header(name: str, architecture: str = "llama", **metadata: Any) -> dict[str, Any]:
    own = {f"{architecture}.{key}": value for key, value in metadata.items()}
    return {"name": name, "metadata": {"general.architecture": architecture, **own}}


def row(model: str, ctx: int, parallel: int, **more: str) -> dict[str, str]:
    return {
        "model": model, "ctx": str(ctx), "parallel": str(parallel), "ubatch": "512", "kv_type": "f16", "fa": "auto",
        "backend": "cuda", "mode": "default", "gpu_mem_gib": "24+24", "gpu_free_gib": "", **more,
    }  # fmt: skip


ROWS = [
    row("known:1b", 2048, 1),
    row("known:1b", 2048, 1, backend="cpu"),
    row("known:1b", 4096, 8, kv_type="q8_0"),
    row("other:1b", 9999, 1),
]
SEVERAL = [
    row("known:1b", 2048, 1),
    row("known:1b", 2048, 1),  # the second device of the same run
    row("known:1b", 4096, 1, gpu_free_gib="23.5+20"),
    row("known:1b", 4096, 1, mode="ngl=L-1layer"),
]


def test_a_known_model_is_measured_as_its_table_was(program: Program) -> None:
    points = program("design").one_gpu_points(header("known:1b"), ROWS)
    assert [(one.context, one.parallel, one.cache_type) for one in points] == [(2048, 1, "f16"), (4096, 8, "q8_0")]


@pytest.mark.parametrize(("every", "count"), [(1, 24), (5, 5), (24, 1), (0, 0)])
def test_an_unknown_model_has_the_small_design_or_a_part_of_it(program: Program, every: int, count: int) -> None:
    assert len(program("design").one_gpu_points(header("new:1b"), ROWS, every)) == count


def test_a_run_on_several_gpus_is_measured_once_for_each_memory(program: Program) -> None:
    design = program("design")
    points = design.several_gpus_points(header("known:1b"), SEVERAL)
    assert {key: len(runs) for key, runs in points.items()} == {
        ("default", design.Memory("24+24")): 1,
        ("default", design.Memory("24+24", "23.5+20")): 1,
    }
    assert design.several_gpus_points(header("known:1b"), SEVERAL, every=0) == {}


def test_an_unknown_model_is_split_over_two_and_four_gpus_and_an_encoder_over_none(program: Program) -> None:
    design = program("design")
    assert [memory.total for _unused, memory in design.several_gpus_points(header("new:1b"), SEVERAL)] == [
        "24+24",
        "24+24+24+24",
    ]
    assert design.several_gpus_points(header("new:1b", "bert", context_length=512), SEVERAL) == {}


@pytest.mark.parametrize(
    ("architecture", "metadata", "is_embedder"),
    [
        ("bert", {"context_length": 512}, True),
        ("nomic-bert", {"context_length": 2048}, True),
        ("qwen3", {"pooling_type": 3, "context_length": 40960}, True),
        ("qwen3", {"context_length": 40960}, False),
    ],
)
def test_a_model_of_embeddings_is_started_for_them(
    program: Program, architecture: str, metadata: dict[str, int], is_embedder: bool
) -> None:
    points = program("design").default_points(header("new:1b", architecture, **metadata))
    assert {one.is_embedding for one in points} == {is_embedder}
    assert max(one.context for one in points) <= metadata["context_length"]


def test_memory_is_given_to_devices_in_their_order(program: Program) -> None:
    design, probe = program("design"), program("probe")
    assert design.Memory("24+12", "23.5+10").devices() == (
        probe.Device(24576, 24064),
        probe.Device(12288, 10240),
    )
    assert design.Memory("24+12").devices() == (probe.Device(24576, 24576), probe.Device(12288, 12288))
