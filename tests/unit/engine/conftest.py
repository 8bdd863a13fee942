# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The simulated CUDA machine, built once, asked by a process of its own, because it reads its description once."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS
from ansible_collections.gpufleet.ollama.tests.unit.plugins.conftest import machine, simulated_nvml

__all__ = ["machine", "simulated_nvml"]

MIB = 1 << 20
# Every function by the library that the engine takes it from, and what the tests do again and again.
PRELUDE = """
import ctypes, json, os, sys
MIB = 1 << 20
runtime, driver, blas = (ctypes.CDLL(os.path.join(sys.argv[1], name)) for name in (
    "libcudart.so.13", "libcuda.so.1", "libcublas.so.13"))
driver.cuMemCreate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
driver.cuMemMap.argtypes = [ctypes.c_uint64, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint64]
driver.cuMemRelease.argtypes = [ctypes.c_uint64]
driver.cuMemUnmap.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
driver.cuMemAddressReserve.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

class Account(ctypes.Structure):
    _fields_ = [("total", ctypes.c_uint64), ("free", ctypes.c_uint64), ("held", ctypes.c_uint64 * 4),
                ("peak", ctypes.c_uint64), ("launches", ctypes.c_uint64), ("peer", ctypes.c_uint64), ("handles", ctypes.c_uint64)]

def account(device):
    one = Account()
    assert runtime.simulated_cuda_account(device, ctypes.byref(one)) == 0
    return {"total": one.total // MIB, "free": one.free // MIB, "peak": one.peak // MIB, "peer": one.peer, "handles": one.handles,
            "launches": one.launches, **dict(zip(("allocated", "mapped", "managed", "host"), (size // MIB for size in one.held)))}

def allocate(size_mib, call="cudaMalloc"):
    pointer = ctypes.c_void_p()
    code = getattr(runtime, call)(ctypes.byref(pointer), ctypes.c_size_t(size_mib * MIB), 0)
    return code, pointer

def free_memory():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value // MIB, total.value // MIB

def properties(device):
    room = ctypes.create_string_buffer(1008)
    assert runtime.cudaGetDeviceProperties(room, device) == 0
    number = lambda at, kind=ctypes.c_int: kind.from_buffer(room, at).value
    return {"name": room.value.decode(), "total": number(288, ctypes.c_size_t) // MIB, "capability": [number(360), number(364)],
            "multiprocessors": number(384), "shared": number(624, ctypes.c_size_t) >> 10,
            "optin": number(672, ctypes.c_size_t) >> 10}
"""


@pytest.fixture(scope="session")
def simulated_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of freshly built libraries."""
    folder = tmp_path_factory.mktemp("simulated_cuda")
    command = ["make", "-s", "-C", str(TESTS / "engine"), f"OUT={folder}"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def ask(simulated_cuda: Path) -> Callable[..., Any]:
    """`ask(expression, SIMULATED_CUDA=...)`: what the last line of a program is, on the machine that is described."""

    def answer(program: str, **description: str) -> Any:
        *before, last = program.strip().splitlines()
        text = "\n".join([PRELUDE, *before, f"print(json.dumps({last}))"])
        finished = subprocess.run(
            [sys.executable, "-c", text, str(simulated_cuda)],
            env={**os.environ, **description},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return answer


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`program(name)`: a module of tests/engine, which are scripts beside each other."""
    for folder in ("bench", "model_store", "engine"):
        monkeypatch.syspath_prepend(str(TESTS / folder))
    return importlib.import_module
