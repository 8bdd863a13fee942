# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the models that the collection ships: what planning must know of each, from the headers beside the tests.

    python tests/model_store/shipped.py      # writes roles/ollama_plan/files/models.jsonl

Numbers that the makers of the models have published, no weights and no tokens.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
HEADERS = REPOSITORY / "tests" / "data" / "headers"
SHIPPED = REPOSITORY / "roles" / "ollama_plan" / "files" / "models.jsonl"
# A file that nobody publishes: the same model converted anew.
NOT_PUBLISHED = ("deepseek-v2:16b-mla",)
TEXT_ONLY = "without its image encoder, which the published file holds too"


def rows() -> Iterator[dict[str, Any]]:
    """One row for each model, by name."""
    from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
    from published import published

    for path in sorted(HEADERS.glob("*.json")):
        header = json.loads(path.read_text(encoding="utf-8"))
        if header["name"] in NOT_PUBLISHED:
            continue
        own = published(header)
        # As the reader of files names the types of old converters.
        tensors = [[name, kind.split(" ")[0], shape] for name, kind, shape in own["tensors"]]
        shape = shape_from_header({**own, "tensors": tensors}, name=header["name"])
        yield {
            "name": header["name"],
            "source": header["source"],
            "note": TEXT_ONLY if header["notes"].startswith("text part only") else "",
            "shape": shape.to_dict(),
        }


def text() -> str:
    """The file, a line for each model."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows())


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY / "tests" / "bench"))
    importlib.import_module("_collection")
    SHIPPED.write_text(text(), encoding="utf-8")
    print(f"{SHIPPED}: {SHIPPED.stat().st_size} bytes")
