# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection, look into the artifact, let galaxy-importer judge it, install it and check its playbooks.

python tests/gates/artifact.py [--install FOLDER]

With --install it only builds and installs, for those who want to work with what users get and not with the checkout.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from _tree import BIN, copy_checkout, files_of_checkout

# What of the repository is for those who work on it.
NEVER_SHIPPED = (
    "tests/",
    "molecule/",
    "requirements/",
    "docs/conf.py",
    "docs/index.rst",
    "Makefile",
    "REUSE.toml",
    "ansible.cfg",
    "galaxy.yml",
    "pyproject.toml",
)
MADE_BY_THE_BUILD = {"MANIFEST.json", "FILES.json"}
# What targets, tests and runs leave in a checkout, and what git ignores.
DIRT = (
    "docs/_build/html/index.html",
    "docs/_build/ansible_collections/gpufleet/ollama/README.md",
    "htmlcov/index.html",
    "gpufleet-report/report.html",
    "docs/examples/fleet/gpufleet-report/report.json",
    "tests/output/sanity.txt",
    "site.retry",
    "plugins/module_utils/__pycache__/_sizes.cpython-313.pyc",
    ".venv/bin/python",
    ".build/atheris/installed",
    ".coverage",
    "gpufleet-ollama-0.0.1.tar.gz",
    ".hypothesis/examples",
    ".cache/x",
    ".ansible/tmp",
    "changelogs/.plugin-cache.yaml",
)
ALWAYS_SHIPPED = ("plugins/modules/", "plugins/module_utils/", "roles/", "playbooks/site.yml", "meta/runtime.yml", "README.md")
# ansible-test and ansible-lint are gates of their own here.
IMPORTER_SETTINGS = "[galaxy-importer]\nRUN_ANSIBLE_TEST=False\nRUN_ANSIBLE_LINT=False\nCHECK_REQUIRED_TAGS=True\n"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program of the virtual environment and return what it printed; its failure ends the gate."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=cwd,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def look_into(artifact: Path) -> int:
    """The number of files shipped; ends the gate where they are not those of the repository that are meant to travel."""
    with tarfile.open(artifact) as archive:
        names = {member.name for member in archive.getmembers() if not member.isdir()}
    meant = {name for name in files_of_checkout() if not name.startswith(NEVER_SHIPPED) and not is_hidden(name)}
    meant |= MADE_BY_THE_BUILD
    missing = [prefix for prefix in ALWAYS_SHIPPED if not any(name.startswith(prefix) for name in names)]
    if names != meant or missing:
        wrong, missing = sorted(names - meant), sorted(meant - names) + missing
        raise SystemExit(f"the artifact ships {wrong[:5]} and lacks {missing[:5]}: see build_ignore in galaxy.yml")
    return len(names)


def is_hidden(name: str) -> bool:
    """Whether a file or a folder on its path begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def build(folder: Path) -> Path:
    """Build the artifact of the checkout in a folder, from a copy in which much has been run."""
    tree = copy_checkout(folder / "source")
    for name in DIRT:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("left by a run\n", encoding="utf-8")
    run("ansible-galaxy", "collection", "build", "--output-path", folder, cwd=tree)
    return next(folder.glob("gpufleet-ollama-*.tar.gz"))


def install(artifact: Path, installed: Path) -> None:
    """Install an artifact below a folder, although the collection may be found elsewhere already."""
    run(
        "ansible-galaxy", "collection", "install", "--offline", "-p", installed, artifact,
        cwd=artifact.parent, ANSIBLE_COLLECTIONS_PATH=str(installed),
    )  # fmt: skip


def install_checkout(installed: Path) -> None:
    """What users get, installed anew below a folder."""
    shutil.rmtree(installed, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="gpufleet-artifact-") as name:
        install(build(Path(name)), installed)


def main() -> None:
    """Build, inspect, import, install, syntax check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", type=Path, metavar="FOLDER", help="build and install below this folder")
    folder = parser.parse_args().install
    if folder:
        install_checkout(folder.resolve())
    else:
        judge()


def judge() -> None:
    """Everything that is asked of an artifact."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-artifact-") as name:
        folder = Path(name)
        artifact = build(folder)
        print(f"{artifact.name}: {look_into(artifact)} files")

        settings = folder / "galaxy-importer.cfg"
        settings.write_text(IMPORTER_SETTINGS, encoding="utf-8")
        judged = run(
            "python", "-m", "galaxy_importer.main", artifact, cwd=folder, GALAXY_IMPORTER_CONFIG=str(settings)
        )
        complaints = [line for line in judged.splitlines() if "WARNING" in line or "ERROR" in line]
        if complaints:
            raise SystemExit("galaxy-importer:\n" + "\n".join(complaints))
        print("galaxy-importer: accepted without a warning")

        installed = folder / "installed"
        install(artifact, installed)
        inventory = folder / "inventory.ini"
        inventory.write_text("[ollama]\ngpu01\n", encoding="utf-8")
        playbooks = installed / "ansible_collections/gpufleet/ollama/playbooks"
        names = sorted(path.stem for path in playbooks.glob("*.yml"))
        if not names:
            raise SystemExit(f"the artifact was not installed: there is no playbook in {playbooks}")
        for playbook in names:
            run(
                "ansible-playbook", "--syntax-check", "-i", inventory, f"gpufleet.ollama.{playbook}",
                cwd=folder, ANSIBLE_COLLECTIONS_PATH=str(installed),
            )  # fmt: skip
        print(f"syntax of the installed playbooks: {', '.join(names)}")


if __name__ == "__main__":
    main()
