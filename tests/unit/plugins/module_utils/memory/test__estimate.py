# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicted memory against what the real engine allocated, and what must hold for every model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    CUDA_CONTEXT_BYTES,
    LoadSettings,
    Refused,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, STEMS, bench, header, shape
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20


@lru_cache(maxsize=1)
def shapes() -> dict[str, ModelShape]:
    return bench("accuracy").read_shapes(HEADERS)


@lru_cache(maxsize=2)
def recorded(table: str) -> dict[str, list[dict[str, str]]]:
    by_model: dict[str, list[dict[str, str]]] = {}
    for row in bench("accuracy").read_rows(DATA / table):
        by_model.setdefault(row["model"], []).append(row)
    return by_model


MODELS = sorted(json.loads(path.read_text())["name"] for path in HEADERS.glob("*.json"))
SEVERAL_GPUS = sorted(
    {line.split(",")[1] for line in (DATA / "engine_memory_multi_gpu.csv").read_text().splitlines()[1:]}
)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_takes_what_the_engine_allocated(model: str) -> None:
    _by_model, found, refusals = bench("accuracy").compare_rows(recorded("engine_memory.csv")[model], shapes())
    figures = found.summary()
    assert figures["rows"] > 20
    assert figures["kv_max_error_pct"] <= 0.1
    assert figures["weights_max_error_pct"] <= 0.5
    assert figures["total_p99_error_pct"] <= 2
    assert figures["total_worst_under_mib"] <= 96
    assert figures["cpu_total_max_error_pct"] <= 5
    assert refusals.missed == []
    assert refusals.wrong == []


@pytest.mark.parametrize("model", SEVERAL_GPUS)
def test_each_of_several_gpus_takes_what_the_engine_allocated_there(model: str) -> None:
    _by_model, found = bench("accuracy").compare_devices(recorded("engine_memory_multi_gpu.csv")[model], shapes())
    figures = found.summary()
    assert figures["device_rows"] > 100
    assert figures["layers_wrong"] == 0
    assert figures["weights_max_error_pct"] <= 0.5
    assert figures["kv_max_error_pct"] <= 0.5
    assert figures["device_total_max_error_pct"] <= 3


# The tables give MiB with four decimals.
LAST_DECIMAL_MIB = 0.0002
# Some inputs on the host are each aligned by themselves.
ALIGNED_MIB = 0.0005
# Models whose host's buffer is only bounded: layers' inputs or states that the CPU looks up with what it has just used,
# pieces of a cache that it gets copied, encoders that keep an embedding in the place of a token's logits.
BOUNDED_ON_THE_HOST = (
    ("gemma3n:e2b", "cpu"),
    ("gemma4:e4b", "cpu"),
    ("granite4:tiny-h", "cpu"),
    ("deepseek-v2:16b", "cuda"),
    ("nomic-embed-text", "cuda"),
    ("mxbai-embed-large", "cuda"),
    ("mxbai-embed-large", "cpu"),
)
ENCODERS = ("mxbai-embed-large", "nomic-embed-text")
# What the host looks up by the numbers of the tokens, which it has there itself: embeddings, and of some inputs of layers.
LOOKED_UP = {"gemma3n:e2b": 2, "gemma4:e4b": 2}
NUMBER_BYTES = 4


def off_mib(ours_bytes: int, row: dict[str, str], column: str) -> float:
    return ours_bytes / MIB - float(row[column])


@pytest.mark.parametrize("model", MODELS)
def test_every_part_is_the_engines_to_the_last_decimal(model: str) -> None:
    of_model = shapes()[bench("accuracy").key(model)]
    for row in recorded("engine_memory.csv")[model]:
        if row["status"] != "ok":
            continue
        on_gpu = row["backend"] == "cuda"
        found = (estimate if on_gpu else host_estimate)(of_model, bench("accuracy").settings_of(row))
        (gpu,), host = found.gpus or (None,), found.host
        parts = []
        # Where the file's tensors are mapped, what lies between them counts.
        mapped_bytes = host.embeddings_bytes if on_gpu else host.weights_bytes
        assert abs(off_mib(mapped_bytes, row, "model_host_mib")) < 0.012, row
        if gpu is not None:
            parts += [(gpu.weights_bytes, "model_mib"), (gpu.compute_bytes, "compute_mib")]
        parts.append((gpu.kv_cache.total_bytes if gpu else host.kv_cache.total_bytes, "kv_mib"))
        assert [column for ours, column in parts if abs(off_mib(ours, row, column)) > LAST_DECIMAL_MIB] == [], row
        if (model, row["backend"]) not in BOUNDED_ON_THE_HOST:
            tokens = cells(of_model, int(row["ctx"]), int(row["parallel"]), int(row["ubatch"])).tokens
            numbers = NUMBER_BYTES * tokens * LOOKED_UP.get(model, 1) if on_gpu else 0
            assert abs(off_mib(host.compute_bytes + numbers, row, "compute_host_mib")) < ALIGNED_MIB, row
        if model not in ENCODERS:
            # With two decimals.
            assert abs(off_mib(host.output_bytes, row, "output_mib")) <= 0.0051, row


