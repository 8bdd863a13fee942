# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a tag may be released: galaxy.yml and the changelog name its version, and no fragment is left untold.

python tests/gates/release.py [--notes] TAG

With --notes it prints what the changelog says of that version, as Markdown.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notes", action="store_true", help="print the notes of the release")
    parser.add_argument("tag")
    options = parser.parse_args()
    found = complaints(options.tag, ROOT)
    if found:
        sys.exit("; ".join(found))
    print(notes(options.tag, ROOT) if options.notes else f"{options.tag} may be released")


def complaints(tag: str, root: Path) -> list[str]:
    """What keeps the tag from being released, one sentence each."""
    version = read(root / "galaxy.yml")["version"]
    released = read(root / "changelogs" / "changelog.yaml")["releases"] or {}
    fragments = sorted(path.name for path in (root / "changelogs" / "fragments").glob("*.yml"))
    checks = (
        (tag == version, f"the tag is {tag}, and galaxy.yml has version {version}"),
        (tag in released, f"the changelog has no release {tag}: run antsibull-changelog release"),
        (not fragments, f"fragments are not told yet: {', '.join(fragments[:3])}"),
        (bool(notes(tag, root)), f"CHANGELOG.md has no section for {tag}"),
    )
    return [sentence for holds, sentence in checks if not holds]


def notes(tag: str, root: Path) -> str:
    """The section of a version in CHANGELOG.md, without its heading; empty where there is none."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.escape("v" + tag.replace(".", chr(92) + "."))
    match = re.search(rf"^## {heading}\n(.*?)(?=^## v|\Z)", text, re.MULTILINE | re.DOTALL)
    return match[1].strip() if match else ""


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
