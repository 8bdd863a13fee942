# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recorded servers said of their GPUs and loads, and what made-up lines must not do."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _server_log
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    LoggedBuffer,
    read_server_log,
    size_of_text,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES, DATA
from hypothesis import given
from hypothesis import strategies as st

MODELS = json.loads((DATA / "ollama_scheduler_models.json").read_text())
SCENARIOS = [json.loads(line) for line in (DATA / "ollama_scheduler.jsonl").read_text().splitlines()]
BLOBS = "/usr/share/ollama/.ollama/models/blobs"
GEMMA = "sha256-a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def capture(name: str) -> _server_log.ServerLog:
    return read_server_log((CAPTURES / name / "server.log").read_text().split("\n"))


def stamp(second: int) -> str:
    return f"time=2026-11-23T05:{50 + second // 60}:{second % 60:02d}.926Z "


def blob(tag: str) -> str:
    """The file of a tag of the recorded scenarios, whose other tags set num_ctx or carry a projector."""
    return MODELS[tag.partition("-ctx")[0].replace("-vision", "")]["blob"]


def recorded(scenario: dict[str, Any], level: str) -> Iterator[str]:
    """The log of a recorded scenario as a server with this log level writes it: a second for each step."""
    most = scenario["env"].get("OLLAMA_MAX_LOADED_MODELS", "0")
    environment = f"map[OLLAMA_KEEP_ALIVE:5m0s OLLAMA_MAX_LOADED_MODELS:{most}]"
    yield f'{stamp(0)}level=INFO source=routes.go:1951 msg="server config" env="{environment}"'
    yield from (stamp(0) + line for line in scenario["discovery"])
    for second, step in enumerate(scenario["steps"], 1):
        loads = iter(step["observed"].get("loads", ()))
        load: dict[str, Any] = {}
        for line in step["observed"]["sched"]:
            if level == "INFO" and line.startswith("level=DEBUG"):
                continue
            if "starting llama-server" in line:
                load = next(loads, {})
            if "loaded runners" in line:
                yield from load.get("fit", ())
                for origin, device, kind, size in load.get("buffers", ()):
                    yield f"{origin}: {device:>12} {kind} buffer size = {size:8.2f} MiB"
                if load.get("offloaded"):
                    yield f"load_tensors: offloaded {load['offloaded']} layers to GPU"
            yield stamp(second) + re.sub(r"<([^<>]+)>", lambda tag: f"{BLOBS}/{blob(tag[1])}", line)


def test_what_a_recorded_server_without_debugging_says():
    log = capture("np3_ctx4096_nodebug")
    assert (log.version, log.engine_build, log.default_context_length) == ("0.33.0-rc2", 10488, 4096)
    assert log.settings["OLLAMA_NUM_PARALLEL"] == "3"
    assert "OLLAMA_ORIGINS" not in log.settings
    (device,) = log.devices
    assert (device.library, device.total_bytes) == ("cpu", round(23.5 * GIB))
    assert log.drops == ()
    (load,) = log.loads
    launched = load.launched
    assert (launched.blob, launched.context_total, launched.parallel, launched.batch) == (
        GEMMA,
        12288,
        3,
        1024,
    )
    assert (launched.flash_attention, launched.kv_cache_type, launched.num_gpu) == ("auto", "", -1)
    assert {(one.device, one.kind): one.size_bytes for one in load.buffers} == {
        ("CPU", "weights"): round(222.51 * MIB),
        ("CPU_REPACK", "weights"): round(12.66 * MIB),
        ("CPU", "output"): 3 * MIB,
        ("CPU", "kv_cache"): round((36 + 67.5) * MIB),
        ("CPU", "compute"): round(46.63 * MIB),
    }
    assert [(model.name, model.loads) for model in log.models] == [("gemma3-270m:latest", 1)]