@pytest.mark.parametrize("model", SEVERAL_GPUS)
def test_each_of_several_gpus_has_the_engines_buffer_to_the_last_decimal(model: str) -> None:
    of_model, program = shapes()[bench("accuracy").key(model)], bench("accuracy")
    off = []
    for row in recorded("engine_memory_multi_gpu.csv")[model]:
        if row["mode"] in program.MULTI_GPU_MODES and row["status"] == "ok":
            is_pipelined = row["pipeline_retry"] != "1"
            gpus = split(of_model, program.settings_of(row), program.free_bytes(row), is_pipelined=is_pipelined)
            gpu = gpus[int(row["device"])]
            assert abs(off_mib(gpu.weights_bytes, row, "model_mib")) <= LAST_DECIMAL_MIB, row
            off.append(off_mib(gpu.compute_bytes, row, "compute_mib"))
    differ = [one for one in off if abs(one) > LAST_DECIMAL_MIB]
    # A GPU of gemma4:e4b that holds nothing but layers without a cache gets the others' in other pieces.
    assert len(differ) <= (10 if model == "gemma4:e4b" else 0)
    assert max(map(abs, off)) < 0.03


def test_a_plan_counts_with_pipelining_even_where_the_engine_had_no_memory_for_it() -> None:
    (row, *_others) = (
        row
        for row in recorded("engine_memory_multi_gpu.csv")["deepseek-v2:16b"]
        if row["pipeline_retry"] == "1" and row["device"] == "0"
    )
    legacy = shape("deepseek-v2_16b")
    free = bench("accuracy").free_bytes(row)
    pipelined = split(legacy, bench("accuracy").settings_of(row), free)[0]
    without = split(legacy, bench("accuracy").settings_of(row), free, is_pipelined=False)[0]
    measured_mib = float(row["total_mib"])
    assert without.buffers_bytes / MIB == pytest.approx(measured_mib, rel=0.0001)
    assert measured_mib < pipelined.buffers_bytes / MIB < 1.09 * measured_mib


