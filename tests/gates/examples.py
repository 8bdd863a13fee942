# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint the playbooks that the pages show, and run the examples that need no host."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml
from _tree import BIN, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
FENCE = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
OFFLINE = ROOT / "docs/examples/before_buying/inventory.yml"
PLAYBOOK_OFFLINE = ROOT / "playbooks/examples/plan_offline.yml"


def main() -> None:
    """Extract, check the syntax, lint, run."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-examples-") as name:
        folder = Path(name)
        playbooks = extract(folder)
        # ansible-lint checks the syntax of every playbook too.
        run(folder, "ansible-lint", "--offline", "--profile", "production", "--strict", "--nocolor",
            "--project-dir", folder, *playbooks)  # fmt: skip
        print(f"{len(playbooks)} playbooks and task files of the pages: no complaint")
        run(folder, "ansible-playbook", "-i", OFFLINE, ROOT / "playbooks/plan.yml",
            "-e", f"gpufleet_report_dir={folder / 'report'}")  # fmt: skip
        print(f"{OFFLINE.relative_to(ROOT)}: planned")
        run(folder, "ansible-playbook", PLAYBOOK_OFFLINE)
        print(f"{PLAYBOOK_OFFLINE.relative_to(ROOT)}: ran")


def extract(folder: Path) -> list[Path]:
    """Write every example that is a list of plays or of tasks to a file where ansible-lint knows it for one."""
    found = []
    for page in PAGES:
        for number, text in enumerate(FENCE.findall(page.read_text(encoding="utf-8")), 1):
            example = yaml.safe_load(text)
            if not isinstance(example, list):
                continue
            is_play = any("hosts" in item or "import_playbook" in " ".join(item) for item in example)
            stem = re.sub(r"[^a-z]+", "_", str(page.relative_to(ROOT).with_suffix("")).lower()).strip("_")
            path = folder / ("playbooks" if is_play else "tasks") / f"{stem}_{number}.yml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"---\n{text}", encoding="utf-8")
            found.append(path)
    return found


def run(folder: Path, program: str, *arguments: str | Path) -> None:
    """Run a program of the virtual environment; its failure ends the gate with what it printed."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                   "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build/collections")}  # fmt: skip
    done = subprocess.run(
        [BIN / program, *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{program} failed with status {done.returncode}:\n{done.stdout}")


if __name__ == "__main__":
    main()