def test_a_recorded_gpu_server_names_its_gpus_by_pci_id_and_its_buffers_by_gpu():
    scenario = next(one for one in SCENARIOS if one["name"] == "g12_np4_8k_two")
    log = read_server_log(recorded(scenario, "INFO"))
    (device,) = log.devices
    assert (device.id, device.library, device.pci_id, device.driver) == ("0", "CUDA", "0000:01:00.0", "13.0")
    assert device.total_bytes == 12 * GIB
    gemma, llama = log.loads
    assert (gemma.layers_on_gpu, gemma.layers, gemma.gpu_ids) == (35, 35, ("0",))
    assert LoggedBuffer("CUDA0", "kv_cache", (640 + 928) * MIB) in gemma.buffers
    assert LoggedBuffer("CUDA0", "weights", round(1918.35 * MIB)) in llama.buffers
    assert not gemma.is_spilled


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_evictions_are_counted_as_they_were_recorded(level):
    true, found, by_model_too_often = 0, 0, 0
    for scenario in SCENARIOS:
        evicted = Counter(
            blob(tag)
            for step in scenario["steps"]
            for tag in step["evicted"]
            if blob(tag) != blob(step["request"]["model"])
        )
        log = read_server_log(recorded(scenario, level))
        true += evicted.total()
        found += sum(model.evicted for model in log.models)
        by_model_too_often += sum(model.evicted > evicted[model.blob] for model in log.models)
    # Without debugging one victim of 61 is taken for another: it had a keep-alive of its own.
    assert (true, found, by_model_too_often) == (61, 61, 1 if level == "INFO" else 0)


def test_spills_are_counted_as_they_were_recorded():
    for scenario in SCENARIOS:
        log = read_server_log(recorded(scenario, "INFO"))
        partly = sum(
            load.get("offloaded", "1/1").split("/")[0] != load.get("offloaded", "1/1").split("/")[1]
            for step in scenario["steps"]
            if any("loaded runners" in line for line in step["observed"]["sched"])
            for load in step["observed"].get("loads", ())[-1:]
            if " -ngl " not in load["cmd"]
        )
        assert sum(model.spilled for model in log.models) == partly, scenario["name"]


START = (
    'time=2026-11-23T05:50:07.9Z level=INFO source=llama_server.go:433 msg="starting llama-server" cmd="/x/llama-server '
    "--model {model} --port 1 --host 127.0.0.1 -c 8192 -np 2 --log-verbosity 4{more} --flash-attn auto -b 512 -ub 512"
    ' --context-shift --keep 4"'
)
RESERVED = "sched_reserve: CUDA0 compute buffer size = {}.00 MiB"
KEPT = "llama_kv_cache: CUDA0 {} buffer size = {}.00 MiB"
END = 'time=2026-11-23T05:50:09.9Z level=INFO source=sched.go:728 msg="loaded runners" count=1'


def load_of(*lines: str, model: str = f"/m/{GEMMA}", more: str = "") -> _server_log.LoggedLoad:
    (load,) = read_server_log([START.format(model=model, more=more), *lines, END]).loads
    return load


def size(load: _server_log.LoggedLoad, kind: str) -> int:
    return sum(one.size_bytes for one in load.buffers if one.kind == kind) // MIB


@pytest.mark.parametrize(
    ("lines", "kind", "mib"),
    [
        ([RESERVED.format(90), RESERVED.format(70)], "compute", 70),
        (
            [
                "llama_context: constructing llama_context",
                RESERVED.format(70),
                "llama_context: constructing llama_context",
                RESERVED.format(582),
            ],
            "compute",
            652,
        ),
        ([KEPT.format("KV", 9), KEPT.format("RS", 2)], "kv_cache", 11),
        (
            [
                "load_tensors: CUDA0 model buffer size = 900.00 MiB",
                "common_fit_params: successfully fit params to free device memory",
                "load_tensors: CUDA0 model buffer size = 800.00 MiB",
            ],
            "weights",
            800,
        ),
        (["reserve_compute_meta: CUDA0 compute buffer size = 121.25 MiB"], "projector_compute", 121),
        (["sched_reserve: CUDA0 compute buffer size = lots MiB"], "compute", 0),
    ],
    ids=["reserved anew", "a second context", "a recurrent state", "what fit tried", "a projector's", "rubbish"],
)  # fmt: skip
def test_buffers_of_a_kind(lines, kind, mib):
    assert size(load_of(*lines), kind) == mib


