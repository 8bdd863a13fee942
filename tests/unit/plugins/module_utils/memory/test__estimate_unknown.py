# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An architecture that nobody has heard of yet: every measured model, under another name, against what it really took.

Its estimate has to say that it is one, and must not fall short.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, STEMS, header, shape

MIB = 1 << 20
# Every so many rows of a model are enough, as its neighbours differ little.
EVERY = 5


@lru_cache(maxsize=None)
def measured_on_several_gpus() -> dict[str, list[list[dict[str, str]]]]:
    """The rows of each run by model, a row for each GPU."""
    runs: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (DATA / "engine_memory_multi_gpu.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            if row["mode"] == "default" and row["status"] == "ok":
                runs[row["run_id"]].append(row)
    by_model = defaultdict(list)
    for rows in runs.values():
        by_model[rows[0]["model"]].append(sorted(rows, key=lambda row: int(row["device"])))
    return by_model


@lru_cache(maxsize=None)
def measured() -> dict[str, list[dict[str, str]]]:
    rows = defaultdict(list)
    with (DATA / "engine_memory.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            if row["backend"] == "cuda" and row["status"] == "ok":
                rows[row["model"]].append(row)
    return rows


def unheard_of(stem: str, **metadata: object) -> tuple[str, ModelShape]:
    """A model's name, and its shape under an architecture that no table has."""
    plain = header(stem)
    prefix = plain["metadata"]["general.architecture"] + "."
    renamed = {key.replace(prefix, "tomorrow.", 1): value for key, value in plain["metadata"].items()}
    renamed.update({"general.architecture": "tomorrow", **metadata})
    return plain["name"], shape_from_header({**plain, "metadata": renamed}, name=plain["name"])


@pytest.mark.parametrize("stem", STEMS)
def test_it_is_an_estimate_that_never_falls_short(stem: str) -> None:
    name, shape = unheard_of(stem)
    for row in measured()[name][::EVERY]:
        settings = LoadSettings(
            int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), row["kv_type"], row["fa"]
        )
        found = estimate(shape, settings)
        assert found.basis == "estimate"
        assert f"the graph of {name} (architecture tomorrow) is not known" in found.note
        (gpu,) = found.gpus
        assert gpu.weights_bytes / MIB >= float(row["model_mib"]) - 0.001
        assert gpu.kv_cache.total_bytes / MIB >= 0.999 * float(row["kv_mib"])
        total_mib = float(row["total_gpu_mib"])
        assert gpu.buffers_bytes / MIB >= total_mib - max(0.04 * total_mib, 96), row


@pytest.mark.parametrize("name", sorted(measured_on_several_gpus()))
def test_it_does_not_fall_short_on_several_gpus(name: str) -> None:
    _name, shape = unheard_of(name.replace(":", "_"))
    for rows in measured_on_several_gpus()[name]:
        first = rows[0]
        settings = LoadSettings(
            int(first["ctx"]), int(first["parallel"]), int(first["ubatch"]), first["kv_type"], first["fa"]
        )
        gpus = (first["gpu_free_gib"] or first["gpu_mem_gib"]).split("+")
        free_bytes = [int(float(one) * 1024) * MIB for one in gpus]
        devices = split(shape, settings, free_bytes, is_pipelined=first["pipeline_retry"] != "1")
        for row, device in zip(rows, devices):
            total_mib = float(row["total_mib"])
            assert device.buffers_bytes / MIB >= total_mib - max(0.04 * total_mib, 96), row


def test_of_a_recurrence_in_unknown_layers_every_layer_has_both() -> None:
    _name, unknown = unheard_of("granite4_micro-h")
    assert all(layer.is_recurrent and layer.attention == "full" for layer in unknown.layers)
    shapes = (unknown, shape("granite4_micro-h"))
    found, exact = (estimate(one, LoadSettings(8192, 3)).gpus[0].kv_cache for one in shapes)
    assert found.full_attention_bytes == exact.full_attention_bytes
    assert found.recurrent_bytes > exact.recurrent_bytes


def test_the_keys_of_a_sparse_attentions_indexer_are_counted() -> None:
    _name, plain = unheard_of("deepseek-v3.1_671b")
    _name, indexed = unheard_of("deepseek-v3.1_671b", **{"tomorrow.attention.indexer.key_length": 128})
    latent, both = (estimate(one, LoadSettings(8192, 1)).gpus[0].kv_cache for one in (plain, indexed))
    assert both.total_bytes * 576 == latent.total_bytes * (576 + 128)
