# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints how long reading GGUF headers takes, and how much memory, beside the `gguf` package.

python tests/bench/gguf.py [--header tests/data/headers/gemma3_4b.json] [--tokens 262144] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".build" / "collections"), str(ROOT / "tests" / "model_store")]

# Each reading runs in a process of its own, so that one reader's memory and caches do not help the other.
# VmHWM is the peak of the process; what the imports took before is subtracted.
OURS = """
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header as read
"""
PACKAGE = """
import gguf
read = gguf.GGUFReader
"""
MEASURE = """
import json, sys, time
def peak_kib():
    return int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])
before = peak_kib()
started = time.perf_counter()
result = read(sys.argv[1])
print(json.dumps({'seconds': time.perf_counter() - started, 'mib': (peak_kib() - before) / 1024}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--header", type=Path, default=ROOT / "tests" / "data" / "headers" / "gemma3_4b.json")
    parser.add_argument("--tokens", type=int, default=262144)
    parser.add_argument("--runs", type=int, default=5, help="readings by ours; the package is measured once")
    arguments = parser.parse_args()

    from gguf_writer import write_gguf

    header = json.loads(arguments.header.read_text())
    print(f"{len(header['tensors'])} tensors, {arguments.tokens} tokens; peak: above what the imports take")
    print(f"{'vocabulary':34} {'reader':14} {'median ms':>10} {'peak MiB':>9} {'faster':>7}")
    worst = None
    for title, arrays in vocabularies(arguments.tokens).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(path, dict(header, metadata={**header["metadata"], **arrays}))
            ours = [measure(OURS, path) for _run in range(arguments.runs)]
            package = measure(PACKAGE, path)
        seconds = statistics.median(one["seconds"] for one in ours)
        mib = max(one["mib"] for one in ours)
        factor = package["seconds"] / seconds
        worst = factor if worst is None else min(worst, factor)
        print(f"{title:34} {'gpufleet':14} {seconds * 1000:10.1f} {mib:9.1f} {factor:6.0f}x")
        print(f"{'':34} {'gguf (PyPI)':14} {package['seconds'] * 1000:10.1f} {package['mib']:9.1f}")
    print(f"at least {worst:.0f} times faster")


def vocabularies(tokens: int) -> dict[str, dict[str, Any]]:
    """Metadata of vocabularies as sentencepiece and byte-pair models have them."""
    length = {"array_length": tokens}
    pieces = {
        "tokenizer.ggml.tokens": length,
        "tokenizer.ggml.scores": length,
        "tokenizer.ggml.token_type": length,
    }
    merges = {"tokenizer.ggml.merges": {"array_length": 2 * tokens}}
    return {"tokens, scores, types": pieces, "tokens, scores, types, 2x merges": {**pieces, **merges}}


def measure(reader: str, path: Path) -> dict[str, float]:
    program = f"import sys\nsys.path[:0] = {sys.path[:1]!r}\n{reader}\n{MEASURE}"
    answer = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(answer.stdout)
    return measured


if __name__ == "__main__":
    main()
