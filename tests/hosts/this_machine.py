# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this machine itself a test host, for a runner of CI that is thrown away: the stand-in for Ollama, a GPU, two models.

sudo GPUFLEET_MAY_CHANGE_THIS_MACHINE=yes .venv/bin/python tests/hosts/this_machine.py

It writes below /usr and /etc and starts a service, so it does nothing without that variable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fleet import CHECKOUT, MODELS_ON_HOST, build_programs, gpu_profile

GPUS, MODELS = "rtx3090_x2", ("qwen2.5:7b", "gemma3:4b")
ALLOWED = "GPUFLEET_MAY_CHANGE_THIS_MACHINE"


def main() -> None:
    if os.environ.get(ALLOWED) != "yes" or os.geteuid() != 0:
        sys.exit(f"this installs a service on this very machine: only as root, and with {ALLOWED}=yes")
    programs = build_programs()
    put(programs.ollama, "/usr/local/bin/ollama")
    put(programs.nvml, "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
    Path("/etc/standin-ollama.json").write_text("{}", encoding="utf-8")
    Path("/etc/simulated-nvml.json").write_bytes(gpu_profile(GPUS))
    Path("/run/simulated-nvml").mkdir(exist_ok=True)
    Path("/run/simulated-nvml").chmod(0o1777)
    store = [
        sys.executable,
        str(CHECKOUT / "tests" / "model_store" / "store.py"),
        "--into",
        MODELS_ON_HOST,
        *MODELS,
    ]
    for command in (store, ["sh", str(CHECKOUT / "tests" / "hosts" / "install.sh")]):
        subprocess.run(command, check=True)
    subprocess.run(["chown", "-R", "ollama:ollama", "/usr/share/ollama"], check=True)
    subprocess.run(["systemctl", "restart", "ollama"], check=True)


def put(source: Path, target: str) -> None:
    """Copy a program to its place."""
    shutil.copyfile(source, target)
    Path(target).chmod(0o755)


if __name__ == "__main__":
    main()
