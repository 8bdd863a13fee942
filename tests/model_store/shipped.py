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

LITGPT = "litgpt 0.5.13 (PyPI wheel) litgpt/config.py entry {!r}"
# Whose headers are not beside the tests: by their numbers, in the quantization that Ollama's library gives for the name. Of the
# models of one architecture the numbers are: blocks, embedding, feed forward, heads, KV heads, context, vocabulary, and others.
BY_NUMBERS = (
    ("llama3.3:70b", "Llama-3.3-70B-Instruct", "llama", (80, 8192, 28672, 64, 8, 131072, 128256), {}),
    ("llama3.1:70b", "Llama-3.1-70B-Instruct", "llama", (80, 8192, 28672, 64, 8, 131072, 128256), {}),
    ("deepseek-r1:70b", "R1-Distill-Llama-70B", "llama", (80, 8192, 28672, 64, 8, 131072, 128256), {}),
    ("mixtral:8x22b", "Mixtral-8x22B-Instruct-v0.1", "llama", (56, 6144, 16384, 48, 8, 65536, 32768),
     {"expert_count": 8, "expert_used_count": 2, "quantization": "Q4_0"}),
    ("qwen2.5:3b", "Qwen2.5-3B-Instruct", "qwen2", (36, 2048, 11008, 16, 2, 32768, 151936), {"tied_output": True}),
    ("qwen2.5:72b", "Qwen2.5-72B-Instruct", "qwen2", (80, 8192, 29568, 64, 8, 32768, 152064), {}),
    ("qwen2.5-coder:7b", "Qwen2.5-Coder-7B-Instruct", "qwen2", (28, 3584, 18944, 28, 4, 32768, 152064), {}),
    ("qwen2.5-coder:14b", "Qwen2.5-Coder-14B-Instruct", "qwen2", (48, 5120, 13824, 40, 8, 32768, 152064), {}),
    ("qwen2.5-coder:32b", "Qwen2.5-Coder-32B-Instruct", "qwen2", (64, 5120, 27648, 40, 8, 32768, 152064), {}),
    ("qwen3:1.7b", "Qwen3-1.7B", "qwen3", (28, 2048, 6144, 16, 8, 40960, 151936),
     {"key_length": 128, "value_length": 128, "tied_output": True}),
    ("qwen3:32b", "Qwen3-32B", "qwen3", (64, 5120, 25600, 64, 8, 40960, 151936), {"key_length": 128, "value_length": 128}),
    ("qwen3:30b-a3b", "Qwen3-30B-A3B", "qwen3moe", (48, 2048, 6144, 32, 4, 40960, 151936),
     {"key_length": 128, "value_length": 128, "expert_count": 128, "expert_used_count": 8, "expert_feed_forward_length": 768}),
    ("gemma2:2b", "Gemma-2-2b-it", "gemma2", (26, 2304, 9216, 8, 4, 8192, 256000),
     {"key_length": 256, "value_length": 256, "sliding_window": 4096, "tied_output": True, "quantization": "Q4_0"}),
)  # fmt: skip
OVERRIDDEN = {"qwen2.5:72b": "; overridden here: {'block_size': 32768}"}
ORDER = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "head_count",
    "head_count_kv",
    "context_length",
    "vocabulary_size",
)


def rows() -> Iterator[dict[str, Any]]:
    """One row for each model: those with a header, then those by their numbers."""
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
    for name, entry, architecture, numbers, others in BY_NUMBERS:
        yield {
            "name": name,
            "source": LITGPT.format(entry) + OVERRIDDEN.get(name, ""),
            "note": "",
            "numbers": {"architecture": architecture, **dict(zip(ORDER, numbers)), **others},
        }


def text() -> str:
    """The file, a line for each model."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows())


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY / "tests" / "bench"))
    importlib.import_module("_collection")
    SHIPPED.write_text(text(), encoding="utf-8")
    print(f"{SHIPPED}: {SHIPPED.stat().st_size} bytes")
