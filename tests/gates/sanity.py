# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every test of `ansible-test sanity` over a copy of the checkout: `python tests/gates/sanity.py [ARGUMENT ...]`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from _tree import BIN, ROOT, copy_checkout

# What ansible-test would download, where its host cannot be reached: the pip of the interpreter's own
# ensurepip, brought to the version that ansible-test asks for from a wheel fetched beforehand.
BOOTSTRAP = """\
import ensurepip, subprocess, sys
ensurepip.bootstrap()
raise SystemExit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", {wheel!r}]))
"""


def _bootstrap_asked_for() -> tuple[str, str]:
    """The address and the pip version of the bootstrap script of the installed ansible-test."""
    package = next((ROOT / ".venv" / "lib").glob("python3*/site-packages/ansible_test"))
    setup = (package / "_util/target/setup/requirements.py").read_text(encoding="utf-8")
    pips = (package / "_internal/python_requirements.py").read_text(encoding="utf-8")
    address = re.search(r"'(https://[^']+get-pip-%s\.py)'", setup)
    version = re.search(r"pip='([\d.]+)'", pips)
    if address is None or version is None:
        raise SystemExit("this ansible-test bootstraps pip in a way that tests/gates/sanity.py does not know")
    return address.group(1) % version.group(1), version.group(1)


def provide_pip_bootstrap(home: Path) -> None:
    """Put pip's bootstrap script into ansible-test's cache where ansible-test cannot download it itself."""
    address, version = _bootstrap_asked_for()
    cached = home / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    if cached.exists():
        return
    try:
        with urllib.request.urlopen(address, timeout=20):
            return
    except (urllib.error.URLError, OSError) as error:
        print(f"{address} cannot be reached ({error}): bootstrapping pip {version} from the package index instead")
    wheels = home / "wheels"
    subprocess.run(
        [BIN / "python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, f"pip=={version}"],
        check=True,
    )
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(BOOTSTRAP.format(wheel=str(next(wheels.glob(f"pip-{version}-*.whl")))), encoding="utf-8")


def link_working_interpreters(folder: Path) -> None:
    """Link every Python 3 that really runs here, since a version manager's shim may exist and refuse to run."""
    folder.mkdir()
    searched = [Path(entry) for entry in os.get_exec_path()]
    for shims in [entry for entry in searched if entry.name == "shims"]:
        searched += (shims.parent / "versions").glob("*/bin")
    for minor in range(8, 15):
        name = f"python3.{minor}"
        for candidate in [entry / name for entry in searched if (entry / name).exists()]:
            runs = subprocess.run([candidate, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0
            if runs:
                (folder / name).symlink_to(candidate)
                break


def main() -> int:
    """Copy, prepare, run."""
    home = ROOT / ".build" / "ansible-test-home"
    home.mkdir(parents=True, exist_ok=True)
    provide_pip_bootstrap(home)
    with tempfile.TemporaryDirectory(prefix="gpufleet-sanity-") as folder:
        tree = copy_checkout(Path(folder))
        interpreters = Path(folder) / "interpreters"
        link_working_interpreters(interpreters)
        path = os.pathsep.join([str(interpreters), str(BIN), "/usr/bin", "/bin"])
        environment = {**os.environ, "HOME": str(home), "PATH": path}
        command = [BIN / "ansible-test", "sanity", "--requirements", "--color", "no", *sys.argv[1:]]
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
