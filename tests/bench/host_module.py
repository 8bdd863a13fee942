# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what a reading of an unchanged host costs it: what is sent, and where its processor's time goes.

python tests/bench/host_module.py [--rounds 10] [--also CHECKOUT ...]

One host with a real systemd, a simulated GPU and two models, to which `site.yml` has been applied. Other checkouts are
measured in turn with this one, in the same run. Times are of the processor, the medians of all rounds; a busy machine
makes them longer all the same. The last line is for programs. Booting hosts needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _collection import REPOSITORY

sys.path[:0] = [str(REPOSITORY / "tests" / "hosts")]

import fleet as hosts  # noqa: E402  # the hosts' own programs are scripts beside each other, no package
import yaml  # noqa: E402
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import table  # noqa: E402

WHERE = Path(__file__).with_name("fleet_speed") / "where.py"
# As the role asks, for a host on which our drop-in sets no secret.
OPTIONS = {
    "secrets": {},
    "variables": ["OLLAMA_NUM_PARALLEL"],
    "first_models": ["llama3.2:3b"],
    "keep_headers": True,
}
# What Ansible does on the control node to send a module; it prints the program that is sent.
PACKS = """
import sys
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, module_loader
from ansible.template import Templar
init_plugin_loader()
found = module_loader.find_plugin_with_context("gpufleet.ollama.ollama_host_info")
packed = modify_module(
    module_name=found.resolved_fqcn, module_path=found.plugin_resolved_path, module_args={}, templar=Templar(DataLoader()),
    task_vars={"ansible_python_interpreter": "/usr/bin/python3"}, module_compression="ZIP_DEFLATED",
)
sys.stdout.buffer.write(packed.b_module_data)
"""
LOADS = ("Python", "Ansible", "loading")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="CHECKOUT")
    arguments = parser.parse_args()
    checkouts = [REPOSITORY, *arguments.also]
    sent = [packed(checkout) for checkout in checkouts]
    question = {
        "program": WHERE.read_text(),
        "archives": [re.search(rb"zip_data='([^']+)'", one)[1].decode() for one in sent],
        "options": OPTIONS,
        "rounds": arguments.rounds,
    }
    with applied_host() as fleet:
        (name,) = (host.name for host in fleet.hosts)
        answer = hosts.execute(fleet, name, ["python3", "-c", WHERE.read_text()], input=json.dumps(question))
    medians = [median_steps(rounds) for rounds in json.loads(answer)]
    rows = [("ms OF THE HOST'S PROCESSOR, ITS PROGRAMS'", *(checkout.name for checkout in checkouts))]
    for step in medians[0]:
        rows.append(
            (step, *(f"{own:.0f} + {programs:.0f}" for own, programs in (one[step] for one in medians)))
        )
    rows.append(("all", *(f"{sum(map(sum, one.values())):.0f}" for one in medians)))
    rows.append(("KiB sent", *(f"{len(one) / 1024:.0f}" for one in sent)))
    print("\n".join(table(rows, "l" + "r" * len(checkouts))))
    own = {step: cost for step, cost in medians[0].items() if step not in LOADS[:2]}
    print(
        f"host_own_ms={sum(cost[0] for cost in own.values()):.0f} host_loading_ms={medians[0]['loading'][0]:.0f}"
        f" host_programs_ms={sum(cost[1] for cost in own.values()):.0f}"
        f" host_all_ms={sum(map(sum, medians[0].values())):.0f} sent_kib={len(sent[0]) / 1024:.0f} load={os.getloadavg()[0]:.0f}"
    )


def packed(checkout: Path) -> bytes:
    """The program that Ansible sends to a host from a checkout that `make link` was run in."""
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(checkout / ".build" / "collections")}
    return subprocess.run(
        [sys.executable, "-c", PACKS], env=environment, stdout=subprocess.PIPE, check=True
    ).stdout


@contextlib.contextmanager
def applied_host() -> Iterator[hosts.Fleet]:
    """A host to which the plan was applied, so that nothing is left to change."""
    like = {"suite": "bookworm", "gpus": "rtx3060_12gb", "models": ["llama3.2:3b", "nomic-embed-text"]}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as spec:
        yaml.safe_dump({"hosts": {"gpu000": like}}, spec)
        spec.flush()
        made = hosts.read_spec(Path(spec.name), "host-module")
    hosts.up(made)
    try:
        site = REPOSITORY / "playbooks" / "site.yml"
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", made.inventory, site]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        yield made
    finally:
        hosts.down(made)


def median_steps(rounds: list[list[tuple[str, float, float]]]) -> dict[str, tuple[float, float]]:
    """Of each step what the module and its programs took, in ms."""
    names = [step for step, _own, _programs in rounds[0]]
    columns = [[{one[0]: one[1:] for one in steps}[name] for steps in rounds] for name in names]
    return {
        name: (statistics.median(one[0] for one in column), statistics.median(one[1] for one in column))
        for name, column in zip(names, columns)
    }


if __name__ == "__main__":
    main()
