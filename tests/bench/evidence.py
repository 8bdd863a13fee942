# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns evidence of a load that was not as foretold into rows for tests/data/observed_loads.jsonl.

python tests/bench/evidence.py gpufleet-report/evidence/HOST.json >>tests/data/observed_loads.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def rows(text: str) -> list[str]:
    """The rows, one load each."""
    return [json.dumps(load, sort_keys=True, separators=(",", ":")) for load in json.loads(text)["loads"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="gpufleet-report/evidence/HOST.json")
    print("\n".join(rows(parser.parse_args().file.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
