# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The buffers that a runner says it has allocated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import buffer_line

_START = 'msg="starting llama-server"'
_ON_GPU = re.compile(r"(?:CUDA|ROCm|Vulkan)[0-9]+\Z")
_KINDS = {"model": "weights", "KV": "kv_cache", "RS": "kv_cache", "compute": "compute"}


@dataclass(frozen=True)
class Buffers:
    """What a runner logged that it allocated on GPUs, all of them together. Sizes in bytes."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes

    def to_dict(self) -> dict[str, int]:
        return {**asdict(self), "total_bytes": self.total_bytes}


def buffers_of(messages: Iterable[str], command: Sequence[str]) -> Buffers | None:
    """The buffers of the runner with this command line; None where the messages do not tell them.

    Of compute buffers the last line counts, because the engine reserves them again; the others add up.
    """
    port = _option(command, "--port")
    sizes: dict[tuple[str, str, str], float] = {}
    is_ours = False
    for message in messages:
        if _START in message:
            is_ours = bool(port) and f"--port {port} " in message
            sizes = {} if is_ours else sizes
            continue
        if not is_ours:
            continue
        found = buffer_line(message)
        if found and _ON_GPU.match(found[1]) and found[2] in _KINDS:
            origin, device, name, size = found
            key = (_KINDS[name], origin, device)
            former = 0.0 if name == "compute" else sizes.get(key, 0.0)
            sizes[key] = former + size
    if not sizes:
        return None
    totals = {
        name: sum(size for (kind, *_rest), size in sizes.items() if kind == name) for name in _KINDS.values()
    }
    return Buffers(**{f"{name}_bytes": round(total * MIB) for name, total in totals.items()})


def _option(command: Sequence[str], name: str) -> str:
    return next((value for option, value in zip(command, command[1:]) if option == name), "")