def test_the_gpu_that_a_runner_saw_is_told_by_its_pci_id():
    load = load_of(
        "cmn  common_param:   - CUDA0   : NVIDIA Fake GPU (12288 MiB, 8183 MiB free)",
        "llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 4060 (Ti)) (0000:01:00.0) - 8183 MiB free",
        "llama_model_load_from_file_impl: using device CUDA1 (NVIDIA GeForce RTX 4060) - 100 MiB free",
    )
    assert [(one.name, one.pci_id, one.free_bytes) for one in load.devices] == [
        ("CUDA0", "0000:01:00.0", 8183 * MIB),
        ("CUDA1", "", 100 * MIB),
    ]


@pytest.mark.parametrize(
    ("more", "is_spilled"),
    [("", True), (" -ngl 10", False)],
    ids=["fit left layers out", "somebody wanted it"],
)
def test_layers_on_the_cpu_are_a_spill_unless_they_were_asked_for(more, is_spilled):
    assert load_of("load_tensors: offloaded 10/35 layers to GPU", more=more).is_spilled is is_spilled


def test_a_path_with_spaces_and_a_command_line_without_model():
    assert (
        load_of(model="/srv/my models/blobs/abc", more=" --mmproj /p --no-mmproj-offload").launched.blob
        == "abc"
    )
    assert read_server_log([START.replace("--model", "--modal"), END]).loads == ()


def test_failed_loads_carry_their_reason_without_credentials():
    line = (
        f'time=1 level=INFO source=sched.go:641 msg="Load failed" model=/b/{GEMMA} '
        'error="exit status 1: https://u:secret@h/x \\n out of memory"'
    )
    (model,) = read_server_log([START.format(model=f"/m/{GEMMA}", more=""), line, END]).models
    assert (model.blob, model.failed, model.loads) == (GEMMA, 1, 0)
    assert "out of memory" in model.error
    assert "secret" not in model.error


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'level=WARN source=cuda_compat.go:70 msg="NVIDIA driver too old" device="Tesla P40" compute=6.1 driver=535'
            ' required_driver="570 or newer"',
            "NVIDIA driver too old (device=Tesla P40, compute=6.1, driver=535, required_driver=570 or newer)",
        ),
        (
            'level=INFO source=runner.go:405 msg="dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1" id=0'
            ' library=ROCm pci_id=0000:c5:00.0',
            "dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1 (id=0, library=ROCm, pci_id=0000:c5:00.0)",
        ),
        # Sources: ollama issues 1756, 8532; discover/gpu.go and amd_linux.go up to 0.12.3.
        (
            'level=INFO source=gpu.go:319 msg="[0] CUDA GPU is too old. Compute Capability detected: 3.5"',
            "[0] CUDA GPU is too old. Compute Capability detected: 3.5",
        ),
        (
            'level=INFO source=amd_linux.go:297 msg="unsupported Radeon iGPU detected skipping" id=0 total="512.0 MiB"',
            "unsupported Radeon iGPU detected skipping (id=0, total=512.0 MiB)",
        ),
        (
            'level=WARN source=amd_linux.go:378 msg="amdgpu is not supported (supported types:[gfx1030 gfx1100])"'
            " gpu_type=gfx1036 gpu=0 library=/usr/lib/ollama/rocm",
            "amdgpu is not supported (supported types:[gfx1030 gfx1100]) (gpu_type=gfx1036, gpu=0, library=/usr/lib/ollama/rocm)",
        ),
        ('level=INFO source=gpu.go:377 msg="no compatible GPUs were discovered"', "no compatible GPUs were discovered"),
        (
            'level=INFO source=gpu.go:272 msg="error looking up nvidia GPU memory"'
            ' error="cuda driver library failed to get device context 801"',
            "error looking up nvidia GPU memory (error=cuda driver library failed to get device context 801)",
        ),
        ('level=INFO source=amd_linux.go:391 msg="skipping rocm gfx compatibility check" HSA_OVERRIDE_GFX_VERSION=10.3.0', None),
        ('level=WARN source=images.go:798 msg="model is missing tokenizer.chat_template"', None),
        ('level=INFO source=runner.go:60 msg="discovering available GPUs..."', None),
    ],
)  # fmt: skip
def test_why_a_gpu_is_dropped_is_what_discovery_says(line, told):
    assert read_server_log([stamp(0) + line]).drops == (() if told is None else (told,))


