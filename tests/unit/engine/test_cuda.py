# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The simulated CUDA machine: an account for each device, memory that runs out, and names as libggml-cuda.so asks for them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., Any]

OUT_OF_MEMORY = 2


def test_each_device_has_an_account_of_its_own(ask: Ask) -> None:
    first, second = ask(
        """
allocate(100), runtime.cudaSetDevice(1), allocate(30)
[account(0), account(1)]
""",
        SIMULATED_CUDA="24576,12288/12000",
    )
    assert (first["total"], first["free"], first["allocated"]) == (24576, 24576, 100)
    assert (second["total"], second["free"], second["allocated"]) == (12288, 12000, 30)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("cudaMalloc", "allocated"),
        ("cudaMallocManaged", "managed"),
        ("cudaMallocHost", "host"),
        ("cudaHostAlloc", "host"),
    ],
)
def test_memory_is_counted_where_it_lies(ask: Ask, call: str, place: str) -> None:
    found = ask(f"allocate(7, {call!r})\naccount(0)", SIMULATED_CUDA="1000")
    assert {name: found[name] for name in ("allocated", "managed", "host", "mapped")} == {
        **dict.fromkeys(("allocated", "managed", "host", "mapped"), 0),
        place: 7,
    }


def test_memory_runs_out_at_what_is_free_and_comes_back(ask: Ask) -> None:
    found = ask(
        """
code, first = allocate(600)
too_much, _ = allocate(301)
just_right, _ = allocate(300)
left = free_memory()
runtime.cudaFree(first)
[code, too_much, just_right, left, free_memory(), allocate(601)[0], runtime.cudaGetLastError(), runtime.cudaGetLastError()]
""",
        SIMULATED_CUDA="1000/900",
    )
    assert found == [0, OUT_OF_MEMORY, 0, [0, 1000], [600, 1000], OUT_OF_MEMORY, OUT_OF_MEMORY, 0]


def test_a_machine_without_limits_gives_what_is_asked_for_and_still_counts(ask: Ask) -> None:
    code, found, free = ask(
        "code, _ = allocate(5000)\n[code, account(0), free_memory()]",
        SIMULATED_CUDA="1000",
        SIMULATED_CUDA_UNLIMITED="1",
    )
    assert (code, found["allocated"], free) == (0, 5000, [0, 1000])


def test_memory_of_the_host_is_no_memory_of_the_device(ask: Ask) -> None:
    assert ask("allocate(5000, 'cudaMallocHost')\nfree_memory()", SIMULATED_CUDA="1000") == [1000, 1000]


def test_virtual_memory_is_held_until_it_is_unmapped_not_until_its_handle_is_released(ask: Ask) -> None:
    found = ask(
        """
def properties_of(device): return (ctypes.c_int * 8)(1, 0, 1, device)
start, handle = ctypes.c_uint64(), ctypes.c_uint64()
driver.cuMemAddressReserve(ctypes.byref(start), 64 * MIB)
code = driver.cuMemCreate(ctypes.byref(handle), 20 * MIB, properties_of(1))
driver.cuMemMap(start, 20 * MIB, 0, handle)
driver.cuMemRelease(handle)
held = account(1)["mapped"]
driver.cuMemUnmap(start, 64 * MIB)
too_much = driver.cuMemCreate(ctypes.byref(handle), 101 * MIB, properties_of(1))
[code, held, account(1)["mapped"], account(0)["mapped"], too_much]
""",
        SIMULATED_CUDA="100,100",
    )
    assert found == [0, 20, 0, 0, OUT_OF_MEMORY]


def test_the_most_that_was_held_is_counted_from_a_reset_on(ask: Ask) -> None:
    found = ask(
        """
_, block = allocate(50)
runtime.cudaFree(block)
before = account(0)["peak"]
allocate(10)
runtime.simulated_cuda_reset_peaks()
_, block = allocate(20)
runtime.cudaFree(block)
[before, account(0)["peak"], account(0)["allocated"]]
""",
        SIMULATED_CUDA="100",
    )
    assert found == [50, 30, 10]


