# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loads, runners, GPU memory and the queue, beside what was recorded of the real scheduler."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama import measured_sizes, memory, placement
from ansible_collections.gpufleet.ollama.tests.standin_ollama.gpus import Gpu
from ansible_collections.gpufleet.ollama.tests.standin_ollama.store import Gguf

from ..conftest import MODEL, TESTS, Start

DATA = TESTS / "data"
LLAMA = "llama3.1:8b"
RECORDS = [json.loads(line) for line in (DATA / "ollama_scheduler.jsonl").read_text().splitlines()]
MODELS = json.loads((DATA / "ollama_scheduler_models.json").read_text())


def value_of(command: str, option: str) -> str | None:
    words = command.split()
    return words[words.index(option) + 1] if option in words else None


def recorded_commands() -> list[dict[str, Any]]:
    runners = [runner for record in RECORDS for step in record["steps"] for runner in step["runners"]]
    return [runner for runner in runners if runner["ngl"] is None]  # retries set it; the stand-in never does


def test_starts_runners_with_the_recorded_command_lines() -> None:
    for runner in recorded_commands():
        built = placement.arguments(
            blob=f"<{runner['model']}>",
            port=int(value_of(runner["cmd"], "--port") or 0),
            context_total=runner["c"],
            parallel=runner["np"],
            batch_size=runner["b"],
            flash_attention=runner["flash_attn"],
            kv_cache_type=runner["cache_k"] or "",
            projector=value_of(runner["cmd"], "--mmproj"),
            embedding=runner["embedding"],
            split_mode_none=runner["split_mode"] == "none",
        )
        assert " ".join(built[1:]) == runner["cmd"]


def first_loads() -> list[Any]:
    """First loads of a scenario without overrides, on GPUs that are empty."""
    chosen = []
    for record in RECORDS:
        step = record["steps"][0]
        model = MODELS.get(step["request"]["model"])
        plain = (
            model and not model.get("pooling") and set(step["request"]) <= {"endpoint", "model", "keep_alive"}
        )
        ours = set(record["env"]) <= {
            "OLLAMA_NUM_PARALLEL",
            "OLLAMA_CONTEXT_LENGTH",
            "OLLAMA_MAX_LOADED_MODELS",
        }
        if plain and ours and len(step["runners"]) == 1 and step["runners"][0]["ngl"] is None:
            chosen.append(pytest.param(record, step, model, id=record["name"]))
    return chosen


@pytest.mark.parametrize(("record", "step", "model"), first_loads())
def test_places_a_first_load_where_ollama_did(
    record: dict[str, Any], step: dict[str, Any], model: dict[str, Any]
) -> None:
    sizes = [int(size * 2**30) for size in record["host"]["gpus_gib"]]
    gpus = [Gpu(i, str(i), f"GPU-{i}", "", "8.6", "", size, size) for i, size in enumerate(sizes)]
    arch = model["arch"]
    keys = {
        "general.architecture": arch,
        f"{arch}.block_count": model["blocks"],
        f"{arch}.attention.head_count_kv": model["kv"],
        f"{arch}.attention.head_count": model["heads"],
        f"{arch}.embedding_length": model["emb"],
        f"{arch}.context_length": model["ctx_train"],
    }
    runner = step["runners"][0]
    context = runner["c"] // runner["np"]
    predicted = memory.predicted_bytes(Gguf(keys, ()), model["file_bytes"], context, runner["np"])
    chosen = placement.choose(gpus, predicted, spread=False)
    free = sum(gpu.free_bytes for gpu in chosen)
    assert ",".join(str(gpu.index) for gpu in chosen) == runner["cuda_visible"]
    assert placement.batch(runner["c"], predicted, free) == runner["b"]


def test_enough_first_loads_were_compared() -> None:
    assert len(first_loads()) >= 50


def test_a_runner_looks_like_the_real_one_in_proc(start: Start) -> None:
    server = start(gpus_gib=(24,), OLLAMA_NUM_PARALLEL="3", OLLAMA_CONTEXT_LENGTH="4096")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    ((pid, line),) = server.runners().items()
    assert line[0] == "/usr/local/lib/ollama/llama-server"
    assert f'msg="starting llama-server" cmd="{" ".join(line)}"' in server.log
    assert " -c 12288 -np 3 " in " ".join(line)
    assert Path(f"/proc/{pid}/comm").read_text() == "llama-server\n"


def test_a_runner_announces_what_it_holds_and_gives_it_back(start: Start) -> None:
    server = start(gpus_gib=(24,), OLLAMA_CONTEXT_LENGTH="4096")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    listed = server.ask("GET", "/api/ps").json()["models"][0]
    ((pid, text),) = server.held().items()
    assert pid in server.runners()
    assert text == f"0 {listed['size_vram'] + (457 << 20)}\n"
    assert listed["size"] == listed["size_vram"]
    server.ask("POST", "/api/generate", {"model": LLAMA, "keep_alive": 0})
    assert server.held() == {}


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_no_runner_outlives_its_server(start: Start, by: signal.Signals) -> None:
    server = start(gpus_gib=(24,))
    server.ask("POST", "/api/generate", {"model": LLAMA})
    (pid,) = server.runners()
    server.process.send_signal(by)
    server.process.wait(10)
    assert until(lambda: not os.path.exists(f"/proc/{pid}") and not server.held())


def test_a_model_too_large_lies_partly_on_the_cpu(start: Start) -> None:
    server = start(gpus_gib=(6,), OLLAMA_NUM_PARALLEL="4", OLLAMA_CONTEXT_LENGTH="8192")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    listed = server.ask("GET", "/api/ps").json()["models"][0]
    assert 0 < listed["size_vram"] < listed["size"]


