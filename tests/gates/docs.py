# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the documentation site into docs/_build/html: the pages of docs/ and a page for every plugin and role."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

from _tree import BIN, ROOT, copy_checkout

SITE = ROOT / "docs" / "_build"
# Where the pages that antsibull-docs writes refer to Ansible's own documentation.
ANSIBLE_LABELS = {
    "action_plugins": "plugins/action.html",
    "ansible_collections.ansible.builtin.systemd_service_module": (
        "collections/ansible/builtin/systemd_service_module.html"
    ),
    "ansible_configuration_settings": "reference_appendices/config.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}


def main() -> None:
    """Generate the reference with antsibull-docs, then render everything with Sphinx."""
    shutil.rmtree(SITE, ignore_errors=True)
    # The whole checkout, so that the pages' links to files of the repository lead somewhere.
    source = copy_checkout(SITE)
    for name in ("conf.py", "index.rst"):
        shutil.move(source / "docs" / name, source / name)
    write_inventory(source / "ansible.inv", ANSIBLE_LABELS)
    reference = source / "collections"
    reference.mkdir(mode=0o755)
    run("antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error",
        "--dest-dir", reference, "gpufleet.ollama")  # fmt: skip
    run("sphinx-build", "--fail-on-warning", "--keep-going", "-q", "-b", "html", source, SITE / "html")
    print(f"{SITE / 'html' / 'index.html'}")


def write_inventory(path: Path, labels: dict[str, str]) -> None:
    """Write labels and pages as an inventory of Sphinx, so that no build has to fetch Ansible's own."""
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: \n# zlib\n"
    lines = "".join(f"{label} std:label -1 {page} -\n" for label, page in sorted(labels.items()))
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))


def run(program: str, *arguments: str | Path) -> None:
    """Run a program of the virtual environment; its failure ends the gate."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    if subprocess.run([BIN / program, *arguments], env=environment, check=False).returncode:
        raise SystemExit(f"{program} failed")


if __name__ == "__main__":
    main()