# Source: ollama issue 18482: the log of 0.34.0 names no device, only that there is no memory of GPUs.
@pytest.mark.parametrize(("total", "devices"), [("0 B", ()), ("11.9 GiB", None), ("", None)])
def test_a_server_without_memory_of_gpus_has_found_none(total, devices):
    line = f'level=INFO source=routes.go:2072 msg="vram-based default context" total_vram="{total}" default_num_ctx=4096'
    log = read_server_log([stamp(0) + line])
    assert (log.devices, log.default_context_length) == (devices, 4096)


# Sources: ollama issue 13227 (0.13.0); llm/server.go of 0.24.0.
@pytest.mark.parametrize("of", ["gpu ", "system ", ""])
def test_evictions_before_0_30_are_counted(of):
    begin = 'level=INFO source=server.go:392 msg="starting runner" cmd="/x/ollama runner --ollama-engine --model /m/{} --port 1"'
    evicting = f"model requires more {of}memory than is currently available, evicting a model to make space"
    end = 'level=INFO source=sched.go:500 msg="loaded runners" count=1'
    one, other = GEMMA, "sha256-" + "0" * 64
    log = read_server_log([
        stamp(0) + begin.format(one), stamp(1) + end,
        stamp(2) + begin.format(other), stamp(3) + f'level=INFO source=server.go:974 msg="{evicting}" "loaded layers"=0',
        stamp(4) + begin.format(other), stamp(5) + end,
    ])  # fmt: skip
    assert {model.blob: (model.loads, model.evicted) for model in log.models} == {one: (1, 1), other: (1, 0)}


# Source: ollama issue 13320 (0.13.1): a model of Ollama's own engine wholly on the CPU; llm/server.go of 0.20.0.
@pytest.mark.parametrize(
    ("requested", "some", "spilled"), [(-1, 0, 1), (-1, 24, 1), (-1, 25, 0), (10, 10, 0), (0, 0, 0)]
)
def test_spills_before_0_30_are_counted(requested, some, spilled):
    lines = [
        'level=INFO source=server.go:392 msg="starting runner" cmd="/x/ollama runner --ollama-engine --model /m/x --port 1"',
        f'level=INFO source=server.go:703 msg="loading model" "model layers"=25 requested={requested}',
        f'level=INFO source=ggml.go:494 msg="offloaded {some}/25 layers to GPU"',
        'level=INFO source=device.go:245 msg="model weights" device=CPU size="12.8 GiB"',
        'level=INFO source=sched.go:517 msg="loaded runners" count=1',
    ]
    log = read_server_log([stamp(second) + line for second, line in enumerate(lines)])
    assert [(model.loads, model.spilled) for model in log.models] == [(1, spilled)]


def test_a_script_that_starts_one_server_after_another_tells_of_the_last():
    config = 'level=INFO source=routes.go:1951 msg="server config" env="map[OLLAMA_NUM_PARALLEL:{}]"'
    compute = 'level=INFO source=types.go:32 msg="inference compute" id=0 library=CUDA name=CUDA0 pci_id=0000:01:00.0'
    first = [config.format(1), compute, START.format(model=f"/m/{GEMMA}", more=""), END]
    log = read_server_log([*first, config.format(2), compute])
    assert (log.settings, len(log.devices), log.models) == ({"OLLAMA_NUM_PARALLEL": "2"}, 1, ())


# Source: ollama server/sched.go of 0.33.0-rc2, expireRunnersForRuntimeOOM.
def test_a_model_that_runs_out_of_memory_while_it_runs_has_failed():
    line = (
        'time=1 level=WARN source=sched.go:1648 msg="runtime OOM detected; expiring loaded models to clear memory before next'
        f' request" model=/m/{GEMMA} error="CUDA error: out of memory"'
    )
    (model,) = read_server_log([START.format(model=f"/m/{GEMMA}", more=""), END, line]).models
    assert (model.loads, model.evicted, model.failed, model.error) == (1, 0, 1, "CUDA error: out of memory")