@pytest.mark.parametrize(
    ("device", "capability", "multiprocessors", "shared_kib", "most_of_a_block_kib"),
    [
        ("8192@6.1x20", [6, 1], 20, 96, 48),
        ("8192@7.5", [7, 5], 82, 64, 64),
        ("8192@8.0", [8, 0], 82, 164, 163),
        ("8192", [8, 6], 82, 100, 99),
        ("8192@8.9x128", [8, 9], 128, 100, 99),
        ("8192@9.0x132", [9, 0], 132, 228, 227),
        ("8192@12.0", [12, 0], 82, 100, 99),
    ],
)
def test_a_device_is_of_the_compute_capability_described(
    ask: Ask, device: str, capability: list[int], multiprocessors: int, shared_kib: int, most_of_a_block_kib: int
) -> None:
    found = ask("properties(0)", SIMULATED_CUDA=device)
    assert found == {
        "name": f"Simulated CUDA {capability[0]}.{capability[1]}",
        "total": 8192,
        "capability": capability,
        "multiprocessors": multiprocessors,
        "shared": shared_kib,
        "optin": most_of_a_block_kib,
    }


def test_a_machine_without_devices_says_so(ask: Ask) -> None:
    program = "count = ctypes.c_int(7)\n[runtime.cudaGetDeviceCount(ctypes.byref(count)), count.value, runtime.cudaSetDevice(0)]"
    assert ask(program, SIMULATED_CUDA="none") == [100, 0, 101]


def test_what_the_host_reads_back_is_zero_and_what_it_sends_changes_nothing(ask: Ask) -> None:
    program = """
_, on_device = allocate(1)
text = ctypes.create_string_buffer(b"unread")
runtime.cudaMemcpyAsync(on_device, text, 6, 1)
runtime.cudaMemcpyAsync(text, on_device, 3, 2)
[text.raw[:6].decode()]
"""
    assert ask(program, SIMULATED_CUDA="100") == ["\0\0\0ead"]


def test_copies_between_devices_kernels_and_handles_of_cublas_are_counted(ask: Ask) -> None:
    program = """
handle = ctypes.c_void_p()
runtime.cudaMemcpyPeerAsync(None, 1, None, 0, ctypes.c_size_t(4096))
runtime.cudaSetDevice(1), runtime.__getattr__("__cudaLaunchKernel")()
blas.cublasCreate_v2(ctypes.byref(handle)), blas.cublasSgemm_v2()
[account(0)["peer"], account(1)["peer"], account(1)["launches"], account(1)["handles"]]
"""
    assert ask(program, SIMULATED_CUDA="100,100") == [0, 4096, 2, 1]


def test_a_context_takes_memory_and_the_simulated_nvml_hears_of_all_of_it(ask: Ask, tmp_path: Path) -> None:
    program = """
allocate(100)
[free_memory(), open(os.path.join(os.environ["SIMULATED_NVML_PROCESSES"], str(os.getpid()))).read()]
"""
    free, announced = ask(
        program,
        SIMULATED_CUDA="1000,1000",
        SIMULATED_CUDA_CONTEXT_MIB="400",
        SIMULATED_NVML_PROCESSES=str(tmp_path),
    )
    assert (free, announced) == ([500, 1000], f"0 {500 << 20}\n")


@pytest.mark.parametrize("has_virtual_memory", ["0", "1"])
def test_a_card_may_lack_virtual_memory(ask: Ask, has_virtual_memory: str) -> None:
    program = "value = ctypes.c_int()\n[driver.cuDeviceGetAttribute(ctypes.byref(value), 102, 0), value.value]"
    assert ask(program, SIMULATED_CUDA_VMM=has_virtual_memory) == [0, int(has_virtual_memory)]


def test_the_library_has_the_names_and_versions_that_the_engine_asks_for(simulated_cuda: Path) -> None:
    listed = subprocess.run(
        ["nm", "--dynamic", "--defined-only", str(simulated_cuda / "libcudart.so.13")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    versions = {
        (name, version) for name, version in re.findall(r" [TDB] (\w+)@@([\w.]+)", listed) if version != "SIMULATED"
    }
    assert ("cudaMalloc", "libcudart.so.13") in versions
    assert ("__cudaRegisterFatBinary", "libcudart.so.13") in versions
    assert ("cublasCreate_v2", "libcublas.so.13") in versions
    assert ("cuMemCreate", "libcuda.so.1") in versions
    assert {version for _unused, version in versions} == {"libcudart.so.13", "libcublas.so.13", "libcuda.so.1"}


def test_the_three_libraries_are_one_so_that_they_share_an_account(simulated_cuda: Path) -> None:
    names = ("libcudart.so.13", "libcublas.so.13", "libcuda.so.1")
    assert len({os.stat(simulated_cuda / name).st_ino for name in names}) == 1
