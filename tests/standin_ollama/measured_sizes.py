# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn bytes measured in the real engine into the stand-in's ``sizes``.

``python3 tests/standin_ollama/measured_sizes.py tests/data/engine_memory.csv llama3.1:8b`` prints them.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MIB = 1 << 20


def read(path: Path, models: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these models on one GPU with flash attention as the engine chooses it."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {
                "model": row["model"],
                "context_total": int(row["ctx"]) * int(row["parallel"]),
                "parallel": int(row["parallel"]),
                "batch": int(row["ubatch"]),
                "kv_cache_type": row["kv_type"],
                "weights_bytes": _bytes(row["model_mib"]),
                "kv_cache_bytes": _bytes(row["kv_mib"]),
                "compute_bytes": _bytes(row["compute_mib"]),
            }
            for row in csv.DictReader(file)
            if row["model"] in models and (row["backend"], row["fa"], row["status"]) == ("cuda", "auto", "ok")
        ]


def _bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * MIB)


if __name__ == "__main__":
    print(json.dumps(read(Path(sys.argv[1]), sys.argv[2:]), indent=1))
