# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a contributor asks every few minutes: lint, types, and the unit tests of what was changed, within a minute.

python tests/gates/check.py [--since REVISION]

Changed is what differs from where the branch left main, or from the revision. Before a change lands `make test` must pass.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from _tree import BIN, ROOT

UNIT = "tests/unit"
# Whatever is changed: who may import whom, and how files are called.
ALWAYS = (f"{UNIT}/plugins/module_utils/test_walls.py", f"{UNIT}/plugins/module_utils/test_names.py")
# Tests of a folder as a whole, where a file has none of its own.
OF_FOLDERS = {
    "roles": f"{UNIT}/roles",
    "playbooks": f"{UNIT}/roles",
    "docs": f"{UNIT}/docs",
    "README.md": f"{UNIT}/docs",
}
LINTED = ("playbooks/", "roles/", "molecule/", "docs/examples/")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--since", metavar="REVISION", help="by default where the branch left main")
    started = time.monotonic()
    files = changed(parser.parse_args().since)
    tests = tests_of(files)
    yaml = [name for name in files if name.endswith((".yml", ".yaml"))]
    jobs = [
        [["ruff", "check", "."], ["yamllint", "--strict", *yaml] if yaml else []],
        [["mypy", "--package", "ansible_collections.gpufleet.ollama.plugins"]],
        [["pytest", "-q", "-x", "--no-header", *tests]],
        [
            ["ansible-lint", "--offline", "--profile", "production", "--strict", *linted(yaml)]
            if linted(yaml)
            else []
        ],
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = [line for lines in pool.map(run_all, jobs) for line in lines]
    print(f"{len(files)} files changed, {len(tests)} files of tests, {time.monotonic() - started:.0f} s")
    if outcomes:
        sys.exit("\n".join(outcomes))


def changed(since: str | None) -> list[str]:
    """The files that differ, and are there."""
    base = since or next(
        (
            found
            for name in ("origin/main", "main")
            if (found := git("merge-base", "HEAD", name, check=False))
        ),
        "HEAD",
    )
    names = [
        *git("diff", "--name-only", base).split("\n"),
        *git("ls-files", "--others", "--exclude-standard").split("\n"),
    ]
    return sorted({name for name in names if name and (ROOT / name).is_file()})


def git(*arguments: str, check: bool = True) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=check, capture_output=True, text=True
    ).stdout.strip()


def tests_of(files: Sequence[str]) -> list[str]:
    """The tests that mirror what was changed, tests that were changed themselves, and those that always run."""
    found = set(ALWAYS)
    for name in files:
        path = PurePosixPath(name)
        mirror = f"{UNIT}/{path.parent}/test_{path.name}"
        if name.startswith(UNIT) and path.name.startswith("test_"):
            found.add(name)
        elif path.suffix == ".py" and (ROOT / mirror).is_file():
            found.add(mirror)
        elif path.parts[0] in OF_FOLDERS:
            found.add(OF_FOLDERS[path.parts[0]])
    folders = {name for name in found if not name.endswith(".py")}
    return sorted(
        folders | {name for name in found if not any(name.startswith(f"{folder}/") for folder in folders)}
    )


def linted(yaml: Sequence[str]) -> list[str]:
    """What ansible-lint looks at."""
    return [name for name in yaml if name.startswith(LINTED)]


def run_all(commands: Sequence[Sequence[str]]) -> list[str]:
    """What failed of these programs, with what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MYPYPATH": str(ROOT / ".build" / "collections"),
    }
    failed = []
    for command in filter(None, commands):
        done = subprocess.run(
            [Path(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed.append(f"==> {' '.join(command)[:100]}\n{done.stdout}{done.stderr}")
    return failed


if __name__ == "__main__":
    main()
