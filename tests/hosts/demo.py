# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: plan, apply and verify on a throwaway fleet, and see a second run change nothing.

python tests/hosts/demo.py [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import yaml
from engine import say
from fleet import CHECKOUT, Fleet, read_spec

FLEET = Fleet("demo")
REPORT = CHECKOUT / ".build" / "demo-report" / "report.html"
HOSTS = [sys.executable, str(Path(__file__).with_name("hosts.py"))]
SPEC = Path(__file__).with_name("demo.yml")
PLACEMENT = FLEET.folder / "placement.yml"
ASKED = "llama3.1:8b"
LIMIT = {"num_predict": 11}
DEMAND = {
    "gpufleet_demand": [
        {"name": ASKED, "requests": 4, "context_length": 8192},
        {"name": "gemma3:4b", "requests": 2},
        {"name": "llama3.2:3b", "requests": 2},
    ],
    "gpufleet_placement_pull": False,
    "gpufleet_placement_file": str(PLACEMENT),
}


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
    run([*HOSTS, "up", FLEET.name, "--spec", str(SPEC)])
    try:
        heading("1. The plan of every host, with its reasons. Nothing is touched")
        playbook("plan")
        heading("2. Apply and verify: drop-in, daemon-reload, restart, assertion")
        playbook("site")
        heading("Asked on the hosts themselves")
        before = show_services()
        heading("3. The same again: nothing changes, nothing restarts")
        playbook("site")
        if show_services() != before:
            sys.exit("A service is not what it was before the second run: this is a bug, please report it")
        heading("4. A demand for three models: which host holds which, and nginx in front of them")
        playbook("place", "--extra-vars", json.dumps(DEMAND))
        playbook("site", "--inventory", str(PLACEMENT), log="demo-site-placed")
        playbook("../tests/hosts/demo_router", "--inventory", str(PLACEMENT), log="demo-router")
        heading("Asked through nginx")
        ask_router()
    finally:
        if not keep:
            heading("Tidying up")
            run([*HOSTS, "down", FLEET.name])
    say(f"The fleet on one page: {os.path.relpath(REPORT, CHECKOUT)} (open it in a browser)")
    heading(f"Done after {time.monotonic() - started:.0f} s")
    print(epilogue(keep))


def show_services() -> list[str]:
    """Print and return what systemd and the kernel say of each host's Ollama."""
    command = (
        "pid=$(systemctl show ollama -p MainPID --value); "
        "systemctl show ollama -p MainPID -p NeedDaemonReload | tr '\\n' ' '; "
        "tr '\\0' '\\n' </proc/$pid/environ | grep ^OLLAMA_ | sort | tr '\\n' ' '"
    )
    said = []
    for host in read_spec(SPEC, FLEET.name).hosts:
        if host.ollama is False:
            continue
        ssh = ["ssh", "-F", str(FLEET.folder / "ssh_config"), host.name, command]
        answer = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout
        said.append(f"{host.name}: {answer}")
        print(said[-1], flush=True)
    return said


def ask_router() -> None:
    """Ask a model through the router, and print the answer."""
    router = read_inventory()["router"]["ollama_router_address"]
    url = f"http://{router}:11435/models/{ASKED}/api/generate"
    body = json.dumps({"model": ASKED, "prompt": "Which city is the capital?", "stream": False, "options": LIMIT})
    say(f"POST {url}")
    request = urllib.request.Request(url, body.encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = json.load(answer)
    print(f"{said['model']}: {said['response'].strip()}", flush=True)


def read_inventory() -> dict[str, dict[str, str]]:
    """The variables of each host of the fleet."""
    hosts: dict[str, dict[str, str]] = yaml.safe_load(FLEET.inventory.read_text())["all"]["hosts"]
    return hosts


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def playbook(name: str, *arguments: str, log: str = "") -> None:
    """Run a playbook and show what a reader looks for; all that Ansible says goes to a file."""
    log_file = CHECKOUT / ".build" / f"{log or f'demo-{name}'}.log"
    file_name = os.path.normpath(f"playbooks/{name}.yml")
    command = ["ansible-playbook", "--inventory", str(FLEET.inventory), *arguments, file_name]
    shown = [os.path.relpath(one, CHECKOUT) if os.path.isabs(one) else one for one in command]
    say(shlex.join(shown))
    say(f"(shortened; all of it: {os.path.relpath(log_file, CHECKOUT)})")
    program = str(Path(sys.executable).with_name(command[0]))
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    with open(log_file, "w") as file, start([program, *command[1:]], environment) as process:
        for line in shortened(copied(process.stdout or [], file)):
            print(line, flush=True)
    if process.returncode:
        sys.exit(f"{file_name} failed: see {log_file}")


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def copied(lines: Iterable[str], file: TextIO) -> Iterator[str]:
    for line in lines:
        file.write(line)
        yield line.rstrip("\n")


def shortened(lines: Iterable[str]) -> Iterator[str]:
    """Of a playbook's output: what changed or failed, what was to be shown, and the recap."""
    task, recap = "", False
    shown: list[str] | None = None  # the lines of a result that is being printed as JSON
    for line in lines:
        if shown is not None:
            shown.append(line)
            if line == "}":
                message = json.loads("{" + "\n".join(shown)).get("msg", [])
                yield from message if isinstance(message, list) else [message]
                shown = None
        elif line.startswith("TASK ["):
            task = line[len("TASK [") : line.rindex("]")].split(" : ")[-1]
        elif line.startswith("ok: [") and line.endswith("=> {"):
            shown = []
        elif line.startswith("changed: ["):
            yield f"    {line[len('changed: [') : -1]}: {task}"
        elif line.startswith(("fatal:", "[ERROR]")):
            yield f"    {task}: {line}"
        elif recap or line.startswith("PLAY RECAP"):
            recap = True
            yield line.replace("*", "")


def run(command: list[str]) -> None:
    result = subprocess.run(command, cwd=CHECKOUT, check=False)
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
