# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ollama's choice of GPUs, batch and command line for one load, in simple form.

Source: Ollama v0.33.0-rc2 server/sched.go and llm/llama_server.go, as recorded in
tests/data/ollama_scheduler.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .gpus import Gpu
from .memory import Sizes, share_of_layers

MIB = 1 << 20
FIT_MARGIN_BYTES = 1024 * MIB
ACCEPTED_SHARE = 0.8
CONTEXT_TIERS = ((47 << 30, 262144), (23 << 30, 32768), (0, 4096))
EMBEDDING_BATCH = 2048


@dataclass(frozen=True)
class Placement:
    """GPUs of a load and what it takes of each; ``size_vram`` leaves out what stays on the CPU."""

    gpus: tuple[Gpu, ...]
    split_mode_none: bool
    held_bytes: tuple[int, ...]
    size_bytes: int
    size_vram_bytes: int
    layers: int = 0
    layers_on_gpu: int = 0


def default_context(gpus: Sequence[Gpu], overhead_bytes: int) -> int:
    """The context length by the memory of all GPUs, where none is set."""
    total = sum(max(gpu.total_bytes - overhead_bytes, 0) for gpu in gpus)
    return next(context for minimum, context in CONTEXT_TIERS if total >= minimum)


def choose(gpus: Sequence[Gpu], predicted: int, spread: bool) -> tuple[Gpu, ...]:
    """The one GPU with the most free memory that takes the prediction, or all."""
    fitting = [gpu for gpu in gpus if predicted <= ACCEPTED_SHARE * gpu.free_bytes]
    if spread or not fitting or len(gpus) < 2:
        return tuple(gpus)
    return (max(fitting, key=lambda gpu: gpu.free_bytes),)


def accepted(gpus: Sequence[Gpu], predicted: int) -> bool:
    """Whether Ollama lets a further model in without evicting another."""
    return predicted <= ACCEPTED_SHARE * sum(gpu.free_bytes for gpu in gpus)


def batch(context_total: int, predicted: int, free_bytes: int) -> int:
    """The batch Ollama chooses where the request names none."""
    allowed = ACCEPTED_SHARE * free_bytes
    if context_total <= 4096:
        return 512
    if context_total > 32768 and predicted <= 0.6 * free_bytes and predicted + 2048 * MIB <= allowed:
        return 2048
    if predicted <= 0.75 * free_bytes and predicted + 768 * MIB <= allowed:
        return 1024
    return 512


def place(
    gpus: Sequence[Gpu],
    several_visible: bool,
    sizes: Sizes,
    layers: int,
    context_bytes: int,
    margin: int,
    spill: bool,
) -> Placement:
    """What lies where: everything on the GPUs, or as many layers as fit beside the margin."""
    if not gpus:
        return Placement((), False, (), sizes.total_bytes, 0)
    units = layers + 1
    free = [max(gpu.free_bytes - context_bytes, 0) for gpu in gpus]
    per_unit = (sizes.weights_bytes + sizes.kv_cache_bytes) // units
    wanted = share_of_layers(units, free)
    room = [max(space - margin - sizes.compute_bytes, 0) // max(per_unit, 1) for space in free]
    placed = [min(want, space) for want, space in zip(wanted, room)]
    if spill:
        placed = [count // 2 for count in placed]
    whole = sum(placed) == units
    used = [count * per_unit + sizes.compute_bytes for count in placed]
    if whole:
        used[-1] += sizes.weights_bytes + sizes.kv_cache_bytes - units * per_unit
    compute = sizes.compute_bytes * len(gpus)
    rest = 0 if whole else sizes.weights_bytes + sizes.kv_cache_bytes - sum(placed) * per_unit
    size_vram = sizes.weights_bytes + sizes.kv_cache_bytes - rest + compute
    return Placement(
        gpus=tuple(gpus),
        split_mode_none=several_visible and len(gpus) == 1,
        held_bytes=tuple(size + context_bytes for size in used),
        size_bytes=size_vram + rest,
        size_vram_bytes=size_vram,
        layers=units,
        layers_on_gpu=sum(placed),
    )


def buffer_lines(placed: Placement, sizes: Sizes, context_bytes: int) -> list[str]:
    """What the engine logs of its buffers on GPUs, which it numbers as it sees them, or on the CPU.

    Its other lines at that are as recorded in tests/data/captures and tests/data/ollama_scheduler.jsonl.
    """
    lines: list[str] = ["cmn  common_param: common_params_print_info: build 10488 (9d77fa172) with GNU 12.2.0 for Linux x86_64"]
    if placed.gpus:
        lines.append(f"load_tensors: offloaded {placed.layers_on_gpu}/{placed.layers} layers to GPU")
    lines.append("llama_context: constructing llama_context")
    if not placed.gpus:
        sizes_on_cpu = (
            ("load_tensors", "model", sizes.weights_bytes),
            ("llama_kv_cache", "KV", sizes.kv_cache_bytes),
            ("sched_reserve", "compute", sizes.compute_bytes),
        )
        lines += [f"{of}: {'CPU':>10} {kind} buffer size = {size / MIB:8.2f} MiB" for of, kind, size in sizes_on_cpu]
        return [*lines, "srv  llama_server: model loaded"]
    for position, held in enumerate(placed.held_bytes):
        rest = held - context_bytes - sizes.compute_bytes
        whole = sizes.weights_bytes + sizes.kv_cache_bytes
        weights = rest * sizes.weights_bytes // whole
        parts = (
            ("load_tensors", "model", weights),
            ("llama_kv_cache", "KV", rest - weights),
            ("sched_reserve", "compute", sizes.compute_bytes),
        )
        device = f"CUDA{position}"
        lines += [
            f"{of}: {device:>12} {kind} buffer size = {size / MIB:8.2f} MiB" for of, kind, size in parts
        ]
    return [*lines, "srv  llama_server: model loaded"]


def arguments(
    *, blob: str, port: int, context_total: int, parallel: int, batch_size: int, flash_attention: str,
    kv_cache_type: str = "", projector: str | None = None, adapter: str | None = None, embedding: bool = False,
    split_mode_none: bool = False, on_cpu: bool = False, layers_on_gpu: int = -1,
) -> list[str]:  # fmt: skip
    """The runner's command line."""
    line = ["/usr/local/lib/ollama/llama-server", "--model", blob, "--port", str(port), "--host", "127.0.0.1"]
    line += ["--no-webui", "--offline", "-c", str(context_total), "-np", str(parallel)]
    line += ["--log-verbosity", "4", "--no-log-prefix", "--no-log-timestamps"]
    if kv_cache_type:
        line += ["--cache-type-k", kv_cache_type, "--cache-type-v", kv_cache_type]
    if projector:
        line += ["--mmproj", projector]
    if adapter:
        line += ["--lora", adapter]
    if on_cpu:
        line += ["--load-mode", "none"]
    line += ["--flash-attn", flash_attention]
    if embedding:
        line += ["--embedding"]
    line += ["-b", str(batch_size), "-ub", str(batch_size)]
    if layers_on_gpu >= 0:
        line += ["-ngl", str(layers_on_gpu)]
    if split_mode_none:
        line += ["--split-mode", "none", "--main-gpu", "0"]
    return [*line, "--context-shift", "--keep", "4"]
