# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own "buffer size" lines, recorded and made up."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._buffers import (
    Buffers,
    buffers_of,
)

START = 'level=INFO msg="starting llama-server" cmd="/usr/local/lib/ollama/llama-server --model X --port {} --host H"'
COMMAND = ["/usr/local/lib/ollama/llama-server", "--model", "X", "--port", "4711", "--host", "H"]
# As data/ollama_scheduler.jsonl has them of llama3.1:8b on one GPU.
LINES = [
    "load_tensors:   CPU_Mapped model buffer size =   281.81 MiB",
    "load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
    "llama_context:  CUDA_Host  output buffer size =     0.49 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =   112.01 MiB",
    "sched_reserve:  CUDA_Host compute buffer size =    20.01 MiB",
]


def mib(value: float) -> int:
    return round(value * MIB)


def test_what_lies_on_gpus_is_summed_by_kind():
    found = buffers_of([START.format(4711), *LINES], COMMAND)
    assert found == Buffers(mib(4403.49), mib(512), mib(112.01))
    assert found.to_dict()["total_bytes"] == found.total_bytes == mib(4403.49) + mib(512) + mib(112.01)


def test_lines_of_other_runners_and_of_an_earlier_start_do_not_count():
    lines = [
        START.format(4711),
        *LINES,
        START.format(99),
        *LINES,
        START.format(4711),
        *LINES,
        START.format(5),
        *LINES,
    ]
    assert buffers_of(lines, COMMAND) == buffers_of([START.format(4711), *LINES], COMMAND)


def test_two_caches_and_two_gpus_add_up_and_a_second_reservation_replaces_the_first():
    lines = [
        START.format(4711),
        "llama_kv_cache: CUDA0 KV buffer size = 10.00 MiB",
        "llama_kv_cache: CUDA0 KV buffer size = 5.00 MiB",
        "llama_kv_cache: CUDA1 KV buffer size = 1.00 MiB",
        "llama_memory_recurrent: CUDA1 RS buffer size = 2.00 MiB",
        "sched_reserve: CUDA0 compute buffer size = 90.00 MiB",
        "sched_reserve: CUDA0 compute buffer size = 70.00 MiB",
        "clip_ctx: CUDA0 compute buffer size = 3.00 MiB",
    ]
    assert buffers_of(lines, COMMAND) == Buffers(0, mib(18), mib(73))


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        ([], COMMAND),
        ([START.format(99), *LINES], COMMAND),
        (LINES, COMMAND),
        ([START.format(4711), *LINES], ["llama-server"]),
        ([START.format(4711), LINES[0]], COMMAND),
    ],
)
def test_without_lines_of_this_runner_nothing_is_known(lines, command):
    assert buffers_of(lines, command) is None


@pytest.mark.parametrize("piece", ["a", "a ", "a: ", " ", "a: b c", "buffer size = ", "9"])
def test_a_long_line_is_soon_read(piece):
    began = time.monotonic()
    assert buffers_of([START.format(4711), piece * (1_000_000 // len(piece))], COMMAND) is None
    assert time.monotonic() - began < 1


def test_a_size_of_too_many_digits_is_none():
    line = f"load_tensors: CUDA0 model buffer size = {'9' * 400}.00 MiB"
    assert buffers_of([START.format(4711), line], COMMAND) is None
