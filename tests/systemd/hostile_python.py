# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile host puts in the place of its Python: it runs the module, and answers with more than the module did.

/etc/hostile.json says what: `facts`, which are added to every answer, and `text`, which is put behind every text
under a name of `planted`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WANTED = json.loads(Path("/etc/hostile.json").read_text(encoding="utf-8"))


def planted(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: planted(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [planted(item, name) for item in value]
    return value + WANTED["text"] if isinstance(value, str) and name in WANTED["planted"] else value


def main() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", *sys.argv[1:]], stdin=sys.stdin, stdout=subprocess.PIPE, check=False
    )
    try:
        answer = planted(json.loads(done.stdout))
        answer.setdefault("ansible_facts", {}).update(WANTED["facts"])
        answer.update(WANTED["keys"])
        said = json.dumps(answer).encode()
    except (ValueError, AttributeError):  # it was no module
        said = done.stdout
    sys.stdout.buffer.write(said)
    sys.exit(done.returncode)


main()
