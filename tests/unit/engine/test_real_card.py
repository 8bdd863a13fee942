# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real card is asked, asked of a simulated one: context, pools, throughput, NVML's view; and what a machine lacks."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

MIB = 1 << 20
CONTEXT_MIB, WEIGHTS_MIB, POOL_MIB = 400, 1000, 14
BUFFERS_MIB = 300

Program = Callable[[str], ModuleType]

# A probe that holds memory of the simulated card as the real one does, and tells it as it is told by a real card.
PROBE = """#!{python}
import ctypes, json, sys, time
MIB = 1 << 20
cuda = ctypes.CDLL("libcudart.so.13")
def take(mib):
    pointer = ctypes.c_void_p()
    assert cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(mib * MIB)) == 0
    return pointer
def devices():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return [dict(free=free.value, total=total.value)]
def tell(**line): print(json.dumps(line), flush=True)
take({weights})
tell(loaded=True, seconds=1.5, log="load_tensors:        CUDA0 model buffer size =  {weights}.00 MiB")
held = []
for line in sys.stdin:
    context, parallel, ubatch, kv, flash, embedding, fill, steps = line.split()
    if held:
        for block in held: cuda.cudaFree(block)
        tell(ended=devices(), log="")
    {slow}
    held = [take({buffers})]
    made = devices()
    held.append(take({pool}))
    log = "llama_kv_cache:      CUDA0 KV buffer size =   200.00 MiB"
    log += "\\\\nsched_reserve:      CUDA0 compute buffer size =   100.00 MiB"
    tell(started=True, context=made, fill=devices(), steps=devices(), fill_seconds=2.0, step_seconds=4.0, code=0, log=log)
"""


@pytest.fixture
def real_card(program: Program) -> ModuleType:
    return program("real_card")


@pytest.fixture
def surroundings(machine: Callable[[Any], dict[str, str]], simulated_cuda: Path) -> dict[str, str]:
    """A machine of one card with CUDA and NVML, both simulated, that know of each other."""
    described = machine("rtx3060_12gb")
    return {
        **described,
        "LD_LIBRARY_PATH": f"{simulated_cuda}:{described['LD_LIBRARY_PATH']}",
        "SIMULATED_CUDA": "12288/12000",
        "SIMULATED_CUDA_CONTEXT_MIB": str(CONTEXT_MIB),
    }


@pytest.fixture
def carried(tmp_path: Path) -> Callable[..., Path]:
    """A folder as `pack` leaves it, with another probe."""

    def folder(slow: str = "") -> Path:
        text = PROBE.format(
            python=sys.executable, weights=WEIGHTS_MIB, buffers=BUFFERS_MIB, pool=POOL_MIB, slow=slow or "pass"
        )
        (tmp_path / "probe.xz").write_bytes(lzma.compress(text.encode()))
        (tmp_path / "about.json").write_text(json.dumps({"engine": "v0.5.0"}))
        return tmp_path

    return folder


