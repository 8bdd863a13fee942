# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real CUDA backend on the simulated machine: it tells the truth of itself, splits, runs out of memory, aborts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import package
import pools
import probe
import pytest
import rows
from probe import Device, Point

Run = Callable[..., Any]

# Buffers of llama3.1:8b with 4096 tokens and no flash attention are 5215.5 MiB; with its pool it needs 5345.
NEEDED_TO_START_MIB, NEEDED_TO_RUN_MIB = 5320.0, 5352.0
FULL_4096 = pools.full_context(4096, 1, 512, "f16", "off")


def allocated_mib(lines: Any, moment: str, device: int = 0) -> float:
    return float(lines[moment][device]["allocated"]) / rows.MIB


def test_the_account_is_what_the_engine_says_of_its_buffers(run: Run) -> None:
    loaded, (outcome,) = run("llama3.2:1b", [Device()], [Point(4096, 3, 512, "q8_0")])
    said = rows.read_log(loaded.lines["log"] + outcome.log).mib
    of_device = sum(mib for (device, _unused), mib in said.items() if device == "CUDA0")
    assert allocated_mib(outcome.lines, "context") == pytest.approx(of_device, abs=0.02)


@pytest.mark.parametrize("capability", ["6.1", "7.5", "8.0", "8.9", "9.0", "12.0"])
def test_buffers_are_the_same_on_every_generation_of_cards(run: Run, capability: str) -> None:
    points = [Point(4096, 1, 512, "f16", "auto"), Point(4096, 2, 1024, "q8_0", "auto")]
    _unused, here = run("llama3.2:1b", [Device(capability=capability)], points)
    _unused, there = run("llama3.2:1b", [Device()], points)
    assert [allocated_mib(one.lines, "context") for one in here] == [
        allocated_mib(one.lines, "context") for one in there
    ]


def test_a_model_is_split_by_free_memory(run: Run) -> None:
    loaded, (outcome,) = run("llama3.2:1b", [Device(24576), Device(24576, 12288)], [Point(4096, 1)])
    layers = rows.read_log(loaded.lines["log"]).layers
    on_first = sum(where == "CUDA0" for where in layers.values())
    assert (len(layers), on_first) == (17, 12)
    assert rows.read_log(outcome.log).is_pipelined


def test_weights_that_do_not_fit_are_not_loaded(run: Run) -> None:
    loaded, outcomes = run("llama3.2:1b", [Device(1000)], [Point(4096, 1)])
    assert (loaded.is_loaded, outcomes) == (False, [])


def test_a_context_that_does_not_fit_is_refused(run: Run) -> None:
    _unused, (small, large) = run("llama3.2:1b", [Device(3000)], [Point(4096, 1), Point(32768, 8)])
    assert (small.status, large.status) == ("ok", "fail")
    assert "out of memory" in large.error


def test_it_starts_and_aborts_at_the_first_long_prompt_where_only_the_buffers_fit(run: Run) -> None:
    device = Device(24576, NEEDED_TO_START_MIB)
    _unused, (started,) = run("llama3.1:8b", [device], [Point(4096, 1, 512, "f16", "off")])
    assert started.status == "ok"
    assert allocated_mib(started.lines, "context") == pytest.approx(5215.5, abs=1)
    _unused, (aborted,) = run("llama3.1:8b", [device], [FULL_4096])
    assert aborted.status == "crash"
    assert "out of memory" in aborted.error or "CUDA error" in aborted.error


def test_it_runs_where_the_pool_fits_too(run: Run) -> None:
    _unused, (outcome,) = run("llama3.1:8b", [Device(24576, NEEDED_TO_RUN_MIB)], [FULL_4096])
    assert (outcome.status, outcome.lines["code"]) == ("ok", 0)