# Source: llama.cpp common/log.cpp: LLAMA_LOG_COLORS=on, LLAMA_LOG_PREFIX and LLAMA_LOG_TIMESTAMPS.
@pytest.mark.parametrize(
    "form",
    ["{}", "\x1b[0m{}\x1b[0m", "\x1b[34m0.00.123.456\x1b[0m \x1b[32mI {}\x1b[0m", "0.00.123.456 I {}"],
)
def test_colours_and_prefixes_of_the_engine_change_nothing(form):
    lines = ["load_tensors: offloaded 10/35 layers to GPU", "reserve_compute_meta: CUDA0 compute buffer size = 121.00 MiB"]
    load = load_of(*map(form.format, lines))
    assert (load.layers_on_gpu, size(load, "projector_compute")) == (10, 121)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12.0 GiB", 12 * GIB),
        ("457.0 MiB", 457 * MIB),
        ("0 B", 0),
        ("12 GB", None),
        ("", None),
        ("1024.0 TiB", 1024 * 1024 * GIB),
        ("1024.1 TiB", None),
        ("999999999999 TiB", None),
    ],
)
def test_sizes_as_ollama_prints_them(text, found):
    assert size_of_text(text) == found


def test_a_buffer_larger_than_any_device_is_none():
    lines = [f"x: CUDA0 KV buffer size = {size} MiB" for size in ("999999999999.00", "1.00")]
    (load,) = read_server_log([START.format(model="/m", more=""), *lines, END]).loads
    assert [buffer.size_bytes for buffer in load.buffers] == [MIB]


def test_what_is_loaded_at_once_is_bounded_whatever_number_of_runners_is_told():
    lines = []
    for number in range(4000):
        lines += [START.format(model=f"/m/{number}", more=""), END.replace("count=1", "count=99999999")]
    began = time.process_time()
    read_server_log(lines)
    assert time.process_time() - began < 2


def test_however_much_is_said_little_is_kept():
    lines = []
    for number in range(300):
        lines += [
            START.format(model=f"/m/{number}", more=""),
            *(f"load_tensors: D{i} model buffer size = 1.00 MiB" for i in range(300)),
            END,
        ]
        lines += [f'level=WARN source=runner.go:1 msg="dropping {number}"', *(
            f'level=INFO source=types.go:32 msg="inference compute" id={number} library=CUDA' for _unused in range(2)
        )]  # fmt: skip
    log = read_server_log(lines)
    assert len(log.loads) == _server_log.MOST_LOADS
    assert len(log.models) == _server_log.MOST_MODELS
    assert len(log.devices) == _server_log.MOST_DEVICES
    assert len(log.drops) <= _server_log.MOST_DROPS
    assert all(len(load.buffers) <= _server_log.MOST_BUFFERS for load in log.loads)
    assert log.loads[-1].launched.blob == "299"


@pytest.mark.parametrize(
    "piece", ["a=", 'a="', "msg=", "source= msg=", ": a buffer size = ", " --model a", "\\"]
)
def test_a_long_line_is_soon_read(piece):
    began = time.monotonic()
    long = piece * (1_000_000 // len(piece))
    read_server_log([START.format(model=long, more=""), long, f"source=x msg={long}", END])
    assert time.monotonic() - began < 2


RECORDED_LINES = sorted(set((CAPTURES / "two_models_np3" / "server.log").read_text().split("\n")))


@given(st.lists(st.one_of(st.sampled_from(RECORDED_LINES), st.just(END), st.text(max_size=80)), max_size=60))
def test_whatever_lines_come_the_counts_agree_with_each_other(lines):
    log = read_server_log(lines)
    assert sum(model.loads for model in log.models) >= sum(load.count for load in log.loads)
    for model in log.models:
        assert model.evicted <= model.loads
        assert model.spilled <= model.loads
    json.dumps(log.to_dict(), allow_nan=False)


def test_parts_of_a_log_are_read_each_by_itself():
    started = START.format(model=f"/m/{GEMMA}", more="")
    assert len(read_server_log([started], [END]).loads) == 0
    assert len(read_server_log([started, END]).loads) == 1
