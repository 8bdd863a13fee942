# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zip the stand-in into one executable file: ``python3 tests/standin_ollama/build.py FILE``."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTERPRETER = b"#!/usr/bin/python3\n"
MAIN = "import sys\nfrom standin_ollama.cli import main\nsys.exit(main())\n"


def build(executable: Path) -> None:
    """Write the executable."""
    executable.parent.mkdir(parents=True, exist_ok=True)
    with open(executable, "wb") as file:
        file.write(INTERPRETER)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__main__.py", MAIN)
            # Python's zip importer finds a package without __init__.py only by its folder entry.
            archive.writestr("standin_ollama/", b"")
            for source in sorted(HERE.glob("*.py")):
                if source != Path(__file__).resolve():
                    archive.write(source, f"standin_ollama/{source.name}")
    executable.chmod(0o755)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
