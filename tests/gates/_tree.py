# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the checkout at ansible_collections/gpufleet/ollama, for the tools that insist on that path."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"


def copy_checkout(collections: Path) -> Path:
    """Copy what git tracks or would track below `collections` and return the collection's folder there.

    A copy and not a link: ansible-test resolves links and then looks for `ansible_collections` in the result.
    """
    target = collections / "ansible_collections" / "gpufleet" / "ollama"
    if target.exists():
        shutil.rmtree(target)
    for name in files_of_checkout():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def files_of_checkout() -> list[str]:
    """What git tracks or would track and is there, relative to the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.decode()
    return [name for name in dict.fromkeys(listed.split("\0")) if name and (ROOT / name).is_file()]