class TestTheBenchOnOtherTables:
    """`tests/bench/accuracy.py --rows --headers --multi-gpu` with tables that are not ours."""

    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        plain = header("llama3.2:1b")
        (tmp_path / "headers").mkdir()
        (tmp_path / "headers" / "of any name.json").write_text(json.dumps({**plain, "name": "Org/New-Model:1b"}))
        (tmp_path / "headers" / "broken.json").write_text('{"metadata": 3}')
        rows = [row for row in bench("accuracy").read_rows(DATA / "engine_memory.csv") if row["model"] == "llama3.2:1b"]
        rows = [{**row, "model": "org/new-model:1b"} for row in rows if row["backend"] == "cuda"][:12]
        # An empty batch means the engine's own.
        rows[0]["ubatch"] = "" if rows[0]["ubatch"] == "512" else rows[0]["ubatch"]
        rows[1]["total_gpu_mib"] = rows[2]["ctx"] = rows[3]["kv_swa_mib"] = rows[3]["kv_rs_mib"] = ""
        rows[4]["kv_type"] = "q5_1"
        rows.append({**rows[5], "model": "unheard:1b"})
        with (tmp_path / "rows.csv").open("w", newline="") as table:
            writer = csv.DictWriter(table, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    def test_what_cannot_be_compared_is_said_and_the_rest_is_compared(
        self, other: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = ["accuracy.py", "--rows", str(other / "rows.csv"), "--headers", str(other / "headers")]
        monkeypatch.setattr(sys, "argv", arguments)
        assert bench("accuracy").main() == 0
        lines = capsys.readouterr().out.splitlines()
        assert "broken.json is no header: metadata of model broken is missing" in lines[0]
        assert "not compared: 1 rows, no header of unheard:1b" in lines
        assert "not compared: 1 rows, org/new-model:1b without total_gpu_mib" in lines
        assert "not compared: 1 rows, org/new-model:1b without ctx" in lines
        assert any("kv_cache_type is q5_1, expected f16" in line for line in lines)
        assert lines[-1].startswith("kv_max_error_pct=0.0000 weights_max_error_pct=0.0000 total_p99_error_pct=0.0000")
        assert lines[-1].endswith("rows=9")


class TestTheCaseEveryReaderKnows:
    """gemma3:4b at 4096 tokens, as docs/arithmetic.md derives it."""

    three = estimate(shape("gemma3_4b"), LoadSettings(4096, 3, batch=1024)).gpus[0]

    def test_full_attention(self) -> None:
        assert self.three.kv_cache.full_attention_bytes == 5 * 3 * 4096 * 4096

    def test_the_window_holds_a_batch_too(self) -> None:
        assert self.three.kv_cache.sliding_window_bytes == 29 * 3 * (1024 + 1024) * 4096

    def test_weights(self) -> None:
        assert self.three.weights_bytes == 2_483_218_432

    @pytest.mark.parametrize("of", [estimate, host_estimate])
    def test_the_logits_of_each_slot_are_32_bit_numbers_in_system_memory(self, of: Callable[..., ModelMemory]) -> None:
        assert of(shape("gemma3_4b"), LoadSettings(4096, 3)).host.output_bytes == 262144 * 3 * 4

    def test_the_context_of_the_process_comes_on_top(self) -> None:
        parts = self.three.weights_bytes + self.three.kv_cache.total_bytes + self.three.compute_bytes
        assert self.three.total_bytes == parts
        in_a_process = replace(self.three, cuda_context_bytes=CUDA_CONTEXT_BYTES)
        assert in_a_process.total_bytes == parts + 600 * MIB


class TestWhatTheEngineDoesNotStart:
    @pytest.mark.parametrize("kv_cache_type", ["q8_0", "q4_0"])
    def test_a_quantised_cache_without_flash_attention(self, kv_cache_type: str) -> None:
        with pytest.raises(Refused, match=f"cannot keep its KV cache in {kv_cache_type} while flash attention is off"):
            estimate(shape("llama3.1_8b"), LoadSettings(4096, 1, 512, kv_cache_type, "off"))

    def test_an_encoder_whose_batch_its_slots_cannot_share(self) -> None:
        with pytest.raises(Refused, match="cannot be shared evenly by 3 slots"):
            estimate(shape("nomic-embed-text"), LoadSettings(512, 3, 512))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"context_length": 0}, "context_length is 0, expected at least 1"),
        ({"parallel": 0}, "parallel is 0, expected at least 1"),
        ({"batch": -1}, "batch is -1, expected at least 1"),
        ({"kv_cache_type": "q5_1"}, "kv_cache_type is q5_1, expected f16"),
        ({"flash_attention": "maybe"}, "flash_attention is maybe, expected auto"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LoadSettings(**{"context_length": 4096, "parallel": 1, **values})


steps = st.integers(1, 8)


def started(tag: str, asked: LoadSettings) -> bool:
    try:
        estimate(shape(tag), asked)
    except Refused:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(tag=st.sampled_from(STEMS), parallel=steps, step=steps, batch=st.sampled_from([512, 1024, 2048]))
def test_a_longer_context_never_takes_less(tag: str, parallel: int, step: int, batch: int) -> None:
    shorter, longer = (LoadSettings(2048 * count, parallel, batch) for count in (step, step + 1))
    if started(tag, shorter) and started(tag, longer):
        assert estimate(shape(tag), shorter).gpu_bytes <= estimate(shape(tag), longer).gpu_bytes


@settings(max_examples=60, deadline=None)
@given(tag=st.sampled_from(STEMS), parallel=steps, context=st.sampled_from([2048, 8192, 32768]))
def test_one_slot_more_never_needs_a_smaller_cache(tag: str, parallel: int, context: int) -> None:
    fewer, more = (LoadSettings(context, count) for count in (parallel, parallel + 1))
    if started(tag, fewer) and started(tag, more):
        caches = [estimate(shape(tag), one).gpus[0].kv_cache.total_bytes for one in (fewer, more)]
        assert caches == sorted(caches)


@settings(max_examples=40, deadline=None)
@given(tag=st.sampled_from(STEMS), free=st.lists(st.integers(GIB, 96 * GIB), min_size=1, max_size=8), parallel=steps)
def test_every_layer_and_every_byte_of_the_cache_lies_on_one_of_the_gpus(
    tag: str, free: list[int], parallel: int
) -> None:
    asked = LoadSettings(4096, parallel)
    if not started(tag, asked):
        return
    devices = split(shape(tag), asked, free)
    (whole,) = estimate(shape(tag), asked).gpus
    assert sum(device.layers for device in devices) == shape(tag).block_count + 1
    assert sum(device.weights_bytes for device in devices) == pytest.approx(whole.weights_bytes, rel=0.005)
    assert sum(device.kv_cache.total_bytes for device in devices) == pytest.approx(whole.kv_cache.total_bytes, rel=0.005)


@pytest.mark.parametrize("tag", STEMS)
def test_on_the_cpu_no_gpu_is_needed(tag: str) -> None:
    alone = host_estimate(shape(tag), LoadSettings(512, 1))
    assert alone.gpus == ()
    assert alone.host.total_bytes > alone.host.weights_bytes > 0
    assert alone.host.layers == shape(tag).block_count + 1


def test_no_free_memory_at_all_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"free memory of the GPUs is \[0, 0\], expected some on at least one"):
        split(shape("llama3.2_1b"), LoadSettings(4096, 1), [0, 0])
