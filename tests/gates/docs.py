# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the documentation site into docs/_build/html: the pages of docs/ and a page for every plugin and role."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from _tree import BIN, ROOT

SITE = ROOT / "docs" / "_build"


def main() -> None:
    """Generate the reference with antsibull-docs, then render everything with Sphinx."""
    source = SITE / "source"
    shutil.rmtree(SITE, ignore_errors=True)
    (source / "guides").mkdir(parents=True)
    for page in sorted((ROOT / "docs").glob("*.md")):
        shutil.copy2(page, source / "guides")
    for picture in sorted((ROOT / "docs").glob("*.svg")) + sorted((ROOT / "docs").glob("*.png")):
        shutil.copy2(picture, source / "guides")
    reference = source / "collections"
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [BIN / "antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error",
         "--dest-dir", _made(reference), "gpufleet.ollama"],
        env=environment, check=True,
    )  # fmt: skip
    shutil.copy2(ROOT / "docs" / "conf.py", source / "conf.py")
    shutil.copy2(ROOT / "docs" / "index.rst", source / "index.rst")
    subprocess.run(
        [BIN / "sphinx-build", "--fail-on-warning", "--keep-going", "-q", "-b", "html", source, SITE / "html"],
        env=environment, check=True,
    )  # fmt: skip
    print(f"{SITE / 'html' / 'index.html'}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    return folder


if __name__ == "__main__":
    main()