def test_spills_from_the_slot_count_it_is_told(start: Start) -> None:
    config = {"faults": [{"action": "spill", "parallel": 4}]}
    for parallel, whole in (("3", True), ("4", False)):
        server = start(
            gpus_gib=(80,), config=config, OLLAMA_NUM_PARALLEL=parallel, OLLAMA_CONTEXT_LENGTH="4096"
        )
        server.ask("POST", "/api/generate", {"model": LLAMA})
        listed = server.ask("GET", "/api/ps").json()["models"][0]
        assert (listed["size"] == listed["size_vram"]) is whole


def test_takes_measured_bytes_where_it_is_given_them(start: Start) -> None:
    rows = measured_sizes.read(DATA / "engine_memory.csv", [LLAMA])
    environment = {"OLLAMA_NUM_PARALLEL": "3", "OLLAMA_CONTEXT_LENGTH": "4096"}
    server = start(gpus_gib=(24,), config={"sizes": rows}, **environment)
    server.ask("POST", "/api/generate", {"model": LLAMA})
    # 4403.4924 MiB of weights, 1536.0 of KV cache, 224.4575 of compute buffers at the batch Ollama takes.
    assert server.ask("GET", "/api/ps").json()["models"][0]["size"] / 2**20 == pytest.approx(
        6163.95, abs=0.01
    )


def test_a_second_model_evicts_where_eighty_percent_do_not_suffice(start: Start) -> None:
    server = start(gpus_gib=(8,), OLLAMA_CONTEXT_LENGTH="4096")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    server.ask("POST", "/api/generate", {"model": MODEL})
    assert loaded(server) == [f"{MODEL}:latest", LLAMA]
    server = start(gpus_gib=(8,), OLLAMA_CONTEXT_LENGTH="4096")
    server.ask("POST", "/api/generate", {"model": MODEL})
    server.ask("POST", "/api/generate", {"model": LLAMA, "options": {"num_ctx": 16384}})
    assert loaded(server) == [LLAMA]


def test_never_more_models_than_the_limit(start: Start) -> None:
    server = start(gpus_gib=(80,), OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_DEBUG="1")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    server.ask("POST", "/api/generate", {"model": MODEL})
    assert loaded(server) == [f"{MODEL}:latest"]
    assert "max runners achieved" in server.log


def test_another_context_length_means_another_runner(start: Start) -> None:
    server = start(gpus_gib=(24,))
    server.ask("POST", "/api/generate", {"model": MODEL})
    (first,) = server.runners()
    server.ask("POST", "/api/generate", {"model": MODEL, "prompt": "x", "options": {"num_predict": 1}})
    assert list(server.runners()) == [first]
    server.ask("POST", "/api/generate", {"model": "g-ctx8k"})
    ((second, line),) = server.runners().items()
    assert second != first
    assert value_of(" ".join(line), "-c") == "8192"


def test_a_context_beyond_the_trained_one_is_cut(start: Start) -> None:
    server = start()
    server.ask("POST", "/api/generate", {"model": MODEL, "options": {"num_ctx": 131072}})
    assert server.ask("GET", "/api/ps").json()["models"][0]["context_length"] == 32768
    assert "requested context size too large for model" in server.log


def test_a_request_sees_only_the_visible_gpus(start: Start) -> None:
    server = start(gpus_gib=(24, 24), CUDA_VISIBLE_DEVICES="GPU-1")
    server.ask("POST", "/api/generate", {"model": MODEL})
    ((_pid, text),) = server.held().items()
    assert text.startswith("1 ")


def test_a_model_that_fits_no_gpu_is_split_over_all(start: Start) -> None:
    server = start(gpus_gib=(6, 6), OLLAMA_NUM_PARALLEL="1", OLLAMA_CONTEXT_LENGTH="4096")
    server.ask("POST", "/api/generate", {"model": LLAMA})
    ((_pid, text),) = server.held().items()
    assert [line.split()[0] for line in text.splitlines()] == ["0", "1"]


def test_a_quantised_cache_needs_flash_attention(start: Start) -> None:
    server = start(gpus_gib=(24,), OLLAMA_FLASH_ATTENTION="0", OLLAMA_KV_CACHE_TYPE="q8_0")
    reply = server.ask("POST", "/api/generate", {"model": LLAMA})
    told = [
        step["error"]
        for record in RECORDS
        for step in record["steps"]
        if step["error"] and "V cache" in step["error"]
    ]
    assert (reply.status, reply.body.decode()) == (500, told[0])


def test_a_full_queue_answers_503_as_recorded(start: Start) -> None:
    config = {"load_seconds": 1.0}
    server = start(config=config, OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_MAX_QUEUE="2")
    statuses: list[int] = []
    errors: list[str] = []

    def ask(name: str) -> None:
        reply = server.ask(
            "POST",
            "/api/generate",
            {"model": name, "prompt": "x", "stream": False, "options": {"num_predict": 2}},
        )
        statuses.append(reply.status)
        errors.extend([reply.json()["error"]] if reply.status == 503 else [])

    threads = [threading.Thread(target=ask, args=(name,)) for name in (MODEL, LLAMA) * 4]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    told = json.loads((DATA / "captures" / "evict_max1_queue2" / "q7.json").read_text())
    assert sorted(statuses) == [200] * 3 + [503] * 5
    assert set(errors) == {told["error"]}


def test_a_model_goes_when_its_time_is_over(start: Start) -> None:
    server = start()
    server.ask("POST", "/api/generate", {"model": MODEL, "keep_alive": "300ms"})
    assert loaded(server) == [f"{MODEL}:latest"]
    assert until(lambda: not loaded(server))


def loaded(server: Any) -> list[str]:
    return sorted(model["name"] for model in server.ask("GET", "/api/ps").json()["models"])


def until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