def ask(
    surroundings: dict[str, str], carried: Path, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    into = carried / "real_card.json"
    finished = subprocess.run(
        [sys.executable, str(TESTS / "engine" / "real_card.py"), "run", "--carried", str(carried), "--into", str(into), *options],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return finished, json.loads(into.read_text()) if into.exists() else {}


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models of some bytes in place of gigabytes: the program reads its headers where the variable says."""
    folder = tmp_path / "headers"
    folder.mkdir()
    header = {"metadata": {"general.architecture": "llama"}, "tensors": [["token_embd.weight", "Q8_0", [32, 64]]]}
    for name in ("llama3.2_1b", "qwen3_0.6b"):
        (folder / f"{name}.json").write_text(json.dumps(header))


def test_a_card_tells_of_its_context_its_pools_and_its_throughput(
    surroundings: dict[str, str], carried: Callable[..., Path], small_models: None, tmp_path: Path
) -> None:
    finished, found = ask(surroundings, carried(), "--headers", str(tmp_path / "headers"))
    assert finished.returncode == 0, finished.stderr
    assert found["about"] == {"engine": "v0.5.0"}
    assert found["card"]["name"] == "NVIDIA GeForce RTX 3060"
    assert [one["model"] for one in found["models"]] == ["llama3.2:1b", "qwen3:0.6b"]
    model = found["models"][0]
    assert (model["weights_mib"], model["cuda_context_mib"], model["skipped"]) == (WEIGHTS_MIB, CONTEXT_MIB, [])
    assert model["loaded"] == dict.fromkeys(
        ("free_mib", "used_mib", "process_mib"), CONTEXT_MIB + WEIGHTS_MIB
    )
    assert [(one["context"], one["flash_attention"]) for one in model["pools"]] == [
        (4096, "auto"), (4096, "off"), (16384, "auto"), (16384, "off"),
    ]  # fmt: skip
    for pool in model["pools"]:
        assert (pool["buffers_mib"], pool["pool_mib"], pool["code"]) == (BUFFERS_MIB, POOL_MIB, 0)
        assert pool["with_context"]["process_mib"] == CONTEXT_MIB + WEIGHTS_MIB + BUFFERS_MIB + POOL_MIB
    assert [one["parallel"] for one in model["throughput"]] == [1, 2, 3, 4, 6, 8]
    assert model["throughput"][2] == {
        "parallel": 3,
        "prompt_tokens_per_second": 3 * 512 / 2.0,
        "tokens_per_second": 3 * 128 / 4.0,
    }
    assert model["after_end"] == {"free_mib": 0, "used_mib": 0, "process_mib": None}


def test_what_there_is_no_time_for_is_named_and_the_rest_is_written(
    surroundings: dict[str, str], carried: Callable[..., Path], small_models: None, tmp_path: Path
) -> None:
    slow = "time.sleep(60 if (flash, context) == ('off', '16384') else 0)"
    finished, found = ask(surroundings, carried(slow), "--headers", str(tmp_path / "headers"), "--seconds", "15")
    assert finished.returncode == 0, finished.stderr
    model = found["models"][0]
    assert model["skipped"] == ["what follows, for want of time"]
    assert "throughput" not in model
    assert [one["model"] for one in found["models"]] == ["llama3.2:1b", "qwen3:0.6b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"LD_LIBRARY_PATH": ""}, "no NVIDIA driver here: libcuda.so.1 cannot be loaded"),
        ({"SIMULATED_CUDA_DRIVER": "12080"}, "the driver is for CUDA 12.08, needed is one for CUDA 13: 580 or newer"),
    ],
)
def test_a_machine_that_lacks_something_says_what_and_runs_nothing(
    surroundings: dict[str, str], carried: Callable[..., Path], change: dict[str, str], said: str
) -> None:
    finished, found = ask({**surroundings, **change}, carried())
    assert (finished.returncode, found) == (1, {})
    assert finished.stderr.startswith(said)


def test_a_library_that_is_nowhere_is_named(real_card: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_card, "LIBRARY_FOLDERS", ())
    with pytest.raises(real_card.Missing, match=r"libacorn\.so\.13 is not here: install the toolkit of CUDA 13"):
        real_card.folder_of("libacorn.so.13")


def test_a_library_is_found_where_toolkits_put_it(
    real_card: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cuda-13.1").mkdir()
    (tmp_path / "cuda-13.1" / "libacorn.so.13").touch()
    monkeypatch.setattr(real_card, "LIBRARY_FOLDERS", (f"{tmp_path}/cuda-13*",))
    assert real_card.folder_of("libacorn.so.13") == str(tmp_path / "cuda-13.1")


def test_nothing_carried_is_said_with_what_to_do(real_card: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(real_card.Missing, match=r"run `real_card\.py pack` where npm is"):
        real_card.unpack(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["llama3.2:1b", "qwen3:0.6b"])
def test_random_weights_are_made_for_every_type_of_the_models(
    real_card: ModuleType, program: Program, name: str
) -> None:
    header = json.loads(program("probe").header_path(name).read_text())
    assert {kind for _unused, kind, _unused in header["tensors"]} <= set(real_card.BLOCKS)


def test_a_model_is_written_to_its_size_and_the_same_again(real_card: ModuleType, tmp_path: Path) -> None:
    header = {
        "metadata": {"general.architecture": "llama"},
        "tensors": [
            ["a.weight", "Q8_0", [32, 5000]], ["b.weight", "F32", [7]], ["c.weight", "Q4_K", [256, 3]],
            ["d.weight", "Q6_K", [256, 3]], ["e.weight", "F16", [3]],
        ],
    }  # fmt: skip
    from_gguf = real_card.header_bytes(header)
    sizes = [34 * 5000, 28, 144 * 3, 210 * 3, 6]
    real_card.write_model(header, tmp_path / "one")
    real_card.write_model(header, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size == len(from_gguf) + sum(-(-size // 32) * 32 for size in sizes)


def test_all_that_a_card_needs_is_small_enough_to_carry(
    real_card: ModuleType, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = program("package")
    source = tmp_path / "engine"
    source.mkdir()
    for name in ("libllama.x.so", "libggml.x.so", "libggml-base.so", "libggml-cpu-haswell.so", "libggml-cpu-zen4.so"):
        (source / name).write_bytes(name.encode())
    (source / "libggml-cuda.so").write_bytes(os.urandom(1000))
    (source / "probe").write_bytes(b"probe")
    engine = package.Engine("3.22.1", "v0.5.0", source, source / "probe")
    monkeypatch.setattr(package, "engine", lambda version: engine)
    monkeypatch.setattr(real_card.fatbin, "stripped", lambda data, architecture: b"%d" % architecture)
    real_card.pack("", "8.6", tmp_path / "carried")
    folder = tmp_path / "unpacked"
    folder.mkdir()
    real_card.unpack(tmp_path / "carried", folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "libggml-base.so", "libggml-cpu-haswell.so", "libggml-cuda.so", "libggml.x.so", "libllama.x.so", "probe",
    ]  # fmt: skip
    assert (folder / "libggml-cuda.so").read_bytes() == b"86"
    monkeypatch.setattr(real_card, "MOST_CARRIED_BYTES", 100)
    with pytest.raises(real_card.Missing, match="which is what may be carried"):
        real_card.pack("", "8.6", tmp_path / "carried")
