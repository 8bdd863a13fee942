# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: plan, apply and verify on a throwaway fleet, and see a second run change nothing.

python tests/hosts/demo.py [--keep]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from engine import say
from fleet import CHECKOUT, Fleet

FLEET = Fleet("demo")
HOSTS = [sys.executable, str(Path(__file__).with_name("hosts.py"))]
SPEC = str(Path(__file__).with_name("demo.yml"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="leave the hosts up, to look around in them")
    keep = parser.parse_args().keep
    started = time.monotonic()

    heading("A fleet of three: one 12 GB card, two 24 GB cards, one 80 GB data-centre card")
    say("Each host boots a real systemd in a container. The cards and Ollama's engine are simulated;")
    say("the unit file, the model store on disk and everything this collection does are real.")
    run([*HOSTS, "up", FLEET.name, "--spec", SPEC])
    try:
        heading("1. The plan of every host, with its reasons. Nothing is touched")
        playbook("plan")
        heading("2. Apply and verify: drop-in, daemon-reload, restart, assertion")
        playbook("site")
        heading("3. The same again: nothing changes, nothing restarts")
        playbook("site")
    finally:
        if not keep:
            heading("Tidying up")
            run([*HOSTS, "down", FLEET.name])
    heading(f"Done after {time.monotonic() - started:.0f} s")
    print(epilogue(keep))


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def playbook(name: str) -> None:
    # Not the sentence of every task on every host: what changed, what failed, and what was to be shown.
    environment = {**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}
    command = ["ansible-playbook", "--inventory", str(FLEET.inventory), f"playbooks/{name}.yml"]
    say(" ".join([*command[:2], os.path.relpath(FLEET.inventory, CHECKOUT), command[3]]))
    run([str(Path(sys.executable).with_name(command[0])), *command[1:]], environment)


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False)
    if result.returncode:
        sys.exit(result.returncode)


def epilogue(keep: bool) -> str:
    own = """\
On your own hosts (ssh, root or become, Python 3.9+; nothing else is needed there):

  1. inventory.yml
       ollama:
         hosts:
           gpu1.example.org:
           gpu2.example.org:
             ollama_plan_num_parallel: 3     # yours wins over the computed value, and is checked
         vars:
           ansible_become: true

  2. source .venv/bin/activate && make link
  3. ansible-playbook -i inventory.yml playbooks/plan.yml                  # shows, touches nothing
  4. ansible-playbook -i inventory.yml playbooks/site.yml --check --diff   # what would change
  5. ansible-playbook -i inventory.yml playbooks/site.yml
"""
    if not keep:
        return own + "\nTo look around in the demo's hosts: make demo KEEP=1"
    folder = os.path.relpath(FLEET.folder, CHECKOUT)
    return own + (
        f"\nThe demo's hosts are up: ssh -F {folder}/ssh_config gaming-12gb"
        f"\nInventory: {folder}/inventory.yml. To remove them: make hosts-down"
    )


if __name__ == "__main__":
    main()
