# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times the placement of 20 and 40 models on 1,000 hosts of 12 kinds, and prints what was placed and what was proven.

With --playbook also place.yml over as many described hosts.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import _collection
import fleet
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import table
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import demands_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import Found, read_fleet
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import Limits, place
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver
from planner import described, installed

KINDS = (
    [12],
    [16],
    [24],
    [24, 24],
    [32],
    [48],
    [48, 48],
    [80],
    [80, 80],
    [24] * 4,
    [48] * 4,
    [80] * 4,
)
# Larger ones fit on few of these hosts.
MOST_BYTES = 45 * 10**9
CONTEXTS = (4096, 8192, 16384, 32768)
# Models, most requests of each, most seconds of processor time, most MiB.
CASES = ((20, 60, 60, 1024), (20, 800, 60, 1024), (40, 400, 300, 1536))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--playbook", action="store_true", help="also the whole of place.yml")
    arguments = parser.parse_args()
    rows = [("MODELS", "REQUESTS", "s", "MiB", "PLANNER", "HOSTS", "MET", "PROVEN")]
    is_late = False
    for models, requests, most_seconds, most_mib in CASES:
        asked = demanded(models, requests, random.Random(arguments.seed))
        started = time.process_time()
        placement = placed(*asked, arguments.hosts)
        seconds = time.process_time() - started
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        is_late = is_late or seconds > most_seconds or mib > most_mib
        rows.append(
            (
                str(models),
                str(requests),
                f"{seconds:.0f}",
                str(mib),
                str(placement.planner_calls),
                str(len(placement.hosts)),
                f"{sum(not one.short_slots for one in placement.supplies)} of {models}",
                "yes" if placement.is_complete and not placement.gaps else "no",
            )
        )
    print("\n".join(table(rows, "rrrrrrll")))
    if arguments.playbook:
        for models, requests, most_seconds, most_mib in CASES:
            wall, seconds, mib = played(*demanded(models, requests, random.Random(arguments.seed)), arguments.hosts)
            # Its processes share two cores, and most of them work side by side.
            is_late = is_late or seconds > 2 * most_seconds or mib > most_mib
            print(
                f"place.yml, {models} models, up to {requests} requests: {wall:.0f} s, {seconds:.0f} s of the processors, "
                f"{mib} MiB in its largest process"
            )
    sys.exit("slower or larger than it may be" if is_late else 0)


def demanded(count, most_requests, chance):
    """So many models, some of them again under another name, and what is demanded of them."""
    known = [one for one in installed(_collection.DATA / "headers") if one["file_bytes"] < MOST_BYTES]
    models = chance.sample(known, min(count, len(known)))
    while len(models) < count:
        name = f"again{len(models)}:latest"
        models.append({**chance.choice(known), "name": name, "digest": f"sha256-{name}"})
    demand = [
        {
            "name": model["name"],
            "requests": chance.randint(4, most_requests),
            "context_length": min(chance.choice(CONTEXTS), model["context_length_trained"] or CONTEXTS[0]),
            "priority": chance.choice((0, 0, 1)),
        }
        for model in models
    ]
    return models, demand


def placed(models, demand, hosts):
    """A placement on so many hosts."""
    demands = demands_from_list(demand)
    names = frozenset(one.name for one in demands)
    found = {
        f"h{index:04}": Found({"gpu": described(KINDS[index % len(KINDS)]), "models": models, "version": "0.33.0"}, names)
        for index in range(hosts)
    }
    hosts_found = read_fleet(demands, found, {}, may_pull=True)
    return place(hosts_found, solver(), Limits(time.monotonic), survive=False)


def played(models, demand, hosts):
    """The same by the playbook: seconds on the clock and of the processors, and MiB of the largest process."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as folder:
        inventory = Path(folder, "inventory.json")
        kinds = {
            f"kind{number}": {
                "hosts": {f"h{index:04}": {} for index in range(number, hosts, len(KINDS))},
                "vars": {"ollama_plan_gpu": described(gpus)},
            }
            for number, gpus in enumerate(KINDS)
        }
        variables = {
            "ollama_plan_version": "0.33.0",
            "ollama_plan_model_descriptions": json.dumps(models),
            "gpufleet_demand": demand,
            "gpufleet_report_dir": folder,
        }
        inventory.write_text(json.dumps({"ollama": {"children": kinds, "vars": variables}}))
        command = [*fleet.ANSIBLE_PLAYBOOK, "-i", inventory, _collection.REPOSITORY / "playbooks" / "place.yml"]
        cost = fleet.run(command, {})
    return cost.wall_seconds, cost.cpu_seconds, cost.memory_bytes >> 20


if __name__ == "__main__":
    main()