def test_the_pool_without_flash_attention_is_a_copy_of_the_scores_and_grows_with_the_context(run: Run) -> None:
    heads, ubatch = 32, 512
    found = [
        pools.beyond_buffers(outcome.lines, "fill")
        for context in (2048, 4096)
        for _unused, (outcome,) in [run("llama3.1:8b", [Device()], [pools.full_context(context, 1, ubatch, "f16", "off")])]
    ]
    expected = [2 * heads * context * ubatch / rows.MIB for context in (2048, 4096)]
    # cuBLAS has 4 MiB of its own, and the pool grows in steps of 2 MiB.
    assert [most - least for most, least in zip(found, expected)] == pytest.approx([4, 4], abs=4)


def test_every_device_of_several_has_a_pool_and_later_ones_are_sent_what_earlier_made(run: Run) -> None:
    devices = [Device(24576), Device(24576)]
    _unused, (outcome,) = run("llama3.1:8b", devices, [pools.full_context(4096, 1, 512, "f16", "auto")])
    held = [one["mapped"] / rows.MIB for one in outcome.lines["steps"]]
    assert all(0 < mib <= 64 for mib in held)
    assert [one["peer"] for one in outcome.lines["fill"]] == [0, 4092 * 4096 * 4]


def test_fusion_keeps_more_alive_in_a_mixture_of_experts(run: Run) -> None:
    point = Point(2048, 1)
    _unused, (fused,) = run("gemma4:26b", [Device()], [point])
    _unused, (unfused,) = run("gemma4:26b", [Device()], [point], GGML_CUDA_DISABLE_FUSION="1")
    # Eight experts' outputs of 2816 floats each for 512 tokens.
    kept = allocated_mib(fused.lines, "context") - allocated_mib(unfused.lines, "context")
    assert kept == pytest.approx(8 * 2816 * 512 * 4 / rows.MIB, abs=0.1)


def test_an_abort_costs_one_point(run: Run) -> None:
    # The graph of phi4 has room for too few operations where the cache is quantised and there are several slots.
    points = [Point(4096, 1), Point(4096, 2, 512, "q8_0"), Point(4096, 2)]
    _unused, outcomes = run("phi4:14b", [Device()], points)
    assert [one.status for one in outcomes] == ["ok", "crash", "ok"]


def test_without_virtual_memory_the_pool_keeps_more(run: Run) -> None:
    pool = [
        pools.beyond_buffers(outcome.lines, "fill")
        for has in ("1", "0")
        for _unused, (outcome,) in [run("llama3.1:8b", [Device()], [FULL_4096], SIMULATED_CUDA_VMM=has)]
    ]
    assert pool[1] > 2 * pool[0]


def test_headers_of_another_build_are_refused(engine: package.Engine, run: Run, tmp_path: Path) -> None:
    # A parameter more before the others moves all of them.
    folder = tmp_path / "headers"
    shutil.copytree(package.headers(package.KNOWN[engine.version][1])[0], folder)
    header = folder / "llama.h"
    struct = "struct llama_context_params {"
    header.write_text(header.read_text().replace(struct, f"{struct} uint32_t more;", 1))
    make = ["probe", f"ENGINE={engine.folder}", f"HEADERS={folder}", f"PROBE={tmp_path / 'probe'}"]
    other = dataclasses.replace(engine, probe=package.built(tmp_path / "probe", (), *make))
    loaded, _unused = probe.run_points(other, tmp_path / "no.gguf", [Point(512, 1)], probe.environment(other, [Device()]))
    assert (loaded.is_loaded, "do not fit this libllama" in loaded.error) == (False, True)


def test_a_header_that_the_build_does_not_know_is_named(run: Run, engine: Any, tmp_path: Any) -> None:
    header = {
        "name": "m", "metadata": {"general.architecture": "acorn"},
        "tensors": [["token_embd.weight", "F32", [32, 32]]],
    }  # fmt: skip
    model = probe.sparse_model(header, tmp_path / "model.gguf")
    loaded, _unused = probe.run_points(engine, model, [Point(512, 1)], probe.environment(engine, [Device()]))
    assert not loaded.is_loaded
    assert "acorn" in loaded.error
